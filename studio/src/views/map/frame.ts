/**
 * Coordinates of the map in units of σ, in which the prior is N(0, I). An autoencoder has no prior; the centre and σ of its
 * encoded test images are used instead.
 */
import { type MapAxes, middleOf, movedTo, onMap, principalSigma, unitOf } from "../../lib/latent";
import type { Drawn, ModelFacts } from "../../lib/types";
import type { Point } from "./view";

/** A coordinate is (latent value − middle) / sigma in each of the two directions. */
export interface Frame {
  middle: Point;
  sigma: Point;
}

/** A Gaussian on the plane: its mean, the standard deviations along its principal axes, and the angle of the first axis. */
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
  // onMap is relative to the mean of the encoded images; the prior's mean is z = 0.
  return { middle: model.stochastic ? onMap(model, axes, middleOf(model)) : [0, 0], sigma };
}

function scaled(frame: Frame, [a, b]: Point): Point {
  return [(a - frame.middle[0]) / frame.sigma[0], (b - frame.middle[1]) / frame.sigma[1]];
}

/** The position of z on the map, in σ. */
export function placeOf(model: ModelFacts, axes: MapAxes, frame: Frame, z: Float32Array): Point {
  return scaled(frame, onMap(model, axes, z));
}

/** Move z to the position `at`; directions that the map does not show are unchanged. */
export function zAt(model: ModelFacts, axes: MapAxes, frame: Frame, z: Float32Array, at: Point): Float32Array {
  return movedTo(model, axes, z, [
    frame.middle[0] + at[0] * frame.sigma[0],
    frame.middle[1] + at[1] * frame.sigma[1],
  ]);
}

/** Convert latent coordinates of many points to positions u, v, u, v, … in σ. */
export function placesOf(frame: Frame, first: Float32Array, second: Float32Array): Float32Array {
  const places = new Float32Array(2 * first.length);
  for (let i = 0; i < first.length; i++) {
    places[2 * i] = ((first[i] ?? 0) - frame.middle[0]) / frame.sigma[0];
    places[2 * i + 1] = ((second[i] ?? 0) - frame.middle[1]) / frame.sigma[1];
  }
  return places;
}

/** Projection of a drawing's posterior N(μ, diag σ²): its covariance is D diag(σ²) Dᵀ, where D contains the two directions. */
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
