/** What an axis carries: the styles with which it is correlated. */
import type { ModelFacts } from "./types";

/** Least correlation, of either sign, of an axis that is said to carry a style. */
const LEAST = 0.3;

/** Below this correlation, with which an axis explains a quarter of the variance of a style, it is said to carry it partly. */
const MAINLY = 0.5;

/** "slant (r = 0.71), partly stroke width (r = −0.42)", the strongest first; "" if the axis carries none or none was measured. */
export function carried(model: ModelFacts, axis: number): string {
  return Object.entries(model.styles ?? {})
    .map(([name, correlations]) => ({ name, r: correlations[axis] ?? 0 }))
    .filter(({ r }) => Math.abs(r) >= LEAST)
    .sort((a, b) => Math.abs(b.r) - Math.abs(a.r))
    .map(({ name, r }) => `${Math.abs(r) < MAINLY ? "partly " : ""}${name} (r = ${r < 0 ? "−" : ""}${Math.abs(r).toFixed(2)})`)
    .join(", ");
}
