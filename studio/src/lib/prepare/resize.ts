/**
 * Pillow's resampling, to the last bit: `thumbnail` of grey levels by BOX, and `resize` of float32 by BOX or BICUBIC.
 *
 * Source: Pillow, src/libImaging/Resample.c and Reduce.c.
 */

interface Filter {
  support: number;
  weight(x: number): number;
}

export const BOX: Filter = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };

export const BICUBIC: Filter = {
  support: 2,
  weight(signed) {
    const x = Math.abs(signed);
    const a = -0.5;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
  },
};

/** The first input pixel that contributes to an output pixel, and the weights from there on. */
interface Window {
  first: number;
  weights: Float64Array;
}

/** Windows of `count` outputs over the range 0 to `end` of `length` inputs. */
function windows(filter: Filter, length: number, end: number, count: number): Window[] {
  const scale = end / count;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  return Array.from({ length: count }, (_, out) => {
    const centre = (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = new Float64Array(Math.max(0, last - first));
    let total = 0;
    for (let i = 0; i < weights.length; i++) {
      const weight = filter.weight((i + first - centre + 0.5) * (1 / stretch));
      weights[i] = weight;
      total += weight;
    }
    if (total !== 0) for (let i = 0; i < weights.length; i++) weights[i] = (weights[i] ?? 0) / total;
    return { first, weights };
  });
}

type Values = Float32Array | Uint8ClampedArray;
type Pass = (source: Values, at: number, step: number, window: Window) => number;

const floatPass: Pass = (source, at, step, { first, weights }) => {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += (source[at + (first + i) * step] ?? 0) * (weights[i] ?? 0);
  return sum; // stored as float32
};

/** Fractional bits of the weights for 8-bit levels. */
const PRECISION = 22;

const levelPass: Pass = (source, at, step, { first, weights }) => {
  let sum = 2 ** (PRECISION - 1);
  for (let i = 0; i < weights.length; i++) {
    const scaled = (weights[i] ?? 0) * 2 ** PRECISION;
    sum += (source[at + (first + i) * step] ?? 0) * Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
  }
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** PRECISION)));
};

interface Raster<T extends Values> {
  values: T;
  width: number;
  height: number;
}

/** Horizontal and vertical pass, each omitted if it changes nothing; `end`: extent of the source, if smaller than its size. */
function resampled<T extends Values>(
  source: Raster<T>,
  width: number,
  height: number,
  filter: Filter,
  pass: Pass,
  make: (length: number) => T,
  end: [number, number] = [source.width, source.height],
): Raster<T> {
  let { values } = source;
  if (width !== source.width || end[0] !== width) {
    const across = make(width * source.height);
    windows(filter, source.width, end[0], width).forEach((window, x) => {
      for (let y = 0; y < source.height; y++) across[y * width + x] = pass(values, y * source.width, 1, window);
    });
    values = across;
  }
  if (height !== source.height || end[1] !== height) {
    const down = make(width * height);
    const above = values;
    windows(filter, source.height, end[1], height).forEach((window, y) => {
      for (let x = 0; x < width; x++) down[y * width + x] = pass(above, x, width, window);
    });
    values = down;
  }
  return { values, width, height };
}

/** `Image.resize` of mode F. */
export function resize(
  values: Float32Array,
  width: number,
  height: number,
  to: [width: number, height: number],
  filter: Filter,
): Float32Array {
  return resampled({ values, width, height }, to[0], to[1], filter, floatPass, (n) => new Float32Array(n)).values;
}

/** `Image.thumbnail((most, most), BOX)` of mode L. */
export function thumbnail(grey: Uint8ClampedArray, width: number, height: number, most: number): Raster<Uint8ClampedArray> {
  const source = { values: grey, width, height };
  if (width <= most && height <= most) return source;
  const [w, h] = fitting(width, height, most);
  const factors = [Math.trunc(width / w / 2) || 1, Math.trunc(height / h / 2) || 1] as const;
  const end: [number, number] = [width / factors[0], height / factors[1]];
  const smaller = factors[0] > 1 || factors[1] > 1 ? reduced(source, factors[0], factors[1]) : source;
  return resampled(smaller, w, h, BOX, levelPass, (n) => new Uint8ClampedArray(n), end);
}

/** The largest size with this aspect ratio that fits, rounded to the integers that preserve the ratio best. */
function fitting(width: number, height: number, most: number): [number, number] {
  const aspect = width / height;
  const nearer = (number: number, off: (n: number) => number): number => {
    const [low, high] = [Math.floor(number), Math.ceil(number)];
    return Math.max(1, off(high) < off(low) ? high : low);
  };
  if (aspect <= 1) return [nearer(most * aspect, (n) => Math.abs(aspect - n / most)), most];
  return [most, nearer(most / aspect, (n) => (n === 0 ? 0 : Math.abs(aspect - most / n)))];
}

/** `Image.reduce`: means of blocks; blocks at the right and bottom edges may be smaller. */
function reduced(source: Raster<Uint8ClampedArray>, across: number, down: number): Raster<Uint8ClampedArray> {
  const width = Math.ceil(source.width / across);
  const height = Math.ceil(source.height / down);
  const values = new Uint8ClampedArray(width * height);
  for (let y = 0; y < height; y++) {
    const bottom = Math.min(source.height, (y + 1) * down);
    for (let x = 0; x < width; x++) {
      const right = Math.min(source.width, (x + 1) * across);
      const count = (bottom - y * down) * (right - x * across);
      let sum = Math.floor(count / 2);
      for (let v = y * down; v < bottom; v++) {
        for (let u = x * across; u < right; u++) sum += source.values[v * source.width + u] ?? 0;
      }
      values[y * width + x] = Math.floor((sum * Math.floor(2 ** 24 / count)) / 2 ** 24);
    }
  }
  return { values, width, height };
}
