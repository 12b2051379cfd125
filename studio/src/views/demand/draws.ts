/** The points of the grid: ten draws a page, the first page those of the precomputed picture. */
import { middleOf, unitOf } from "../../lib/latent";
import { normal } from "../../lib/rng";
import type { ModelFacts } from "../../lib/types";

export const COLUMNS = 10;

/** A point of the grid, and the seed that it is drawn from; null: given with the bundle. */
export interface Draw {
  z: Float32Array;
  seed: number | null;
}

/** z ~ N(0, I) · temperature by a seed, as `StudioState.reset` has it. */
export function drawOf(model: ModelFacts, seed: number, temperature: number): Float32Array {
  return normal(seed, model.latent_dim).map((value, axis) => {
    const { middle, sigma } = unitOf(model, axis);
    return middle + sigma * temperature * value;
  });
}

/** A point brought nearer to the middle, or farther from it. */
export function tempered(model: ModelFacts, z: readonly number[], temperature: number): Float32Array {
  const middle = middleOf(model);
  return middle.map((m, axis) => m + temperature * ((z[axis] ?? m) - m));
}

/**
 * `count` points of page `page`, from 0. `given` are the points of the precomputed picture, which come first; a page without
 * them, or what goes beyond them, are the draws of seeds 1, 2, 3, …, `count` a page.
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
