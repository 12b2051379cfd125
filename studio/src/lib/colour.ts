/** The colours of the symbols, and the colours and shapes of the labels. */

/** CSS custom property of each symbol, used as `color: var(--z)`. */
export const SYMBOLS = {
  x: "--x",
  y: "--y",
  z: "--z",
  mu: "--mu",
  sigma: "--sigma",
  epsilon: "--epsilon",
  xhat: "--xhat",
} as const;

export type Mark = "circle" | "square" | "triangle" | "diamond" | "cross" | "plus" | "ring";

const MARKS: readonly Mark[] = ["circle", "square", "triangle", "diamond", "cross", "plus", "ring"];

/** Number of label colours; tokens.css defines them, after Paul Tol's colour-blind-safe "bright" and "muted" schemes. */
export const COLOURS = 10;

export interface LabelStyle {
  /** CSS value, such as `var(--label-3)`. */
  colour: string;
  shape: Mark;
}

/** Colour and shape of a label. 10 colours and 7 shapes are coprime, so the first 70 labels are distinct; then they repeat. */
export function labelStyle(label: number): LabelStyle {
  const k = Math.max(0, Math.floor(label));
  return { colour: `var(--label-${k % COLOURS})`, shape: MARKS[k % MARKS.length] ?? "circle" };
}

/** The value of a custom property at `element`; for canvases, which do not support `var()`. */
export function resolved(property: string, element: Element): string {
  return getComputedStyle(element).getPropertyValue(property).trim();
}

/** The colour of a label, for use in a canvas. */
export function colourOf(label: number, element: Element): string {
  return resolved(`--label-${Math.max(0, Math.floor(label)) % COLOURS}`, element);
}

/** Add a label's mark, centred at (x, y) and `size` wide, to the current path; `stroked` tells whether to stroke or fill it. */
export function trace(context: CanvasRenderingContext2D | Path2D, shape: Mark, x: number, y: number, size: number): void {
  const r = size / 2;
  switch (shape) {
    case "circle":
      context.moveTo(x + r, y);
      context.arc(x, y, r, 0, 2 * Math.PI);
      break;
    case "ring":
      context.moveTo(x + r * 0.85, y);
      context.arc(x, y, r * 0.85, 0, 2 * Math.PI);
      break;
    case "square":
      context.rect(x - r * 0.85, y - r * 0.85, 1.7 * r, 1.7 * r);
      break;
    case "triangle":
      context.moveTo(x, y - r);
      context.lineTo(x + r, y + r * 0.8);
      context.lineTo(x - r, y + r * 0.8);
      context.closePath();
      break;
    case "diamond":
      context.moveTo(x, y - 1.15 * r);
      context.lineTo(x + 1.15 * r, y);
      context.lineTo(x, y + 1.15 * r);
      context.lineTo(x - 1.15 * r, y);
      context.closePath();
      break;
    case "cross":
      context.moveTo(x - r * 0.8, y - r * 0.8);
      context.lineTo(x + r * 0.8, y + r * 0.8);
      context.moveTo(x + r * 0.8, y - r * 0.8);
      context.lineTo(x - r * 0.8, y + r * 0.8);
      break;
    case "plus":
      context.moveTo(x - r, y);
      context.lineTo(x + r, y);
      context.moveTo(x, y - r);
      context.lineTo(x, y + r);
      break;
  }
}

/** Whether a mark is stroked rather than filled. */
export function stroked(shape: Mark): boolean {
  return shape === "cross" || shape === "plus" || shape === "ring";
}
