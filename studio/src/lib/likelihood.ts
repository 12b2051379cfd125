/**
 * The likelihoods p(x|z): negative log-likelihood in nats, and samples, from the parameters that the decoder outputs.
 *
 * The formulas and their sources are in src/vaelab/models/distributions.py. `parameters` are on the scale of x, as `stated_as`
 * names them: logit; logit of λ; centre and log_scale; centre, log_scale and coupling; log_weight, first, second and
 * log_scale; mean and log_variance.
 */
import { normal, uniform } from "./rng";
import type { Decoded, LikelihoodName } from "./types";

interface Likelihood {
  planes: number;
  /** −log p of one value in nats. */
  nats(x: number, first: number, second: number): number;
  /** Sample one value, given a uniform and a standard normal draw. */
  draw(first: number, second: number, u: number, normal: number): number;
}

const HALF_BIN = 0.5 / 255;
const LOG_2PI = Math.log(2 * Math.PI);

/** log(1 + eᵛ), stable for all v. */
export function softplus(v: number): number {
  return Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
}

function clamp(v: number): number {
  return Math.min(1, Math.max(0, v));
}

const LOGISTIC: Likelihood = {
  planes: 2,
  nats(x, centre, logScale) {
    const inverse = Math.exp(-logScale);
    const middle = (x - centre) * inverse;
    const half = HALF_BIN * inverse;
    const below = softplus(-(middle + half));
    const above = softplus(middle - half);
    if (x < HALF_BIN) return below;
    if (x > 1 - HALF_BIN) return above;
    return below + above - Math.log(-Math.expm1(-2 * half));
  },
  draw(centre, logScale, u) {
    const value = centre + Math.exp(logScale) * Math.log(u / (1 - u));
    return Math.round(clamp(value) * 255) / 255;
  },
};

const LIKELIHOODS: Record<Exclude<LikelihoodName, "two-colour">, Likelihood> = {
  bernoulli: {
    planes: 1,
    nats: (x, logit) => softplus(logit) - x * logit,
    draw: (logit, _, u) => (u < 1 / (1 + Math.exp(-logit)) ? 1 : 0),
  },
  "continuous-bernoulli": {
    planes: 1,
    nats(x, eta) {
      const size = Math.abs(eta);
      const square = eta * eta;
      const normaliser =
        size < 0.5
          ? square * (-1 / 24 + square / 2880)
          : Math.log(size) - 0.5 * size - Math.log1p(-Math.exp(-size));
      return -(eta * (x - 0.5) + normaliser);
    },
    draw(eta, _, u) {
      if (Math.abs(eta) < 1e-3) return u;
      const negative = -Math.abs(eta);
      const x = Math.log1p(u * Math.expm1(negative)) / negative;
      return clamp(eta > 0 ? 1 - x : x);
    },
  },
  logistic: LOGISTIC,
  "colour-logistic": { ...LOGISTIC, planes: 3 },
  gaussian: {
    planes: 2,
    nats: (x, mean, logVariance) => 0.5 * ((x - mean) ** 2 * Math.exp(-logVariance) + logVariance + LOG_2PI),
    draw: (mean, logVariance, _, n) => mean + Math.exp(0.5 * logVariance) * n,
  },
};

/** −log p(x|z) in nats of an image `x` of `size` values, given the parameters of image number `index`. */
export function nats(
  name: LikelihoodName,
  parameters: Float32Array,
  index: number,
  size: number,
  x: Float32Array,
): number {
  if (name === "two-colour") return twoColourNats(imageOf(parameters, index, 4 * size), x);
  const likelihood = LIKELIHOODS[name];
  const own = imageOf(parameters, index, likelihood.planes * size);
  let sum = 0;
  for (let i = 0; i < size; i++) {
    sum += likelihood.nats(x[i] ?? 0, (own[i] ?? 0) + shift(name, i, own, x), own[size + i] ?? 0);
  }
  return sum;
}

