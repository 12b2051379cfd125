/**
 * The plane of the map in units of σ: under the prior a point falls on it as N(0, I). An autoencoder has no prior; its middle
 * and σ are those of the encoded test images.
 */
import { type MapAxes, middleOf, movedTo, onMap, principalSigma, unitOf } from "../../lib/latent";
import type { Drawn, ModelFacts } from "../../lib/types";
import type { Point } from "./view";

/** (value on the map − middle) / sigma, one pair for each direction. */
export interface Frame {
  middle: Point;
  sigma: Point;
}

/** Of a Gaussian on the plane: where its middle lies, the standard deviations along its own two axes, and the first's angle. */
export interface Ellipse {
  centre: Point;
  radii: Point;
  /** Radians, anticlockwise from the map's first direction. */
  angle: number;
}

export function frameOf(model: ModelFacts, axes: MapAxes): Frame {
  if (axes !== "principal") {
    const [first, second] = [unitOf(model, axes[0]), unitOf(model, axes[1])];
    return { middle: [first.middle, second.middle], sigma: [first.sigma, second.sigma] };
  }
  const sigma: Point = [principalSigma(model, 0), principalSigma(model, 1)];
  // onMap counts from the mean of the encoded images; the prior's middle is z = 0.
  return { middle: model.stochastic ? onMap(model, axes, middleOf(model)) : [0, 0], sigma };
}

function scaled(frame: Frame, [a, b]: Point): Point {
  return [(a - frame.middle[0]) / frame.sigma[0], (b - frame.middle[1]) / frame.sigma[1]];
}

/** Where z falls, in σ. */
export function placeOf(model: ModelFacts, axes: MapAxes, frame: Frame, z: Float32Array): Point {
  return scaled(frame, onMap(model, axes, z));
}

/** z moved to the place `at`; every direction that the map does not show stays. */
export function zAt(model: ModelFacts, axes: MapAxes, frame: Frame, z: Float32Array, at: Point): Float32Array {
  return movedTo(model, axes, z, [
    frame.middle[0] + at[0] * frame.sigma[0],
    frame.middle[1] + at[1] * frame.sigma[1],
  ]);
}

/** Coordinates a, b of many points, in the map's own units, become places: u, v, u, v, … */
export function placesOf(frame: Frame, first: Float32Array, second: Float32Array): Float32Array {
  const places = new Float32Array(2 * first.length);
  for (let i = 0; i < first.length; i++) {
    places[2 * i] = ((first[i] ?? 0) - frame.middle[0]) / frame.sigma[0];
    places[2 * i + 1] = ((second[i] ?? 0) - frame.middle[1]) / frame.sigma[1];
  }
  return places;
}

/** A drawing's posterior N(μ, diag σ²) as it falls on the plane: its covariance there is D diag(σ²) Dᵀ, D the two directions. */
export function ellipseOf(model: ModelFacts, axes: MapAxes, frame: Frame, drawn: Drawn): Ellipse {
  const direction = (which: 0 | 1, axis: number): number => {
    const along = axes === "principal" ? (model.principal.components[which][axis] ?? 0) : Number(axes[which] === axis);
    return along / frame.sigma[which];
  };
  let [aa, ab, bb] = [0, 0, 0];
  for (let axis = 0; axis < drawn.deviation.length; axis++) {
    const variance = (drawn.deviation[axis] ?? 0) ** 2;
    const [a, b] = [direction(0, axis), direction(1, axis)];
    aa += a * a * variance;
    ab += a * b * variance;
    bb += b * b * variance;
  }
  const middle = (aa + bb) / 2;
  const half = Math.hypot((aa - bb) / 2, ab);
  return {
    centre: placeOf(model, axes, frame, drawn.mean),
    radii: [Math.sqrt(middle + half), Math.sqrt(Math.max(0, middle - half))],
    angle: Math.atan2(2 * ab, aa - bb) / 2,
  };
}
