/**
 * Convert a drawing to the format of MNIST's digits, in the same steps as src/vaelab/data/photo.py, which explains them.
 *
 * Separate ink from paper, remove specks, scale the ink to fit a box and centre its centre of mass. The levels agree with Python
 * to within 1/255; studio/scripts/vectors.py creates the test data for this.
 */
import { pairwiseSum, rint } from "./prepare/numpy";
import { inkOf, separate } from "./prepare/otsu";
import { BICUBIC, BOX, resize, thumbnail } from "./prepare/resize";
import { withoutShading } from "./prepare/shading";

export interface Prepared {
  /** H×W */
  levels: Uint8Array;
  /** Whether the ink was dark on light paper. */
  inverted: boolean;
  /** Whether shading of the paper was removed. */
  shading: boolean;
}

const SIDE = 28;
const INNER = 20;
const CENTRE = 14;

/** Maximum length of the longer side in pixels; larger images are reduced. */
const LARGEST = 512;

/** Connected pieces with less than this fraction of the ink are removed. */
const SPECK = 0.01;

/** Minimum difference of ink and paper in grey levels; below it, the image counts as empty. */
const LEAST_CONTRAST = 8;

/** grey: width×height levels; size: [H, W] of the result. Returns null if nothing is drawn. */
export function prepare(
  grey: Uint8ClampedArray,
  width: number,
  height: number,
  size: [number, number],
): Prepared | null {
  const small = thumbnail(grey, width, height, LARGEST);
  const levels = Float64Array.from(small.values);
  const level = separate(levels, small.width, small.height);
  const flat = withoutShading(levels, small.width, small.height);
  const shading = flat !== null && flat.explained > level.explained + 0.01;
  const separation = shading ? flat : level;
  if (separation.light - separation.dark < LEAST_CONTRAST) return null;
  const ink = withoutSpecks(inkOf(separation), separation.width, separation.height);
  const fit = fitted(ink, separation.width, separation.height, size);
  return fit === null ? null : { levels: fit, inverted: separation.lightPaper, shading };
}

/** Remove 8-connected pieces with less than the fraction `SPECK` of the ink. */
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

/** Scale ink 0…1 so that its longer side fits the box, and put its centre of mass where MNIST does; null without ink. */
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
