/** Formulas of the story: Gaussian densities, their average, and KL divergences from N(0, 1) in nats. Symbols: μ, σ, ε, z. */

/** z = μ + σ·ε, element-wise (Kingma & Welling 2014, section 2.4). */
export function reparameterised(mean: Float32Array, deviation: Float32Array, epsilon: Float32Array): Float32Array {
  return mean.map((mu, axis) => mu + (deviation[axis] ?? 0) * (epsilon[axis] ?? 0));
}

/** The density of N(μ, σ²) at x. */
export function density(x: number, mean: number, deviation: number): number {
  const away = (x - mean) / deviation;
  return Math.exp(-away * away * 0.5) / (deviation * Math.sqrt(2 * Math.PI));
}

/** `count` evenly spaced numbers from `from` to `to`. */
export function grid(from: number, to: number, count: number): number[] {
  return Array.from({ length: count }, (_, at) => from + ((to - from) * at) / (count - 1));
}

/** The average of the densities of N(μᵢ, σᵢ²) at each x: the aggregate posterior on one axis. */
export function average(xs: readonly number[], means: ArrayLike<number>, deviations: ArrayLike<number>): number[] {
  const count = means.length;
  return xs.map((x) => {
    let sum = 0;
    for (let at = 0; at < count; at++) sum += density(x, means[at] ?? 0, deviations[at] || 1e-3);
    return sum / count;
  });
}

/** KL(q ‖ N(0, 1)) in nats of a density q on evenly spaced x, by the trapezoidal rule. */
export function divergence(xs: readonly number[], q: readonly number[]): number {
  const step = ((xs[xs.length - 1] ?? 0) - (xs[0] ?? 0)) / (xs.length - 1);
  return xs.reduce((sum, x, at) => {
    const here = q[at] ?? 0;
    const ends = at === 0 || at === xs.length - 1 ? 0.5 : 1;
    return here > 0 ? sum + ends * step * here * (Math.log(here) + 0.5 * x * x + 0.5 * Math.log(2 * Math.PI)) : sum;
  }, 0);
}

/** KL(N(μ, σ²) ‖ N(0, 1)) in nats (Kingma & Welling 2014, appendix B). */
export function rate(mean: number, deviation: number): number {
  return 0.5 * (mean * mean + deviation * deviation - 1) - Math.log(deviation);
}

/** σ = exp(½ log σ²); 0 where log σ² is −∞, as for an autoencoder. */
export function deviations(logVariance: Float32Array): Float32Array {
  return logVariance.map((value) => (Number.isFinite(value) ? Math.exp(value / 2) : 0));
}

/** The latent point at (a, b) of the principal plane: mean + a·first component + b·second component. */
export function fromPlane(
  plane: { mean: number[]; components: [number[], number[]] },
  [a, b]: readonly [number, number],
): Float32Array {
  return Float32Array.from(
    plane.mean,
    (middle, axis) => middle + a * (plane.components[0][axis] ?? 0) + b * (plane.components[1][axis] ?? 0),
  );
}

/** The projection of the origin, the mean of N(0, I), onto the principal plane. */
export function originOn(plane: { mean: number[]; components: [number[], number[]] }): [number, number] {
  const along = (component: number[]): number => component.reduce((sum, part, axis) => sum - part * (plane.mean[axis] ?? 0), 0);
  return [along(plane.components[0]), along(plane.components[1])];
}

/** Half the side of a square around `centre` that contains the fraction `share` of the points; at least `least`. */
export function reach(
  [xs, ys]: readonly [Float32Array, Float32Array],
  centre: readonly [number, number],
  share: number,
  least: number,
): number {
  const distances = xs.map((x, at) => Math.max(Math.abs(x - centre[0]), Math.abs((ys[at] ?? 0) - centre[1]))).sort();
  const quantile = distances[Math.min(distances.length - 1, Math.floor(share * distances.length))] ?? 0;
  return Math.max(least, 1.05 * quantile);
}
