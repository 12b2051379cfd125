/** Rounding and sums as in NumPy, so that ties are resolved in the same way. */

/** Round to the nearest integer, halves to even, as np.rint and Python's round. */
export function rint(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/** NumPy's pairwise sum; pass Math.fround as `round` for float32. */
export function pairwiseSum(
  values: ArrayLike<number>,
  round: (value: number) => number,
  from = 0,
  count = values.length,
): number {
  const at = (i: number): number => values[from + i] ?? 0;
  if (count < 8) {
    let sum = 0;
    for (let i = 0; i < count; i++) sum = round(sum + at(i));
    return sum;
  }
  if (count <= 128) {
    const r = Array.from({ length: 8 }, (_, j) => at(j));
    const whole = count - (count % 8);
    for (let i = 8; i < whole; i += 8) for (let j = 0; j < 8; j++) r[j] = round((r[j] ?? 0) + at(i + j));
    const pair = (i: number): number => round((r[i] ?? 0) + (r[i + 1] ?? 0));
    let sum = round(round(pair(0) + pair(2)) + round(pair(4) + pair(6)));
    for (let i = whole; i < count; i++) sum = round(sum + at(i));
    return sum;
  }
  let half = Math.floor(count / 2);
  half -= half % 8;
  return round(pairwiseSum(values, round, from, half) + pairwiseSum(values, round, from + half, count - half));
}

/** np.linspace(start, stop, count) */
export function linspace(start: number, stop: number, count: number): Float64Array {
  const step = (stop - start) / (count - 1);
  const out = Float64Array.from({ length: count }, (_, i) => i * step + start);
  if (count > 1) out[count - 1] = stop;
  return out;
}

/** Median. */
export function median(values: number[]): number {
  const sorted = values.sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}
