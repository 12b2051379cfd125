/** Presentation of a reading: the most probable labels, and the surprise relative to the test images. */

export interface Guess {
  label: number;
  probability: number;
}

/** The `count` most probable labels in descending order; ties in label order. */
export function likeliest(probabilities: readonly number[], count: number): Guess[] {
  return probabilities
    .map((probability, label) => ({ label, probability }))
    .sort((a, b) => b.probability - a.probability || a.label - b.label)
    .slice(0, count);
}

/** A probability as text; "100 %" and "0 %" only if it is exactly 1 or 0. */
export function percent(probability: number): string {
  const share = 100 * probability;
  if (share > 99 && share < 100) return "> 99 %";
  if (share > 0 && share < 1) return "< 1 %";
  return `${Math.round(share)} %`;
}

/**
 * The fraction of test images, 0 to 1, whose surprise is smaller than `nats`, by linear interpolation between their evenly
 * spaced quantiles, which are in ascending order.
 */
export function shareBelow(quantiles: readonly number[], nats: number): number {
  const last = quantiles.length - 1;
  const quantile = (at: number): number => quantiles[at] ?? Number.NaN;
  if (last < 1) return Number.NaN;
  if (nats <= quantile(0)) return 0;
  if (nats >= quantile(last)) return 1;
  let low = 0;
  let high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (quantile(middle) <= nats) low = middle;
    else high = middle;
  }
  const [from, to] = [quantile(low), quantile(high)];
  return (low + (to > from ? (nats - from) / (to - from) : 0)) / last;
}

/** The surprise as text. */
export function surpriseWords(quantiles: readonly number[], nats: number): string {
  const share = shareBelow(quantiles, nats);
  if (Number.isNaN(share)) return "";
  if (share >= 1) return "more than every test image: the label means little then";
  if (share <= 0) return "less than every test image";
  return `more than ${percent(share)} of test images`;
}

export interface Strip {
  /** Position of each quantile, 0 to 1. */
  ticks: number[];
  /** Position of the drawing, 0 to 1. */
  mark: number;
  /** Whether the drawing is beyond the right end. */
  beyond: boolean;
  from: number;
  to: number;
}

/** Positions in the strip plot. Its range is that of the test images, extended by up to half to include the drawing. */
export function strip(quantiles: readonly number[], nats: number): Strip {
  const low = quantiles[0] ?? 0;
  const high = quantiles[quantiles.length - 1] ?? 1;
  const span = high - low || 1;
  const from = Math.min(low, Math.max(nats, low - span / 2));
  const to = Math.max(high, Math.min(nats, high + span / 2));
  const place = (value: number): number => Math.min(1, Math.max(0, (value - from) / (to - from || 1)));
  return { ticks: quantiles.map(place), mark: place(nats), beyond: nats > to, from, to };
}
