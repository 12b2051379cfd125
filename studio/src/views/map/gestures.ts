/** Recognition of gestures on the map: drag, click, hover, pan and zoom. Positions are CSS pixels of the canvas. */
import type { Point } from "./view";

export interface Gestures {
  /** Move the point: called on press and on every move. */
  drag(at: Point): void;
  dragged(): void;
  /** Pressed and released at one position. */
  click(at: Point): void;
  /** A second finger shows that the first one was not dragging: restore the point. */
  undrag(): void;
  hover(at: Point | null): void;
  pan(dx: number, dy: number): void;
  zoom(at: Point, factor: number): void;
}

/** The members of pointer events that are used, so that tests can create them. */
export type Pressed = Pick<
  PointerEvent,
  "pointerId" | "pointerType" | "button" | "shiftKey" | "clientX" | "clientY" | "timeStamp"
>;

const STILL = 4; // maximum movement of a click in pixels
const SECOND_FINGER = 350; // ms within which a second finger cancels a drag

/** Pixels per unit of deltaMode: pixels, lines, pages. */
const LINES = [1, 30, 300];

type Mode = "none" | "drag" | "pan" | "pinch";

export class GestureReader {
  private mode: Mode = "none";
  private fingers = new Map<number, Point>();
  private begun: { at: Point; time: number } = { at: [0, 0], time: 0 };
  private moved = false;

  constructor(
    private readonly on: Gestures,
    private readonly origin: () => { left: number; top: number },
  ) {}

  get dragging(): boolean {
    return this.mode === "drag";
  }

  private at(event: Pick<Pressed, "clientX" | "clientY">): Point {
    const { left, top } = this.origin();
    return [event.clientX - left, event.clientY - top];
  }

  /** Handle a press; returns whether to capture the pointer. */
  down(event: Pressed): boolean {
    if (event.pointerType === "mouse" && event.button > 1) return false;
    const at = this.at(event);
    this.fingers.set(event.pointerId, at);
    if (this.fingers.size === 2) {
      const brief = event.timeStamp - this.begun.time < SECOND_FINGER;
      if (this.mode === "drag") {
        if (brief) this.on.undrag();
        this.on.dragged();
      }
      this.mode = "pinch";
    } else if (this.fingers.size === 1) {
      this.begun = { at, time: event.timeStamp };
      this.moved = false;
      this.mode = event.shiftKey || event.button === 1 ? "pan" : "drag";
      this.on.hover(null);
      if (this.mode === "drag") this.on.drag(at);
    }
    return true;
  }

  move(event: Pressed): void {
    const at = this.at(event);
    const before = this.fingers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse" && this.mode === "none") this.on.hover(at);
      return;
    }
    if (this.mode === "pinch") {
      this.pinch(event.pointerId, at);
      return;
    }
    this.fingers.set(event.pointerId, at);
    if (this.mode === "pan") this.on.pan(at[0] - before[0], at[1] - before[1]);
    if (Math.hypot(at[0] - this.begun.at[0], at[1] - this.begun.at[1]) > STILL) this.moved = true;
    if (this.mode === "drag" && this.moved) this.on.drag(at);
  }

  private pinch(finger: number, at: Point): void {
    const before = [...this.fingers.values()];
    this.fingers.set(finger, at);
    const now = [...this.fingers.values()];
    const [[a, b], [c, d]] = [before, now];
    if (!a || !b || !c || !d) return;
    const middle = (p: Point, q: Point): Point => [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2];
    const [from, to] = [middle(a, b), middle(c, d)];
    this.on.pan(to[0] - from[0], to[1] - from[1]);
    const apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (apart > 1) this.on.zoom(to, Math.hypot(c[0] - d[0], c[1] - d[1]) / apart);
  }

  up(event: Pressed): void {
    if (!this.fingers.delete(event.pointerId)) return;
    if (this.mode === "drag") {
      this.on.dragged();
      if (!this.moved) this.on.click(this.begun.at);
    }
    if (this.mode !== "pinch" || this.fingers.size === 0) this.mode = "none";
  }

  /** The browser cancelled the pointer: this is not a click. */
  cancel(event: Pressed): void {
    if (!this.fingers.delete(event.pointerId)) return;
    if (this.mode === "drag") this.on.dragged();
    if (this.fingers.size === 0) this.mode = "none";
  }

  leave(): void {
    if (this.fingers.size === 0) this.on.hover(null);
  }

  wheel(event: Pick<WheelEvent, "deltaY" | "deltaMode" | "clientX" | "clientY">): void {
    const pixels = event.deltaY * (LINES[event.deltaMode] ?? 1);
    this.on.hover(null);
    this.on.zoom(this.at(event), Math.exp(-Math.max(-240, Math.min(240, pixels)) / 400));
  }
}
