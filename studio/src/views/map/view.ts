/** The visible part of the plane. The plane is in units of σ with the second axis upwards, the screen in CSS pixels. */

export type Point = readonly [number, number];

export interface View {
  /** Point of the plane at the centre of the canvas. */
  centre: Point;
  /** Pixels per σ. */
  scale: number;
  width: number;
  height: number;
}

/** Distance in σ from the centre to the nearest edge of the whole map. */
const EXTENT = 3.4;
const CLOSEST = 24;
const FARTHEST = 0.5;
const FURTHEST_CENTRE = 6;

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

/** Pixels per σ when the whole map is shown. */
function wholeScale(width: number, height: number): number {
  return Math.max(1, Math.min(width, height)) / (2 * EXTENT);
}

export function whole(width: number, height: number): View {
  return { centre: [0, 0], scale: wholeScale(width, height), width, height };
}

/** Zoom factor relative to the whole map. */
export function zoomOf(view: View): number {
  return view.scale / wholeScale(view.width, view.height);
}

/** The same part of the plane on a canvas of another size. */
export function resized(view: View, width: number, height: number): View {
  return { centre: view.centre, scale: zoomOf(view) * wholeScale(width, height), width, height };
}

export function toScreen(view: View, [u, v]: Point): Point {
  return [
    view.width / 2 + (u - view.centre[0]) * view.scale,
    view.height / 2 - (v - view.centre[1]) * view.scale,
  ];
}

export function toPlane(view: View, [x, y]: Point): Point {
  return [
    view.centre[0] + (x - view.width / 2) / view.scale,
    view.centre[1] - (y - view.height / 2) / view.scale,
  ];
}

/** Whether the mark at a position is on the canvas, at least in part. */
export function inSight(view: View, place: Point): boolean {
  const [x, y] = toScreen(view, place);
  const near = 12;
  return x > -near && y > -near && x < view.width + near && y < view.height + near;
}

function within(view: View): View {
  const [u, v] = view.centre;
  const centre: Point = [
    clamp(u, -FURTHEST_CENTRE, FURTHEST_CENTRE),
    clamp(v, -FURTHEST_CENTRE, FURTHEST_CENTRE),
  ];
  return { ...view, centre };
}

/** Zoom by `factor`; the point under the pixel `at` stays there. */
export function zoomed(view: View, at: Point, factor: number): View {
  const full = wholeScale(view.width, view.height);
  const scale = clamp(view.scale * factor, full * FARTHEST, full * CLOSEST);
  const [u, v] = toPlane(view, at);
  const moved: Point = [u - (at[0] - view.width / 2) / scale, v + (at[1] - view.height / 2) / scale];
  return within({ ...view, scale, centre: moved });
}

/** Pan by (dx, dy) pixels. */
export function panned(view: View, dx: number, dy: number): View {
  return within({ ...view, centre: [view.centre[0] - dx / view.scale, view.centre[1] + dy / view.scale] });
}

/** Where to draw an image of the view `then` in the view `now`: x, y, width, height. */
export function carriedOver(then: View, now: View): [number, number, number, number] {
  const ratio = now.scale / then.scale;
  const [x, y] = toScreen(now, toPlane(then, [0, 0]));
  return [x, y, then.width * ratio, then.height * ratio];
}
