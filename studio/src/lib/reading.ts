/** Apply the model to an image: label probabilities, surprise in nats, posterior and reconstruction. */
import type { Engine } from "./engine/engine";
import { oneHotRows, repeated } from "./latent";
import { nats, rate } from "./likelihood";
import { uniform } from "./rng";
import type { Kind, Manifest, ModelFacts } from "./types";

export interface Reading {
  /** p(y|x) of K labels by Bayes' rule, as in src/vaelab/inference/labels.py; [] for a model without labels. */
  probabilities: number[];
  /** −ELBO at z = μ given `label`, in nats; for an autoencoder, its distortion. */
  nats: number;
  /** d */
  mean: Float32Array;
  /** d */
  deviation: Float32Array;
  /** C×H×W, 0…1 */
  reconstruction: Float32Array;
  label: number | null;
}

/** Number of labels evaluated in one pass. */
const AT_ONCE = 50;

/** Seed of the thresholds that binarise a drawing for a Bernoulli model. */
const BINARISATION = 777;

/**
 * Apply the model to an image.
 *
 * image: C×H×W, 0…1; label: the label chosen by the user, or null to predict it. A Bernoulli model scores the image after
 * binarisation with one seeded draw, as it does for test images; the posterior and reconstruction use the grey levels.
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
  const every = await labelNats(engine, model, scored, classes);
  const probabilities = classes > 0 ? posterior(every) : [];
  const chosen = classes > 0 ? (label ?? indexOfLeast(every)) : null;

  const weights = chosen === null ? null : oneHotRows([chosen], classes);
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

/** Distortion + rate at z = μ(x, y) for each label; one value for a model without labels. */
async function labelNats(
  engine: Pick<Engine, "encode" | "decode">,
  model: ModelFacts,
  image: Float32Array,
  classes: number,
): Promise<number[]> {
  const found: number[] = [];
  const rows = Math.max(1, classes);
  for (let first = 0; first < rows; first += AT_ONCE) {
    const count = Math.min(AT_ONCE, rows - first);
    const labels = Array.from({ length: count }, (_, row) => first + row);
    const weights = classes > 0 ? oneHotRows(labels, classes) : null;
    const { mean, logVariance } = await engine.encode(model.kind, repeated(image, count), weights);
    const scored = model.custom_likelihood ? repeated(image, count) : null;
    const { parameters, nats: given } = await engine.decode(model.kind, mean, weights, scored);
    for (let row = 0; row < count; row++) {
      const distortion = given?.[row] ?? nats(model.likelihood, parameters, row, image.length, image);
      found.push(distortion + rate(mean, logVariance, row, model.latent_dim));
    }
  }
  return found;
}

/** p(y|x) ∝ e^−nats, for equally frequent labels. */
export function posterior(every: readonly number[]): number[] {
  const least = Math.min(...every);
  const weights = every.map((value) => Math.exp(least - value));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

function indexOfLeast(values: readonly number[]): number {
  return values.reduce((best, value, at) => (value < (values[best] ?? Infinity) ? at : best), 0);
}

/** Binarise each pixel with P(1) = its level; the thresholds are always the same. */
export function binarised(image: Float32Array): Float32Array {
  const thresholds = uniform(BINARISATION, image.length);
  return image.map((level, at) => (level > (thresholds[at] ?? 0.5) ? 1 : 0));
}
