/** Draws the map at most once per frame: two cached layers, and the moving parts on top. */
import type { Ellipse } from "./frame";
import { drawEllipse, drawLoupe, drawMarked, drawPoint } from "./overlay";
import { type Dots, drawCloud, drawGround, type Palette, type Tiles } from "./scene";
import { carriedOver, inSight, type Point, type View } from "./view";

export interface Scene {
  view: View;
  palette: Palette;
  dots: Dots | null;
  tiles: Tiles | null;
  ellipse: Ellipse | null;
  /** The dot whose image is displayed. */
  marked: { at: Point; label: number } | null;
  at: Point;
  pinned: boolean;
  /** The image decoded from the point; null: not available yet. */
  picture: HTMLCanvasElement | null;
}

const CHEAP = 7; // ms; a slower cloud of dots is not redrawn while the view moves
const SETTLED = 120; // ms after the last change of the view until it counts as at rest

export class Painter {
  private readonly ground = document.createElement("canvas");
  private readonly cloud = document.createElement("canvas");
  private made: View | null = null;
  private groundOld = true;
  private cloudOld = true;
  private cost = 0;
  private moving = 0; // timer
  private frame = 0;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly scene: () => Scene,
  ) {}

  /** Request a redraw of a layer: "ground" (tiles), "cloud" (dots and rings), or "top" only. */
  ask(what: "top" | "ground" | "cloud"): void {
    if (what === "ground") this.groundOld = true;
    if (what === "cloud") this.cloudOld = true;
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.draw());
  }

  /** Report a change of the view; more may follow. */
  moves(): void {
    clearTimeout(this.moving);
    this.moving = window.setTimeout(() => {
      this.moving = 0;
      this.ask("top");
    }, SETTLED);
    this.ask("top");
  }

  stop(): void {
    clearTimeout(this.moving);
    cancelAnimationFrame(this.frame);
    this.frame = -1;
  }

  private draw(): void {
    this.frame = 0;
    const scene = this.scene();
    const { view, palette } = scene;
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    const context = this.sized(view, ratio).getContext("2d");
    if (!context || view.width < 2) return;
    this.layers(scene, ratio);
    const [x, y, width, height] = this.made ? carriedOver(this.made, view) : [0, 0, view.width, view.height];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingEnabled = true;
    context.fillStyle = palette.paper;
    if (width !== view.width || x !== 0 || y !== 0) context.fillRect(0, 0, view.width, view.height);
    context.drawImage(this.ground, x, y, width, height);
    context.drawImage(this.cloud, x, y, width, height);
    if (scene.ellipse) drawEllipse(context, view, scene.ellipse, palette);
    if (scene.marked) drawMarked(context, view, scene.marked.at, scene.marked.label, palette);
    if (!inSight(view, scene.at)) return;
    drawPoint(context, view, scene.at, scene.pinned, palette);
    if (scene.picture) drawLoupe(context, view, scene.at, scene.picture, palette);
  }

  private sized(view: View, ratio: number): HTMLCanvasElement {
    const [width, height] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.made = null;
    }
    return this.canvas;
  }

  private layers(scene: Scene, ratio: number): void {
    const { view, palette } = scene;
    const same = this.made === view;
    if (!same && this.made && this.moving !== 0 && this.cost > CHEAP) return;
    if (!same || this.groundOld) drawGround(this.ground, view, ratio, palette, scene.tiles);
    if (!same || this.cloudOld) {
      const began = performance.now();
      drawCloud(this.cloud, view, ratio, palette, scene.dots);
      this.cost = performance.now() - began;
    }
    this.made = view;
    this.groundOld = this.cloudOld = false;
  }
}
