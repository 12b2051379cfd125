/** Rendering of strokes: black ink of constant width on white paper. */
import { smooth, type Stroke } from "./strokes";

/** Side length of the sheet in pixels. */
export const SHEET = 280;

/** Width of the pen in pixels, relative to the sheet as in MNIST's digits. */
export const PEN = 20;

/** The members of a canvas context that drawing needs. */
export type Pen = Pick<
  CanvasRenderingContext2D,
  | "beginPath"
  | "moveTo"
  | "lineTo"
  | "quadraticCurveTo"
  | "stroke"
  | "fillRect"
  | "fillStyle"
  | "strokeStyle"
  | "lineWidth"
  | "lineCap"
  | "lineJoin"
>;

/** Repaint the sheet: white paper, then all strokes. */
export function paint(pen: Pen, strokes: readonly Stroke[]): void {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, SHEET, SHEET);
  for (const stroke of strokes) trace(pen, stroke);
}

/** Draw one stroke. */
export function trace(pen: Pen, stroke: Stroke): void {
  pen.strokeStyle = "#000";
  pen.lineWidth = PEN;
  pen.lineCap = "round";
  pen.lineJoin = "round";
  pen.beginPath();
  for (const piece of smooth(stroke)) {
    if (piece.kind === "move") pen.moveTo(piece.to.x, piece.to.y);
    else if (piece.kind === "line") pen.lineTo(piece.to.x, piece.to.y);
    else pen.quadraticCurveTo(piece.control.x, piece.control.y, piece.to.x, piece.to.y);
  }
  pen.stroke();
}
