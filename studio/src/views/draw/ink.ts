/** Strokes on a canvas: black ink of one width on white paper, from which the model's image is prepared. */
import { smooth, type Stroke } from "./strokes";

/** Pixels of a side of the sheet behind the canvas. */
export const SHEET = 280;

/** Width of the pen on the sheet, about what a digit of MNIST has for its height. */
export const PEN = 20;

/** What of a canvas' context is needed to draw ink. */
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

/** The whole sheet anew: white paper, then each stroke. */
export function paint(pen: Pen, strokes: readonly Stroke[], side = SHEET): void {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, side, side);
  for (const stroke of strokes) trace(pen, stroke);
}

/** One stroke on top of what is there. */
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
