/** Whether images are encoded near a position of the map, estimated from the encoded test images, and a message if not. */
import { FAR } from "../../lib/state.svelte";
import { type Grid, nearest } from "./nearest";
import type { Point } from "./view";

const NEAR = 0.25;
const GAP = 0.5;
/** Minimum number of dots for a gap between them to be meaningful. */
const ENOUGH = 1000;

export interface Support {
  outside: boolean;
  /** Message in one line; "" where images are encoded. */
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
      ? `Outside ${FAR} σ: few images are encoded here (${percent(shareBeyond(grid.places, radius))} this far out).`
      : `Outside ${FAR} σ: no image is encoded near this point.`;
    return { outside: true, line };
  }
  if (grid !== null && dots >= ENOUGH && nearest(grid, place, GAP) === null) {
    return { outside: true, line: "Gap: no image is encoded near this point." };
  }
  return { outside: false, line: "" };
}
