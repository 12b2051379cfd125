/** Nats are compared with src/vaelab/models/distributions.py, samples with their distribution. */
import { describe, expect, test } from "vitest";

import { nats, rate, sampled } from "./likelihood";
import type { LikelihoodName } from "./types";

const X = [0, 1, 0.3, 0.5, 1, 0, 0.9];
const LOGITS = [-3, 2.5, 0.2, -0.04, 8, -12, 0.6];
const LOGISTIC = [
  0, 0.95, 0.3, 0.6, 1.2, -0.1, 0.8, -2.98185, -1.993285, -6.873072, -1.495922, -3.951413, -2.488952, 0.300675,
];
const GAUSSIAN = [
  -0.5, 0.45, -0.2, 0.1, 0.7, -0.6, 0.3, -2.999088, -1.999664, -8.686738, -1.499797, -3.997524, -2.499447, 0.300034,
];

/** Nats of X computed in Python (Bernoulli: of X > ½). */
const EXPECTED: [LikelihoodName, number[], number[], number][] = [
  ["bernoulli", LOGITS, X.map((x) => (x > 0.5 ? 1 : 0)), 2.036792],
  ["continuous-bernoulli", LOGITS, X, -6.899625],
  ["logistic", LOGISTIC, X, 14.829586],
  ["gaussian", GAUSSIAN, X, 744.979797],
];

describe.each(EXPECTED)("%s", (name, parameters, x, expected) => {
  test("matches the nats of Python for the image with the given index", () => {
    const two = Float32Array.from([...parameters.map((v) => v + 1), ...parameters]);
    const got = nats(name, two, 1, x.length, Float32Array.from(x));
    expect(Math.abs(got - expected)).toBeLessThan(1e-4 * Math.max(1, Math.abs(expected)) * 3);
  });

  test("samples have the least expected nats under their own parameters", () => {
    // By Gibbs' inequality, the cross-entropy is least for the parameters that the samples were drawn with.
    const [size, count] = [x.length, 4000];
    const draws: Float32Array[] = [];
    const decoded = { pixels: new Float32Array(size), parameters: Float32Array.from(parameters), nats: null, count: 1 };
    for (let seed = 1; seed <= count; seed++) draws.push(sampled(name, decoded, size, seed));
    const average = (shift: number): number => {
      const moved = Float32Array.from(parameters, (v, i) => (i < size ? v + shift : v));
      return draws.reduce((sum, draw) => sum + nats(name, moved, 0, size, draw), 0) / count;
    };
    const [less, here, more] = [average(-0.3), average(0), average(0.3)];
    expect(here).toBeLessThan(less);
    expect(here).toBeLessThan(more);
  });
});

test("the continuous Bernoulli integrates to one on both sides of the switch to its series", () => {
  for (const eta of [-20, -0.51, -0.49, 0, 0.49, 0.51, 20]) {
    let sum = 0;
    for (let i = 0; i < 2000; i++) {
      sum += Math.exp(-nats("continuous-bernoulli", Float32Array.of(eta), 0, 1, Float32Array.of((i + 0.5) / 2000))) / 2000;
    }
    expect(sum).toBeCloseTo(1, 4);
  }
});

test("the 256 levels of the discretised logistic sum to one", () => {
  let sum = 0;
  for (let level = 0; level < 256; level++) {
    sum += Math.exp(-nats("logistic", Float32Array.of(0.7, -2), 0, 1, Float32Array.of(level / 255)));
  }
  expect(sum).toBeCloseTo(1, 4);
});

test("the channels of a pixel under the colour logistic match Python", () => {
  // Two pixels: centres, log-scales and couplings of red, green and blue.
  const parameters = Float32Array.of(
    0.2, 0.7, 0.3, 0.5, 0.4, 0.6, -3, -2, -4, -3.5, -5, -2.5, 0.9, -0.4, 0.2, 0.1, 0.8, 0.7,
  );
  const x = Float32Array.of(0.4, 0.6, 0.5, 0.6, 0.6, 0.7);
  expect(nats("colour-logistic", parameters, 0, 6, x)).toBeCloseTo(25.57296, 3);
  const decoded = { pixels: x, parameters, nats: null, count: 1 };
  const draws = Array.from({ length: 4000 }, (_, seed) => sampled("colour-logistic", decoded, 6, seed + 1));
  const covariance = draws.reduce((sum, draw) => sum + ((draw[0] ?? 0) - 0.2) * ((draw[2] ?? 0) - 0.3), 0) / draws.length;
  const variance = draws.reduce((sum, draw) => sum + ((draw[0] ?? 0) - 0.2) ** 2, 0) / draws.length;
  expect(covariance / variance).toBeCloseTo(0.9, 1);
});

test("a mixture of two colours and their blend matches Python", () => {
  // Two pixels: log-weights of the components, both colours, and log-scales of the components.
  const parameters = Float32Array.of(
    -0.510826, -1.609438, -1.203973, -0.693147, -2.302585, -1.203973,
    0.2, 0.7, 0.3, 0.5, 0.4, 0.6, 0.9, 0.1, 0.6, 0.2, 0.5, 0.8, -3, -3.5, -4, -2, -2.5, -5,
  );
  const x = Float32Array.of(102 / 255, 153 / 255, 128 / 255, 153 / 255, 153 / 255, 178 / 255);
  expect(nats("two-colour", parameters, 0, 6, x)).toBeCloseTo(34.79219, 3);
  const edges = Float32Array.of(0, 1, 102 / 255, 153 / 255, 1, 0);
  expect(nats("two-colour", parameters, 0, 6, edges)).toBeCloseTo(39.72835, 3);
  const decoded = { pixels: x, parameters, nats: null, count: 1 };
  const draws = Array.from({ length: 4000 }, (_, seed) => sampled("two-colour", decoded, 6, seed + 1));
  const means = [0.4455, 0.3363, 0.4051, 0.3187, 0.435, 0.7163];
  means.forEach((mean, i) => {
    expect(draws.reduce((sum, draw) => sum + (draw[i] ?? 0), 0) / draws.length).toBeCloseTo(mean, 1.5);
  });
  // The channels of a pixel share its component: where red is far from its first colour, green is too.
  const first = draws.filter((draw) => (draw[0] ?? 0) < 0.4);
  expect(first.reduce((sum, draw) => sum + (draw[2] ?? 0), 0) / first.length).toBeCloseTo(0.31, 1);
});

test("the rate matches Python, and is 0 for an autoencoder", () => {
  const [mean, logVariance] = [Float32Array.of(0, 0.5, -1.2, 2), Float32Array.of(0, -1, 0.3, -4)];
  expect(rate(mean.subarray(1), logVariance.subarray(1), 0, 3)).toBeCloseTo(4.563027, 5);
  expect(rate(Float32Array.of(1), Float32Array.of(-Infinity), 0, 1)).toBe(0);
});
