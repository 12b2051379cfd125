/** One colour for each symbol, and a colour and a shape for each label. */

/** CSS custom properties: `color: var(--z)`. */
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

export const MARKS: readonly Mark[] = ["circle", "square", "triangle", "diamond", "cross", "plus", "ring"];

/** Hues that stay apart for most colour-blind readers (after Paul Tol's "bright" and "muted"); tokens.css has them. */
const COLOURS = 10;

export interface LabelStyle {
  /** For CSS: `var(--label-3)`. */
  colour: string;
  shape: Mark;
}

/** 10 colours and 7 shapes share no divisor, so 70 labels differ in one or both; after them they come round again. */
export function labelStyle(label: number): LabelStyle {
  const k = Math.max(0, Math.floor(label));
  return { colour: `var(--label-${k % COLOURS})`, shape: MARKS[k % MARKS.length] ?? "circle" };
}

/** A custom property's value where `element` stands, for a canvas, which does not know of `var()`. */
export function resolved(property: string, element: Element): string {
  return getComputedStyle(element).getPropertyValue(property).trim();
}

/** A label's colour for a canvas. */
export function colourOf(label: number, element: Element): string {
  return resolved(`--label-${Math.max(0, Math.floor(label)) % COLOURS}`, element);
}

/** Adds a label's mark about (x, y) to the current path, `size` from side to side; some are to be stroked: see `stroked`. */
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

/** Whether a mark is drawn by its line rather than filled. */
export function stroked(shape: Mark): boolean {
  return shape === "cross" || shape === "plus" || shape === "ring";
}
