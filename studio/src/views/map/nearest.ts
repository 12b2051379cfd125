/** Nearest-dot queries with a grid of square cells, which avoids a search of all dots. */

const CELL = 0.15; // σ
const EDGE = 6; // dots beyond are stored in the outermost cells
const SIDE = Math.ceil((2 * EDGE) / CELL);

export interface Grid {
  /** u, v, u, v, … */
  places: Float32Array;
  /** Dots sorted by cell, and the index where each cell begins. */
  dots: Uint32Array;
  begins: Uint32Array;
}

export interface Found {
  index: number;
  /** In σ. */
  distance: number;
}

function cell(value: number): number {
  return Math.min(SIDE - 1, Math.max(0, Math.floor((value + EDGE) / CELL)));
}

export function gridOf(places: Float32Array): Grid {
  const count = places.length / 2;
  const begins = new Uint32Array(SIDE * SIDE + 1);
  const cells = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const at = cell(places[2 * i + 1] ?? 0) * SIDE + cell(places[2 * i] ?? 0);
    cells[i] = at;
    begins[at + 1] = (begins[at + 1] ?? 0) + 1;
  }
  for (let at = 0; at < SIDE * SIDE; at++) begins[at + 1] = (begins[at + 1] ?? 0) + (begins[at] ?? 0);
  const next = begins.slice();
  const dots = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const at = cells[i] ?? 0;
    const slot = next[at] ?? 0;
    dots[slot] = i;
    next[at] = slot + 1;
  }
  return { places, dots, begins };
}

/** The nearest dot within `within` σ that satisfies `counts`; null if there is none. */
export function nearest(
  grid: Grid,
  [u, v]: readonly [number, number],
  within: number,
  counts: (index: number) => boolean = () => true,
): Found | null {
  let found: Found | null = null;
  let best = within;
  const [left, right] = [cell(u - within), cell(u + within)];
  const [low, high] = [cell(v - within), cell(v + within)];
  for (let row = low; row <= high; row++) {
    for (let at = row * SIDE + left; at <= row * SIDE + right; at++) {
      const end = grid.begins[at + 1] ?? 0;
      for (let slot = grid.begins[at] ?? 0; slot < end; slot++) {
        const index = grid.dots[slot] ?? 0;
        const distance = Math.hypot((grid.places[2 * index] ?? 0) - u, (grid.places[2 * index + 1] ?? 0) - v);
        if (distance <= best && counts(index)) {
          best = distance;
          found = { index, distance };
        }
      }
    }
  }
  return found;
}
