/** Layout of the background tiles: their positions, the order of decoding, and the batch size. */
import { toPlane, type Point, type View, zoomOf } from "./view";

export const SIDE = 15;
const TARGET = 24; // ms per batch
const CELL = 0.4; // σ per tile when the whole map is shown

/** SIDE × SIDE square cells; row 0 is the top one. */
export interface Plan {
  /** σ from one tile to the next. */
  cell: number;
  /** The middle tile is at `cell` times these integers, so that small movements of the view change nothing. */
  middle: readonly [number, number];
}

/** The plan for a view; the size of the tiles halves each time the zoom doubles. */
export function planFor(view: View): Plan {
  const level = Math.min(4, Math.max(0, Math.floor(Math.log2(zoomOf(view)) + 1e-9)));
  const cell = CELL / 2 ** level;
  if (level === 0) return { cell, middle: [0, 0] };
  const [u, v] = toPlane(view, [view.width / 2, view.height / 2]);
  return { cell, middle: [Math.round(u / cell), Math.round(v / cell)] };
}

/** Whether `plan` is still suitable for `view`: same tile size, and at most two tiles away. */
export function serves(plan: Plan, view: View): boolean {
  const wanted = planFor(view);
  return (
    wanted.cell === plan.cell &&
    Math.abs(wanted.middle[0] - plan.middle[0]) <= 2 &&
    Math.abs(wanted.middle[1] - plan.middle[1]) <= 2
  );
}

export function placeOfTile(plan: Plan, tile: number): Point {
  const half = (SIDE - 1) / 2;
  const [column, row] = [tile % SIDE, Math.floor(tile / SIDE)];
  return [(plan.middle[0] + column - half) * plan.cell, (plan.middle[1] + half - row) * plan.cell];
}

/** The corners of the area covered by the tiles. */
export function cornersOf(plan: Plan): { left: number; top: number; right: number; bottom: number } {
  const [u, v] = [plan.middle[0] * plan.cell, plan.middle[1] * plan.cell];
  const half = (SIDE / 2) * plan.cell;
  return { left: u - half, top: v + half, right: u + half, bottom: v - half };
}

/** Tiles from the centre outwards, so that the first batches cover the region with most images. */
export function outward(): number[] {
  const half = (SIDE - 1) / 2;
  const from = (tile: number): number => (tile % SIDE - half) ** 2 + (Math.floor(tile / SIDE) - half) ** 2;
  return Array.from({ length: SIDE * SIDE }, (_, tile) => tile).sort((a, b) => from(a) - from(b) || a - b);
}

/** Size of the next batch, given the time of the last one: about `TARGET` ms, so that a drag never waits long. */
export function nextSlice(size: number, took: number): number {
  const ideal = Math.floor((size * TARGET) / Math.max(took, 0.5));
  return Math.max(1, Math.min(32, 2 * size, ideal));
}

/** Largest absolute difference of two points. */
export function apart(a: Float32Array, b: Float32Array): number {
  let most = 0;
  for (let axis = 0; axis < a.length; axis++) most = Math.max(most, Math.abs((a[axis] ?? 0) - (b[axis] ?? 0)));
  return most;
}
