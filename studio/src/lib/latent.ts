/** Latent points: scale of the axes, one-hot labels, and the projection onto the map. */
import { normal } from "./rng";
import type { ModelFacts } from "./types";

export type MapAxes = [number, number] | "principal";

/** Centre and σ of an axis: 0 and 1 for the prior N(0, I); for an autoencoder, which has no prior, those of its codes. */
export function unitOf(model: ModelFacts, axis: number): { middle: number; sigma: number } {
  if (model.stochastic) return { middle: 0, sigma: 1 };
  return { middle: model.axes.mean[axis] ?? 0, sigma: model.axes.deviation[axis] || 1 };
}

/** The latent point at the centre of all axes, d. */
export function middleOf(model: ModelFacts): Float32Array {
  return Float32Array.from({ length: model.latent_dim }, (_, axis) => unitOf(model, axis).middle);
}

/** z ~ N(0, I) · temperature from a seed, on the scale of the axes. */
export function drawOf(model: ModelFacts, seed: number, temperature: number): Float32Array {
  return normal(seed, model.latent_dim).map((value, axis) => {
    const { middle, sigma } = unitOf(model, axis);
    return middle + sigma * temperature * value;
  });
}

/** The two axes of highest rate; the principal plane if the model has one axis, or there is no model yet. */
export function firstAxes(model: ModelFacts | undefined): MapAxes {
  const [first, second] = model?.order ?? [];
  return first !== undefined && second !== undefined ? [first, second] : "principal";
}

/** A row of K weights for each label, one-hot. */
export function oneHotRows(labels: readonly number[], classes: number): Float32Array {
  const rows = new Float32Array(labels.length * classes);
  labels.forEach((label, row) => (rows[row * classes + label] = 1));
  return rows;
}

/** `count` rows of K weights, each one-hot for `label`; null if the model takes no labels. */
export function oneHot(model: ModelFacts, classes: number, label: number, count = 1): Float32Array | null {
  return model.conditional ? oneHotRows(Array.from({ length: count }, () => label), classes) : null;
}

/** The same point `count` times, count×d. */
export function repeated(z: Float32Array, count: number): Float32Array {
  const rows = new Float32Array(count * z.length);
  for (let row = 0; row < count; row++) rows.set(z, row * z.length);
  return rows;
}

/** The projection of a point onto the map, in latent units: its values on two axes, or on two principal components. */
export function onMap(model: ModelFacts, axes: MapAxes, z: Float32Array): [number, number] {
  if (axes !== "principal") return [z[axes[0]] ?? 0, z[axes[1]] ?? 0];
  const { mean, components } = model.principal;
  const along = (which: 0 | 1): number => {
    let sum = 0;
    for (let axis = 0; axis < z.length; axis++) sum += ((z[axis] ?? 0) - (mean[axis] ?? 0)) * (components[which][axis] ?? 0);
    return sum;
  };
  return [along(0), along(1)];
}

/** Move `z` so that its projection onto the map is `to`; directions orthogonal to the map do not change. */
export function movedTo(model: ModelFacts, axes: MapAxes, z: Float32Array, to: [number, number]): Float32Array {
  const moved = z.slice();
  if (axes !== "principal") {
    moved[axes[0]] = to[0];
    moved[axes[1]] = to[1];
    return moved;
  }
  const at = onMap(model, axes, z);
  for (const which of [0, 1] as const) {
    const step = to[which] - at[which];
    const component = model.principal.components[which];
    for (let axis = 0; axis < z.length; axis++) moved[axis] = (moved[axis] ?? 0) + step * (component[axis] ?? 0);
  }
  return moved;
}

/** Distance in σ of a point from the centre of the latent space. */
export function distance(model: ModelFacts, z: Float32Array): number {
  return Math.hypot(
    ...Array.from(z, (value, axis) => {
      const { middle, sigma } = unitOf(model, axis);
      return (value - middle) / sigma;
    }),
  );
}

/** σ along a principal component: 1 for a prior; for an autoencoder, that of its codes. */
export function principalSigma(model: ModelFacts, which: 0 | 1): number {
  if (model.stochastic) return 1;
  const total = model.axes.deviation.reduce((sum, deviation) => sum + deviation * deviation, 0);
  return Math.sqrt(total * model.principal.explained[which]) || 1;
}
