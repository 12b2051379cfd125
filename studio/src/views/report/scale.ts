/** Scales of a chart: ticks, positions, the path of a line, and the value nearest to the pointer. */

export interface Scale {
  from: number;
  to: number;
  log: boolean;
}

/** About `count` round values within [from, to], 1, 2 or 5 times a power of ten apart. */
export function ticks(from: number, to: number, count: number): number[] {
  const span = to - from;
  if (!(span > 0) || count < 1) return [from];
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((times) => times * power >= raw) ?? 10) * power;
  const first = Math.ceil(from / step - 1e-9);
  const last = Math.floor(to / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

/** 1, 2 and 5 times the powers of ten within [from, to]; fewer factors if there would be more than `most` ticks. */
export function logTicks(from: number, to: number, most: number): number[] {
  const all = (times: readonly number[]): number[] => {
    const found: number[] = [];
    for (let power = Math.floor(Math.log10(from)); power <= Math.ceil(Math.log10(to)); power++) {
      for (const factor of times) {
        const value = Number((factor * 10 ** power).toPrecision(6));
        if (value >= from && value <= to) found.push(value);
      }
    }
    return found;
  };
  for (const times of [[1, 2, 5], [1, 5]]) {
    const found = all(times);
    if (found.length <= most) return found;
  }
  return all([1]);
}

/** Tick intervals in seconds. */
const CLOCK = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];

/** About `count` ticks within [from, to] at round times, in seconds. */
export function timeTicks(from: number, to: number, count: number): number[] {
  const raw = (to - from) / Math.max(1, count);
  const step = CLOCK.find((one) => one >= raw);
  if (step === undefined || raw < 0.5) return ticks(from, to, count);
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.max(0, Math.floor(to / step) - first + 1) }, (_, at) => (first + at) * step);
}

/** The smallest scale that contains all values, with a margin; a log scale uses only values above 0. */
export function scaleOf(values: readonly number[], options: { log?: boolean; air?: number } = {}): Scale {
  const { log = false, air = 0.05 } = options;
  const held = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (held.length === 0) return log ? { from: 1, to: 10, log } : { from: 0, to: 1, log };
  const low = held.reduce((a, b) => Math.min(a, b));
  const high = held.reduce((a, b) => Math.max(a, b));
  if (log) return { from: low, to: high > low ? high : low * 10, log };
  const more = (high - low || Math.abs(high) || 1) * air;
  return { from: low - more, to: high + more, log };
}

/** The position of a value on a scale: 0 at the start, 1 at the end. */
export function place({ from, to, log }: Scale, value: number): number {
  if (from === to) return 0.5;
  if (log) return (Math.log(value) - Math.log(from)) / (Math.log(to) - Math.log(from));
  return (value - from) / (to - from);
}

/** An SVG path through points, with a gap where a coordinate is not finite. */
export function pathOf(points: readonly (readonly [number, number])[]): string {
  let pen = "M";
  let path = "";
  for (const [x, y] of points) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      pen = "M";
      continue;
    }
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return path;
}

/** The index of the value nearest to `wanted`; −1 if there are no values. */
export function nearest(values: readonly number[], wanted: number): number {
  let best = -1;
  let least = Infinity;
  values.forEach((value, at) => {
    const far = Math.abs(value - wanted);
    if (far < least) [best, least] = [at, far];
  });
  return best;
}

/** Positions of the lines' labels: moved at least `gap` apart, in their order, within [0, height]. */
export function apart(wanted: readonly number[], gap: number, height: number): number[] {
  const order = wanted.map((_, at) => at).sort((a, b) => (wanted[a] ?? 0) - (wanted[b] ?? 0));
  const out = [...wanted];
  let least = 0;
  for (const at of order) {
    out[at] = Math.max(wanted[at] ?? 0, least);
    least = (out[at] ?? 0) + gap;
  }
  let most = height;
  for (const at of [...order].reverse()) {
    out[at] = Math.min(out[at] ?? 0, most);
    most = (out[at] ?? 0) - gap;
  }
  return out;
}
