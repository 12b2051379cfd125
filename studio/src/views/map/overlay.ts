/** The top layer of the map, redrawn each frame: the posterior, the marked dot, the point and its image. */
import { stroked, trace } from "../../lib/colour";
import type { Ellipse } from "./frame";
import type { Palette } from "./scene";
import { type Point, toScreen, type View } from "./view";

/** Draw a posterior as ellipses of one and two standard deviations. */
export function drawEllipse(context: CanvasRenderingContext2D, view: View, ellipse: Ellipse, palette: Palette): void {
  const [x, y] = toScreen(view, ellipse.centre);
  context.strokeStyle = context.fillStyle = palette.mu;
  for (const sigmas of [2, 1]) {
    const radii = ellipse.radii.map((radius) => Math.max(1.5, sigmas * radius * view.scale));
    context.beginPath();
    context.ellipse(x, y, radii[0] ?? 0, radii[1] ?? 0, -ellipse.angle, 0, 2 * Math.PI);
    context.globalAlpha = sigmas === 1 ? 0.3 : 0.15;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = sigmas === 1 ? 2 : 1;
    context.stroke();
  }
}

/** Draw an enlarged dot with a contrasting rim. */
export function drawMarked(context: CanvasRenderingContext2D, view: View, at: Point, label: number, palette: Palette): void {
  const [x, y] = toScreen(view, at);
  const { colour, shape } = palette.markOf(label);
  const line = stroked(shape);
  context.beginPath();
  trace(context, shape, x, y, 12);
  context.lineJoin = "round";
  context.strokeStyle = palette.paper;
  context.lineWidth = line ? 7 : 5;
  context.stroke();
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 3;
  if (line) context.stroke();
  else context.fill();
}

/** Draw the point z: a ring with four short lines, filled when pinned. */
export function drawPoint(context: CanvasRenderingContext2D, view: View, at: Point, pinned: boolean, palette: Palette): void {
  const [x, y] = toScreen(view, at);
  const strokes: [string, number][] = [
    [palette.paper, 7],
    [palette.z, 3],
  ];
  for (const [colour, width] of strokes) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, 8, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]] as const) {
      context.moveTo(x + 8 * dx, y + 8 * dy);
      context.lineTo(x + 14 * dx, y + 14 * dy);
    }
    context.stroke();
  }
  if (pinned) {
    context.fillStyle = palette.z;
    context.beginPath();
    context.arc(x, y, 4, 0, 2 * Math.PI);
    context.fill();
  }
}

const LOUPE = 64;

/** The top left corner of the image next to the point, chosen so that the image stays on the canvas. */
function loupeAt(view: View, at: Point): Point {
  const [x, y] = toScreen(view, at);
  const gap = 18;
  const left = x + gap + LOUPE + 4 > view.width ? x - gap - LOUPE : x + gap;
  const top = y - gap - LOUPE < 4 ? y + gap : y - gap - LOUPE;
  return [
    Math.min(Math.max(4, left), Math.max(4, view.width - LOUPE - 4)),
    Math.min(Math.max(4, top), Math.max(4, view.height - LOUPE - 4)),
  ];
}

export function drawLoupe(
  context: CanvasRenderingContext2D,
  view: View,
  at: Point,
  picture: HTMLCanvasElement,
  palette: Palette,
): void {
  const [x, y] = loupeAt(view, at).map(Math.round) as [number, number];
  const height = Math.round((LOUPE * picture.height) / picture.width);
  context.fillStyle = palette.paper;
  context.strokeStyle = palette.z;
  context.lineWidth = 2;
  context.beginPath();
  context.roundRect(x - 2, y - 2, LOUPE + 4, height + 4, 6);
  context.fill();
  context.stroke();
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, x, y, LOUPE, height);
}
