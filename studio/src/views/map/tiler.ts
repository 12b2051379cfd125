/** Decodes the background tiles onto one canvas in small batches; a newer job replaces an older one. */
import type { Channel } from "../../lib/engine/engine";
import { repeated } from "../../lib/latent";
import type { Kind, Shape } from "../../lib/types";
import { apart, nextSlice, outward, type Plan, placeOfTile, SIDE } from "./tiles";
import type { Point } from "./view";

export interface TileJob {
  kind: Kind;
  /** Key of everything but z that the tiles depend on: model, label and axes. */
  of: string;
  plan: Plan;
  /** K weights of the label, or null. */
  label: Float32Array | null;
  /** z at the centre of the plane; sets the directions that the map does not show. */
  held: Float32Array;
  zAt: (place: Point) => Float32Array;
}

const GAP = 0.08; // gap between tiles, relative to the longer side of an image
const SAME = 0.01; // maximum difference of z that causes no visible change

/** RGBA of a tile. A grey image becomes ink: its contrast with the background is the opacity. Colour images do not change. */
export function ink(pixels: Float32Array, index: number, [C, H, W]: Shape, inverted: boolean): Uint8ClampedArray<ArrayBuffer> {
  const out = new Uint8ClampedArray(4 * H * W);
  const plane = H * W;
  const from = index * C * plane;
  for (let i = 0; i < plane; i++) {
    const value = pixels[from + i] ?? 0;
    if (C === 3) {
      out[4 * i] = 255 * value;
      out[4 * i + 1] = 255 * (pixels[from + plane + i] ?? 0);
      out[4 * i + 2] = 255 * (pixels[from + 2 * plane + i] ?? 0);
    }
    out[4 * i + 3] = C === 3 ? 255 : 255 * (inverted ? 1 - value : value);
  }
  return out;
}

export class Tiler {
  readonly canvas = document.createElement("canvas");
  /** Positions of the tiles on the canvas; null: no tiles. */
  plan: Plan | null = null;
  paused = false;
  /** Distance between tiles in pixels; tiles are square even if the images are not. */
  private readonly cell: number;
  private job: TileJob | null = null;
  private begun = 0; // number of jobs started
  private colour = "";
  private wake: (() => void) | null = null;

  constructor(
    private readonly channel: Channel,
    private readonly shape: Shape,
    private readonly drawn: () => void,
  ) {
    this.cell = Math.ceil(Math.max(shape[1], shape[2]) * (1 + GAP));
    this.canvas.width = this.canvas.height = SIDE * this.cell;
  }

  /** Start a job, unless its tiles are already there or being decoded. */
  ask(job: TileJob): void {
    const now = this.job;
    if (now && now.of === job.of && now.plan === job.plan && apart(now.held, job.held) < SAME) return;
    this.job = job;
    if (this.plan !== job.plan || now?.of !== job.of) this.clear();
    this.plan = job.plan;
    void this.work(job, ++this.begun);
  }

  stop(): void {
    this.begun += 1;
    this.job = null;
    this.plan = null;
    this.resume();
  }

  resume(): void {
    this.paused = false;
    this.wake?.();
    this.wake = null;
  }

  /** Set the colour of the ink, for existing and future tiles. */
  tint(colour: string): void {
    this.colour = colour;
    if (this.shape[0] === 3) return;
    const context = this.canvas.getContext("2d");
    if (context) this.wash(context, 0, 0, this.canvas.width, this.canvas.height);
  }

  private wash(context: CanvasRenderingContext2D, x: number, y: number, width: number, height: number): void {
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.globalCompositeOperation = "source-in";
    context.fillStyle = this.colour;
    context.fillRect(x, y, width, height);
    context.restore();
  }

  private clear(): void {
    this.canvas.getContext("2d")?.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  private async work(job: TileJob, turn: number): Promise<void> {
    const order = outward();
    let size = 4;
    let inverted: boolean | null = null;
    for (let done = 0; done < order.length; ) {
      if (this.paused) await new Promise<void>((resolve) => (this.wake = resolve));
      if (turn !== this.begun) return;
      const tiles = order.slice(done, done + size);
      const started = performance.now();
      const decoded = await this.channel.decode(job.kind, ...batch(job, tiles)).catch(() => null);
      if (decoded === null || turn !== this.begun) return;
      inverted ??= mean(decoded.pixels) > 0.5;
      this.put(decoded.pixels, tiles, inverted);
      this.drawn();
      done += tiles.length;
      size = nextSlice(tiles.length, performance.now() - started);
    }
  }

  private put(pixels: Float32Array, tiles: number[], inverted: boolean): void {
    const [C, H, W] = this.shape;
    const context = this.canvas.getContext("2d");
    if (!context) return;
    tiles.forEach((tile, index) => {
      const x = (tile % SIDE) * this.cell + Math.floor((this.cell - W) / 2);
      const y = Math.floor(tile / SIDE) * this.cell + Math.floor((this.cell - H) / 2);
      context.putImageData(new ImageData(ink(pixels, index, this.shape, inverted), W, H), x, y);
      if (C !== 3) this.wash(context, x, y, W, H);
    });
  }
}

function batch(job: TileJob, tiles: number[]): [Float32Array, Float32Array | null] {
  const d = job.held.length;
  const z = new Float32Array(tiles.length * d);
  tiles.forEach((tile, row) => z.set(job.zAt(placeOfTile(job.plan, tile)), row * d));
  return [z, job.label && repeated(job.label, tiles.length)];
}

function mean(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return values.length > 0 ? sum / values.length : 0;
}
