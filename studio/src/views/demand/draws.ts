/** The points of the grid: ten per page; those on the first page are those of the precomputed picture. */
import { drawOf, middleOf } from "../../lib/latent";
import type { ModelFacts } from "../../lib/types";

export const COLUMNS = 10;

/** A point of the grid and its seed; null: from the bundle. */
export interface Draw {
  z: Float32Array;
  seed: number | null;
}

/** Scale a point's offset from the centre by the temperature. */
export function tempered(model: ModelFacts, z: readonly number[], temperature: number): Float32Array {
  const middle = middleOf(model);
  return middle.map((m, axis) => m + temperature * ((z[axis] ?? m) - m));
}

/**
 * The `count` points of page `page`, counted from 0. The points of the precomputed picture (`given`) come first; the others are
 * drawn with the seeds 1, 2, 3, …
 */
export function pageOfDraws(
  model: ModelFacts,
  given: readonly (readonly number[])[],
  page: number,
  count: number,
  temperature: number,
): Draw[] {
  const known = given.filter((z) => z.length === model.latent_dim);
  return Array.from({ length: count }, (_, at) => {
    const place = page * count + at;
    const z = known[place];
    if (z) return { z: tempered(model, z, temperature), seed: null };
    const seed = place - known.length + 1;
    return { z: drawOf(model, seed, temperature), seed };
  });
}