/** Sample x from p(x|z) for each decoded point, n×size; shown in mode "sample" instead of the mean. */
export function sampled(name: LikelihoodName, decoded: Decoded, size: number, seed: number): Float32Array {
  const out = new Float32Array(decoded.count * size);
  // The same noise for all images, so that images of one point differ only by their labels.
  const uniforms = uniform(seed, size);
  if (name === "two-colour") {
    const choices = uniform(seed + 1, size / 3);
    for (let n = 0; n < decoded.count; n++) {
      drawTwoColour(imageOf(decoded.parameters, n, 4 * size), choices, uniforms, imageOf(out, n, size));
    }
    return out;
  }
  const likelihood = LIKELIHOODS[name];
  const normals = name === "gaussian" ? normal(seed, size) : uniforms;
  for (let n = 0; n < decoded.count; n++) {
    const own = imageOf(decoded.parameters, n, likelihood.planes * size);
    const x = imageOf(out, n, size);
    for (let i = 0; i < size; i++) {
      const first = (own[i] ?? 0) + shift(name, i, own, x);
      x[i] = likelihood.draw(first, own[size + i] ?? 0, uniforms[i] ?? 0.5, normals[i] ?? 0);
    }
  }
  return out;
}

/** The part of image number `index`, of `count` numbers, without a copy. */
function imageOf(values: Float32Array, index: number, count: number): Float32Array {
  return values.subarray(index * count, (index + 1) * count);
}

/** What the residuals of the channels before it in `x` add to the centre of value `i`; 0 if values are independent. */
function shift(name: LikelihoodName, i: number, parameters: Float32Array, x: Float32Array): number {
  const pixels = x.length / 3;
  if (name !== "colour-logistic" || i < pixels) return 0;
  const pixel = i % pixels;
  const at = (values: Float32Array, channel: number): number => values[channel * pixels + pixel] ?? 0;
  const residual = (channel: number): number => at(x, channel) - at(parameters, channel);
  const coupling = parameters.subarray(2 * x.length);
  if (i < 2 * pixels) return at(coupling, 0) * residual(0);
  return at(coupling, 1) * residual(0) + at(coupling, 2) * residual(1);
}

/** Centre of a value and log-scale of a pixel under component 0, 1 or 2 of a two-colour mixture: c₁, c₂ or their mean. */
function component(own: Float32Array, size: number, k: number, i: number): [centre: number, logScale: number] {
  const first = own[size + i] ?? 0;
  const second = own[2 * size + i] ?? 0;
  const pixels = size / 3;
  return [[first, second, (first + second) / 2][k] ?? 0, own[3 * size + k * pixels + (i % pixels)] ?? 0];
}

/** −log p(x|z) in nats of one image of two colours: a mixture for each pixel, whose component the channels share. */
function twoColourNats(own: Float32Array, x: Float32Array): number {
  const pixels = x.length / 3;
  let sum = 0;
  for (let pixel = 0; pixel < pixels; pixel++) {
    const logs = [0, 1, 2].map((k) => {
      let log = own[k * pixels + pixel] ?? 0;
      for (let i = pixel; i < x.length; i += pixels) log -= LOGISTIC.nats(x[i] ?? 0, ...component(own, x.length, k, i));
      return log;
    });
    const largest = Math.max(...logs);
    sum -= largest + Math.log(logs.reduce((total, log) => total + Math.exp(log - largest), 0));
  }
  return sum;
}

/** Sample `x` of two colours: a component for each pixel from `choices`, then each channel. */
function drawTwoColour(own: Float32Array, choices: Float32Array, uniforms: Float32Array, x: Float32Array): void {
  const pixels = x.length / 3;
  for (let i = 0; i < x.length; i++) {
    const pixel = i % pixels;
    const first = Math.exp(own[pixel] ?? 0);
    const choice = choices[pixel] ?? 0;
    const k = choice < first ? 0 : choice < first + Math.exp(own[pixels + pixel] ?? 0) ? 1 : 2;
    x[i] = LOGISTIC.draw(...component(own, x.length, k, i), uniforms[i] ?? 0.5, 0);
  }
}

/** KL(N(mean, e^logVariance) ‖ N(0, I)) of row `index` of n×d, nats; 0 for an autoencoder, which has no rate. */
export function rate(mean: Float32Array, logVariance: Float32Array, index: number, d: number): number {
  let sum = 0;
  for (let i = index * d; i < (index + 1) * d; i++) {
    const l = logVariance[i] ?? 0;
    if (l === -Infinity) return 0;
    sum += 0.5 * ((mean[i] ?? 0) ** 2 + Math.exp(l) - l - 1);
  }
  return sum;
}
