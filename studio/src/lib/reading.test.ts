/** Reading an image with a model so small that the results are known. */
import { expect, test } from "vitest";

import { binarised, posterior, read } from "./reading";
import { manifestOf, modelFacts } from "./testing";
import type { Decoded, Encoded, Manifest } from "./types";

/** An engine with the posterior N(label, ¼) on each axis, and decoder logits of 2 for label 1 and −2 for the others. */
const engine = {
  encode(_: string, images: Float32Array, labels: Float32Array | null): Promise<Encoded> {
    const count = images.length / 4;
    const mean = new Float32Array(3 * count);
    for (let row = 0; row < count; row++) mean.fill(labelOf(labels, row), 3 * row, 3 * row + 3);
    return Promise.resolve({ mean, logVariance: mean.map(() => Math.log(0.25)), count });
  },
  decode(_: string, z: Float32Array, labels: Float32Array | null): Promise<Decoded> {
    const count = z.length / 3;
    const parameters = new Float32Array(4 * count);
    for (let row = 0; row < count; row++) parameters.fill(labelOf(labels, row) === 1 ? 2 : -2, 4 * row, 4 * row + 4);
    return Promise.resolve({ pixels: parameters.map((v) => 1 / (1 + Math.exp(-v))), parameters, nats: null, count });
  },
};

function labelOf(labels: Float32Array | null, row: number): number {
  if (labels === null) return 0;
  const at = labels.indexOf(1, 0);
  const K = at < 0 ? 1 : 3;
  return labels.subarray(row * K, (row + 1) * K).indexOf(1);
}

const white = Float32Array.of(1, 1, 1, 1);
const rateOf = (mean: number): number => 3 * 0.5 * (mean * mean + 0.25 - Math.log(0.25) - 1);
const softplus = (v: number): number => Math.log1p(Math.exp(v));

test("the label with the least nats is predicted, by Bayes' rule", async () => {
  const got = await read(engine, manifestOf(), "cvae", white, null);
  const nats = [rateOf(0) + 4 * softplus(2), rateOf(1) + 4 * softplus(-2), rateOf(2) + 4 * softplus(2)];
  expect(got.label).toBe(1);
  expect(got.nats).toBeCloseTo(nats[1] ?? 0, 5);
  posterior(nats).forEach((p, label) => expect(got.probabilities[label]).toBeCloseTo(p, 5));
  expect([...got.mean]).toEqual([1, 1, 1]);
  expect([...got.deviation]).toEqual([0.5, 0.5, 0.5]);
});

test("a given label is used, and its nats are returned", async () => {
  const got = await read(engine, manifestOf(), "cvae", white, 2);
  expect(got.label).toBe(2);
  expect(got.nats).toBeCloseTo(rateOf(2) + 4 * softplus(2), 5);
  expect(got.probabilities).toHaveLength(3);
});

test("a model without labels predicts none", async () => {
  const got = await read(engine, manifestOf(), "vae", white, null);
  expect(got).toMatchObject({ label: null, probabilities: [] });
  expect(got.nats).toBeCloseTo(rateOf(0) + 4 * softplus(2), 5);
});

test("a likelihood of grey levels is evaluated on them", async () => {
  const model = { ...modelFacts("vae"), likelihood: "gaussian" as const, binarised: false };
  const manifest: Manifest = { ...manifestOf(["vae"]), models: { vae: model } };
  const two = { ...engine, decode: async (k: string, z: Float32Array, y: Float32Array | null) => {
    const one = await engine.decode(k, z, y);
    return { ...one, parameters: Float32Array.of(0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0) };
  } };
  const got = await read(two, manifest, "vae", Float32Array.of(0.5, 0.5, 0.5, 0.5), null);
  expect(got.nats).toBeCloseTo(rateOf(0) + 2 * Math.log(2 * Math.PI), 5);
});

test("binarisation keeps black and white, is deterministic, and keeps the mean", () => {
  const grey = new Float32Array(4000).fill(0.3);
  expect([...binarised(Float32Array.of(0, 1, 0, 1))]).toEqual([0, 1, 0, 1]);
  expect(binarised(grey)).toEqual(binarised(grey));
  expect(binarised(grey).reduce((a, b) => a + b) / 4000).toBeCloseTo(0.3, 1);
});
