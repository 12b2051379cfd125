/** Removal of smooth shading: divide the levels by the quadratic in x and y that fits the paper best. */
import { linspace } from "./numpy";
import { paperOf, separate, type Separation } from "./otsu";

/** Minimum grey level of paper; darker paper is too dark to estimate its shading. */
const DARKEST_PAPER = 16;
const ROUNDS = 5;
const LEAST_SIDE = 16;

/** Exponents of x and y of the six terms: 1, x, y, x², xy, y². */
const TERMS = [
  [0, 0],
  [1, 0],
  [0, 1],
  [2, 0],
  [1, 1],
  [0, 2],
] as const;

/** Levels without shading; null if the fit fails. The paper is determined again in each iteration. */
export function withoutShading(levels: Float64Array, width: number, height: number): Separation | null {
  if (Math.min(width, height) < LEAST_SIDE) return null;
  const x = linspace(-1, 1, width);
  const y = linspace(-1, 1, height);
  let paper: Uint8Array = new Uint8Array(levels.length).fill(1);
  let separation: Separation | null = null;
  for (let round = 0; round < ROUNDS; round++) {
    let count = 0;
    for (let i = 0; i < paper.length; i++) count += paper[i] ?? 0;
    if (count < levels.length / 4) return null;
    const weights = fitted(levels, paper, x, y);
    if (weights === null) return null;
    const surface = surfaceOf(weights, x, y);
    let [least, sum] = [Infinity, 0];
    for (let i = 0; i < surface.length; i++) {
      const value = surface[i] ?? 0;
      if (value < least) least = value;
      sum += value;
    }
    if (least < DARKEST_PAPER) return null;
    const mean = sum / surface.length;
    for (let i = 0; i < surface.length; i++) surface[i] = ((levels[i] ?? 0) / (surface[i] ?? 1)) * mean;
    separation = separate(surface, width, height);
    const found = paperOf(separation);
    if (same(found, paper)) break; // converged
    paper = found;
  }
  return separation;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Least-squares weights of the six terms over the paper, from the normal equations, summed row by row. */
function fitted(levels: Float64Array, paper: Uint8Array, x: Float64Array, y: Float64Array): Float64Array | null {
  const n = TERMS.length;
  const width = x.length;
  // Σ xᵃ yᵇ and Σ level xᵃ yᵇ over the paper.
  const moments = Array.from({ length: 5 }, () => new Float64Array(5));
  const products = Array.from({ length: 3 }, () => new Float64Array(3));
  for (let row = 0; row < y.length; row++) {
    let [s0, s1, s2, s3, s4, v0, v1, v2] = [0, 0, 0, 0, 0, 0, 0, 0];
    for (let column = 0; column < width; column++) {
      const at = row * width + column;
      if (paper[at] !== 1) continue;
      const u = x[column] ?? 0;
      const level = levels[at] ?? 0;
      const square = u * u;
      s0 += 1;
      s1 += u;
      s2 += square;
      s3 += square * u;
      s4 += square * square;
      v0 += level;
      v1 += level * u;
      v2 += level * square;
    }
    add(moments, [s0, s1, s2, s3, s4], y[row] ?? 0);
    add(products, [v0, v1, v2], y[row] ?? 0);
  }
  const matrix = TERMS.map(([a, b]) => Float64Array.from(TERMS, ([c, d]) => moments[a + c]?.[b + d] ?? 0));
  const right = Float64Array.from(TERMS, ([a, b]) => products[a]?.[b] ?? 0);
  return solved(matrix, right, n);
}

/** Add `sums[a]`·yᵇ to `into[a][b]`. */
function add(into: Float64Array[], sums: number[], y: number): void {
  into.forEach((row, a) => {
    let power = sums[a] ?? 0;
    for (let b = 0; b < row.length; b++) {
      row[b] = (row[b] ?? 0) + power;
      power *= y;
    }
  });
}

/** Gaussian elimination with partial pivoting; null if the matrix is singular. */
function solved(matrix: Float64Array[], right: Float64Array, n: number): Float64Array | null {
  const rows = matrix.map((row, i) => [...row, right[i] ?? 0]);
  const cell = (row: number, column: number): number => rows[row]?.[column] ?? 0;
  for (let pivot = 0; pivot < n; pivot++) {
    let best = pivot;
    for (let row = pivot + 1; row < n; row++) if (Math.abs(cell(row, pivot)) > Math.abs(cell(best, pivot))) best = row;
    const [top, other] = [rows[best], rows[pivot]];
    if (top === undefined || other === undefined || Math.abs(top[pivot] ?? 0) < 1e-12) return null;
    rows[pivot] = top;
    rows[best] = other;
    for (const row of rows.slice(pivot + 1)) {
      const factor = (row[pivot] ?? 0) / (top[pivot] ?? 1);
      for (let column = pivot; column <= n; column++) row[column] = (row[column] ?? 0) - factor * (top[column] ?? 0);
    }
  }
  const out = new Float64Array(n);
  for (let row = n - 1; row >= 0; row--) {
    let value = cell(row, n);
    for (let column = row + 1; column < n; column++) value -= cell(row, column) * (out[column] ?? 0);
    out[row] = value / cell(row, row);
  }
  return out;
}

function surfaceOf(weights: Float64Array, x: Float64Array, y: Float64Array): Float64Array {
  const out = new Float64Array(x.length * y.length);
  const [w0 = 0, w1 = 0, w2 = 0, w3 = 0, w4 = 0, w5 = 0] = weights;
  for (let row = 0; row < y.length; row++) {
    const v = y[row] ?? 0;
    const [constant, slope] = [w0 + w2 * v + w5 * v * v, w1 + w4 * v];
    for (let column = 0; column < x.length; column++) {
      const u = x[column] ?? 0;
      out[row * x.length + column] = constant + (slope + w3 * u) * u;
    }
  }
  return out;
}
