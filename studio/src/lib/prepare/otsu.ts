/** Separation of ink and paper by Otsu's threshold (Otsu 1979). */
import { linspace, median } from "./numpy";

export interface Separation {
  levels: Float64Array;
  width: number;
  height: number;
  threshold: number;
  /** Mean level below and above the threshold. */
  dark: number;
  light: number;
  /** η: fraction of the variance explained by the threshold. */
  explained: number;
  lightPaper: boolean;
}

const BINS = 256;

export function separate(levels: Float64Array, width: number, height: number): Separation {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i] ?? 0;
    if (level < low) low = level;
    if (level > high) high = level;
  }
  if (high - low < 1e-6) {
    return { levels, width, height, threshold: low, dark: low, light: low, explained: 0, lightPaper: false };
  }
  const edges = linspace(low, high, BINS + 1);
  const counts = histogram(levels, low, high, edges);
  const middles = Float64Array.from({ length: BINS }, (_, i) => ((edges[i + 1] ?? 0) + (edges[i] ?? 0)) / 2);
  const total = levels.length;
  let whole = 0;
  for (let i = 0; i < BINS; i++) whole += (counts[i] ?? 0) * (middles[i] ?? 0);

  const between = new Float64Array(BINS - 1);
  const dark = new Float64Array(BINS - 1);
  const light = new Float64Array(BINS - 1);
  let [below, sum, most] = [0, 0, 0];
  for (let i = 0; i < BINS - 1; i++) {
    below += counts[i] ?? 0;
    sum += (counts[i] ?? 0) * (middles[i] ?? 0);
    const [one, other] = [sum / below, (whole - sum) / Math.max(total - below, 1)];
    const explains = (below * (total - below) * (other - one) ** 2) / total ** 2;
    dark[i] = one;
    light[i] = other;
    between[i] = explains;
    if (explains > most) most = explains;
  }
  // All empty bins between two peaks explain the same variance; take the median, which is equally far from both.
  const best: number[] = [];
  between.forEach((explains, i) => {
    if (explains >= most * (1 - 1e-9)) best.push(i);
  });
  const chosen = Math.trunc(median(best));
  const threshold = edges[chosen + 1] ?? 0;
  let variance = 0;
  for (let i = 0; i < BINS; i++) variance += (counts[i] ?? 0) * ((middles[i] ?? 0) - whole / total) ** 2;
  return {
    levels,
    width,
    height,
    threshold,
    dark: dark[chosen] ?? 0,
    light: light[chosen] ?? 0,
    explained: (between[chosen] ?? 0) / (variance / total),
    lightPaper: median(border(levels, width, height)) > threshold,
  };
}

/** np.histogram with equal bins: a level on an edge belongs to the upper bin, the highest level to the last bin. */
function histogram(levels: Float64Array, low: number, high: number, edges: Float64Array): Float64Array {
  const counts = new Float64Array(BINS);
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i] ?? 0;
    let bin = Math.trunc(((level - low) / (high - low)) * BINS);
    if (bin === BINS) bin -= 1;
    if (level < (edges[bin] ?? 0)) bin -= 1;
    else if (level >= (edges[bin + 1] ?? 0) && bin !== BINS - 1) bin += 1;
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  return counts;
}

function border(levels: Float64Array, width: number, height: number): number[] {
  const found: number[] = [];
  for (let x = 0; x < width; x++) found.push(levels[x] ?? 0, levels[(height - 1) * width + x] ?? 0);
  for (let y = 0; y < height; y++) found.push(levels[y * width] ?? 0, levels[(y + 1) * width - 1] ?? 0);
  return found;
}

/** Mask: 1 for paper. */
export function paperOf({ levels, threshold, lightPaper }: Separation): Uint8Array {
  const paper = new Uint8Array(levels.length);
  for (let i = 0; i < levels.length; i++) paper[i] = (levels[i] ?? 0) > threshold === lightPaper ? 1 : 0;
  return paper;
}

/** Amount of ink 0…1: 1 at the mean level of ink, 0 at the mean level of paper and where no ink is adjacent. */
export function inkOf(separation: Separation): Float64Array {
  const { levels, width, height, lightPaper } = separation;
  const [paper, ink] = lightPaper ? [separation.light, separation.dark] : [separation.dark, separation.light];
  const isPaper = paperOf(separation);
  const out = new Float64Array(levels.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (isPaper[y * width + x] === 1) continue;
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const at = v * width + u;
          out[at] = Math.min(1, Math.max(0, ((levels[at] ?? 0) - paper) / (ink - paper)));
        }
      }
    }
  }
  return out;
}
