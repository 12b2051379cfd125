/** What the model says of an image: which label, how surprising, where it lies, and what it makes of it. */
import type { Engine } from "./engine/engine";
import { nats, rate } from "./likelihood";
import { uniform } from "./rng";
import type { Kind, Manifest } from "./types";

export interface Reading {
  /** p(y|x) of K labels by Bayes' rule, as src/vaelab/evaluation/labels.py; [] of a model without labels. */
  probabilities: number[];
  /** −ELBO at z = μ under `label`, nats; of an autoencoder its distortion. */
  nats: number;
  /** d */
  mean: Float32Array;
  /** d */
  deviation: Float32Array;
  /** C×H×W, 0…1 */
  reconstruction: Float32Array;
  label: number | null;
}

/** Labels that are tried in one pass. */
const AT_ONCE = 50;

/** The seed of the thresholds that binarise a drawing for a Bernoulli model: always the same. */
const BINARISATION = 777;

/**
 * Reads an image.
 *
 * image: C×H×W, 0…1; label: what the reader says it is, or null to guess. A Bernoulli model scores the image binarised by one
 * seeded draw, as it scores test images; where the image lies and its reconstruction are of its grey levels.
 */
export async function read(
  engine: Pick<Engine, "encode" | "decode">,
  manifest: Manifest,
  kind: Kind,
  image: Float32Array,
  label: number | null,
): Promise<Reading> {
  const model = manifest.models[kind];
  if (model === undefined) throw new Error(`no model "${kind}" in this page`);
  const scored = model.binarised ? binarised(image) : image;
  const classes = model.conditional ? manifest.classes.length : 0;
  const every = await labelNats(engine, manifest, kind, scored, classes);
  const probabilities = classes > 0 ? posterior(every) : [];
  const chosen = classes > 0 ? (label ?? indexOfLeast(every)) : null;

  const weights = chosen === null ? null : new Float32Array(classes);
  if (weights !== null && chosen !== null) weights[chosen] = 1;
  const { mean, logVariance } = await engine.encode(kind, image, weights);
  const decoded = await engine.decode(kind, mean, weights);
  return {
    probabilities,
    nats: every[chosen ?? 0] ?? Number.NaN,
    mean,
    deviation: logVariance.map((value) => Math.exp(0.5 * value)),
    reconstruction: decoded.pixels,
    label: chosen,
  };
}

/** Distortion + rate at z = μ(x, y) under each label; of a model without labels, one figure. */
async function labelNats(
  engine: Pick<Engine, "encode" | "decode">,
  manifest: Manifest,
  kind: Kind,
  image: Float32Array,
  classes: number,
): Promise<number[]> {
  const model = manifest.models[kind];
  if (model === undefined) return [];
  const found: number[] = [];
  const rows = Math.max(1, classes);
  for (let first = 0; first < rows; first += AT_ONCE) {
    const count = Math.min(AT_ONCE, rows - first);
    const images = new Float32Array(count * image.length);
    const weights = classes > 0 ? new Float32Array(count * classes) : null;
    for (let row = 0; row < count; row++) {
      images.set(image, row * image.length);
      if (weights !== null) weights[row * classes + first + row] = 1;
    }
    const { mean, logVariance } = await engine.encode(kind, images, weights);
    const { parameters } = await engine.decode(kind, mean, weights);
    for (let row = 0; row < count; row++) {
      const distortion = nats(model.likelihood, parameters, row, image.length, image);
      found.push(distortion + rate(mean, logVariance, row, model.latent_dim));
    }
  }
  return found;
}

/** p(y|x) ∝ e^−nats, all labels equally frequent. */
export function posterior(every: readonly number[]): number[] {
  const least = Math.min(...every);
  const weights = every.map((value) => Math.exp(least - value));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

function indexOfLeast(values: readonly number[]): number {
  return values.reduce((best, value, at) => (value < (values[best] ?? Infinity) ? at : best), 0);
}

/** 0 or 1 with p = the level, each pixel with its own threshold, always the same. */
export function binarised(image: Float32Array): Float32Array {
  const thresholds = uniform(BINARISATION, image.length);
  return image.map((level, at) => (level > (thresholds[at] ?? 0.5) ? 1 : 0));
}
