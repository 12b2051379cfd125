/** Whether the training images reach to a place of the map, judged by the encoded test images, and what is said where not. */
import { FAR } from "../../lib/state.svelte";
import { type Grid, nearest } from "./nearest";
import type { Point } from "./view";

const NEAR = 0.25;
const GAP = 0.5;
/** With fewer dots, a gap between them says nothing. */
const ENOUGH = 1000;

export interface Support {
  outside: boolean;
  /** One line; "" where images lie. */
  line: string;
}

export function shareBeyond(places: Float32Array, radius: number): number {
  let beyond = 0;
  for (let i = 0; i < places.length; i += 2) if (Math.hypot(places[i] ?? 0, places[i + 1] ?? 0) > radius) beyond += 1;
  return places.length > 0 ? beyond / (places.length / 2) : 0;
}

function percent(share: number): string {
  return share < 0.001 ? "less than 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

export function supportAt(place: Point, grid: Grid | null): Support {
  const radius = Math.hypot(place[0], place[1]);
  const dots = grid ? grid.places.length / 2 : 0;
  if (radius > FAR) {
    const near = grid !== null && nearest(grid, place, NEAR) !== null;
    const line = near
      ? `Outside ${FAR} σ: almost no training image lies here (${percent(shareBeyond(grid.places, radius))} so far out).`
      : `Outside ${FAR} σ: no training image lies here.`;
    return { outside: true, line };
  }
  if (grid !== null && dots >= ENOUGH && nearest(grid, place, GAP) === null) {
    return { outside: true, line: "A gap: no training image lies here." };
  }
  return { outside: false, line: "" };
}
