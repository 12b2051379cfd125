/**
 * A drawing brought to the form of MNIST's digits: src/vaelab/data/prepare.py, step by step, where the reasons stand.
 *
 * Ink is parted from paper, specks are dropped, and the ink is scaled to fit a box and moved until its centre of mass is the
 * middle. Levels agree with Python's to 1/255 (studio/scripts/vectors.py makes what that is tested on).
 */
import { pairwiseSum, rint } from "./prepare/numpy";
import { inkOf, part } from "./prepare/otsu";
import { BICUBIC, BOX, resize, thumbnail } from "./prepare/resize";
import { withoutShading } from "./prepare/shading";

export interface Prepared {
  /** H×W */
  levels: Uint8Array;
  /** The ink was dark on light. */
  inverted: boolean;
  /** A shading of the paper was taken off. */
  shading: boolean;
}

const SIDE = 28;
const INNER = 20;
const CENTRE = 14;

/** Pixels of the longer side that an image is read at. */
const LARGEST = 512;

/** Share of the ink below which a piece that stands alone is dust. */
const SPECK = 0.01;

/** Grey levels between ink and paper below which there is nothing to see. */
const LEAST_CONTRAST = 8;

/** null: nothing is drawn. grey: width×height levels; size: [H, W] to make. */
export function prepare(
  grey: Uint8ClampedArray,
  width: number,
  height: number,
  size: [number, number],
): Prepared | null {
  const small = thumbnail(grey, width, height, LARGEST);
  const levels = Float64Array.from(small.values);
  const level = part(levels, small.width, small.height);
  const flat = withoutShading(levels, small.width, small.height);
  const shading = flat !== null && flat.explained > level.explained + 0.01;
  const parted = shading ? flat : level;
  if (parted.light - parted.dark < LEAST_CONTRAST) return null;
  const ink = withoutSpecks(inkOf(parted), parted.width, parted.height);
  const fit = fitted(ink, parted.width, parted.height, size);
  return fit === null ? null : { levels: fit, inverted: parted.lightPaper, shading };
}

/** Pieces, joined to their eight neighbours, that hold less than their share of the ink are dropped. */
export function withoutSpecks(ink: Float64Array, width: number, height: number): Float64Array {
  const pieces = new Int32Array(ink.length);
  const amounts = [0];
  const stack: number[] = [];
  for (let start = 0; start < ink.length; start++) {
    if ((ink[start] ?? 0) <= 0 || pieces[start] !== 0) continue;
    const piece = amounts.length;
    amounts.push(0);
    pieces[start] = piece;
    stack.push(start);
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      amounts[piece] = (amounts[piece] ?? 0) + (ink[at] ?? 0);
      const x = at % width;
      const y = (at - x) / width;
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const next = v * width + u;
          if (pieces[next] !== 0 || (ink[next] ?? 0) <= 0) continue;
          pieces[next] = piece;
          stack.push(next);
        }
      }
    }
  }
  const least = SPECK * amounts.reduce((a, b) => a + b, 0);
  return ink.map((value, at) => ((amounts[pieces[at] ?? 0] ?? 0) >= least ? value : 0));
}

/** Ink 0…1 as levels: its longer side as long as the box, its centre of mass where MNIST has it; null if there is none. */
function fitted(ink: Float64Array, width: number, height: number, [H, W]: [number, number]): Uint8Array | null {
  let [top, bottom, left, right] = [height, -1, width, -1];
  for (let at = 0; at < ink.length; at++) {
    if ((ink[at] ?? 0) <= 0) continue;
    const x = at % width;
    const y = (at - x) / width;
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
    left = Math.min(left, x);
    right = Math.max(right, x);
  }
  if (bottom < 0) return null;
  const [w, h] = [right - left + 1, bottom - top + 1];
  const drawing = new Float32Array(w * h);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) drawing[y * w + x] = ink[(top + y) * width + left + x] ?? 0;
  }
  const scale = Math.min(((INNER / SIDE) * H) / h, ((INNER / SIDE) * W) / w);
  const inner: [number, number] = [Math.max(1, rint(scale * w)), Math.max(1, rint(scale * h))];
  const scaled = resize(drawing, w, h, inner, scale < 1 ? BOX : BICUBIC).map((value) => Math.min(1, Math.max(0, value)));
  const brightest = scaled.reduce((a, b) => Math.max(a, b), 0);
  return placed(
    scaled.map((value) => value / brightest),
    inner,
    [H, W],
  );
}

function placed(scaled: Float32Array, [w, h]: [number, number], [H, W]: [number, number]): Uint8Array {
  const exact = (value: number): number => value;
  const total = pairwiseSum(scaled, Math.fround);
  const down = Float64Array.from(scaled, (value, at) => value * Math.floor(at / w));
  const across = Float64Array.from(scaled, (value, at) => value * (at % w));
  const corner = (side: number, sum: number, extent: number): number =>
    Math.min(side - extent, Math.max(0, rint((side * CENTRE) / SIDE - sum / total)));
  const top = corner(H, pairwiseSum(down, exact), h);
  const left = corner(W, pairwiseSum(across, exact), w);
  const levels = new Uint8Array(H * W);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) levels[(top + y) * W + left + x] = rint(Math.fround(255 * (scaled[y * w + x] ?? 0)));
  }
  return levels;
}
