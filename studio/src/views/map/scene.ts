/**
 * The layers of the map that do not change while the point moves: the ground (background and tiles) and the cloud (dots and
 * rings). Each is drawn on a separate canvas once per view; a frame of a drag only copies them and adds `overlay.ts`.
 */
import { colourOf, labelStyle, type Mark, resolved, stroked, trace } from "../../lib/colour";
import { FAR } from "../../lib/state.svelte";
import { NO_LABEL } from "./points";
import { cornersOf, type Plan } from "./tiles";
import { toScreen, type View, zoomOf } from "./view";

export interface Palette {
  paper: string;
  ink: string;
  soft: string;
  line: string;
  z: string;
  mu: string;
  font: string;
  /** Colour and shape of a label; a grey circle for a dot without a label. */
  markOf(label: number): { colour: string; shape: Mark };
}

export interface Dots {
  /** u, v, u, v, … */
  places: Float32Array;
  labels: Uint16Array;
  /** Whether the dots of a label are shown. */
  shown: (label: number) => boolean;
  /** The highlighted label; null: none. */
  chosen: number | null;
  /** Whether the dots are translucent, so that the tiles behind them are visible. */
  sheer: boolean;
}

export interface Tiles {
  canvas: HTMLCanvasElement;
  plan: Plan;
  /** Whether the images are grey and drawn as ink. */
  grey: boolean;
}

/** The current colours of the page; read them again when the colour scheme changes. */
export function paletteOf(element: Element): Palette {
  const known = new Map<number, { colour: string; shape: Mark }>();
  const soft = resolved("--soft", element);
  return {
    paper: resolved("--surface", element),
    ink: resolved("--ink", element),
    soft,
    line: resolved("--line", element),
    z: resolved("--z", element),
    mu: resolved("--mu", element),
    font: getComputedStyle(element).fontFamily,
    markOf(label) {
      let mark = known.get(label);
      if (!mark) {
        mark =
          label === NO_LABEL
            ? { colour: soft, shape: "circle" }
            : { colour: colourOf(label, element), shape: labelStyle(label).shape };
        known.set(label, mark);
      }
      return mark;
    },
  };
}

/** Size of a dot in CSS pixels; grows more slowly than the zoom. */
function dotSize(view: View, sheer: boolean): number {
  const base = view.width < 400 || sheer ? 4 : 5;
  return Math.min(12, Math.round(base * Math.max(1, zoomOf(view)) ** 0.45));
}

function ring(context: CanvasRenderingContext2D, view: View, radius: number): void {
  const [x, y] = toScreen(view, [0, 0]);
  context.moveTo(x + radius * view.scale, y);
  context.arc(x, y, radius * view.scale, 0, 2 * Math.PI);
}

function drawTiles(context: CanvasRenderingContext2D, view: View, tiles: Tiles, palette: Palette): void {
  const { left, top, right, bottom } = cornersOf(tiles.plan);
  const [x, y] = toScreen(view, [left, top]);
  const [right_, bottom_] = toScreen(view, [right, bottom]);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.globalAlpha = tiles.grey ? 0.6 : 0.7;
  context.drawImage(tiles.canvas, x, y, right_ - x, bottom_ - y);
  context.globalAlpha = 0.6; // fade the tiles outside the range of the images
  context.fillStyle = palette.paper;
  context.beginPath();
  context.rect(0, 0, view.width, view.height);
  ring(context, view, FAR);
  context.fill("evenodd");
  context.globalAlpha = 1;
}

function drawAxes(context: CanvasRenderingContext2D, view: View, palette: Palette): void {
  const [x, y] = toScreen(view, [0, 0]);
  context.strokeStyle = palette.line;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, Math.round(y) + 0.5);
  context.lineTo(view.width, Math.round(y) + 0.5);
  context.moveTo(Math.round(x) + 0.5, 0);
  context.lineTo(Math.round(x) + 0.5, view.height);
  context.stroke();
}

function drawRings(context: CanvasRenderingContext2D, view: View, palette: Palette): void {
  context.font = `12px ${palette.font}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const radius of [1, 2, 3]) {
    context.lineWidth = 1;
    context.strokeStyle = palette.ink;
    context.globalAlpha = 0.45;
    context.beginPath();
    ring(context, view, radius);
    context.stroke();
    context.globalAlpha = 1;
    const [x, y] = toScreen(view, [radius * Math.SQRT1_2, radius * Math.SQRT1_2]);
    context.lineWidth = 6;
    context.strokeStyle = palette.paper;
    context.strokeText(`${radius} σ`, x, y);
    context.fillStyle = palette.ink;
    context.fillText(`${radius} σ`, x, y);
  }
}

/** An image of a label's mark, in device pixels. */
function stamp(label: number, size: number, alpha: number, palette: Palette): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  const side = Math.ceil(size * 1.2) + 2;
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  const { colour, shape } = palette.markOf(label);
  context.globalAlpha = alpha;
  context.fillStyle = context.strokeStyle = colour;
  context.lineWidth = Math.max(1, size / 4);
  context.beginPath();
  trace(context, shape, side / 2, side / 2, size);
  if (stroked(shape)) context.stroke();
  else context.fill();
  return canvas;
}

function drawDots(context: CanvasRenderingContext2D, view: View, ratio: number, dots: Dots, palette: Palette): void {
  const size = dotSize(view, dots.sheer) * ratio;
  const stamps = new Map<number, HTMLCanvasElement>();
  const { places, labels } = dots;
  const [width, height] = [view.width * ratio, view.height * ratio];
  const scale = view.scale * ratio;
  const [left, top] = [width / 2 - view.centre[0] * scale, height / 2 + view.centre[1] * scale];
  const share = Math.min(1, Math.max(0.45, Math.sqrt(3000 / (labels.length + 1)))); // the more dots, the fainter each one
  const few = dots.sheer ? 0.12 * share : share;
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  const pass = (which: (label: number) => boolean, alpha: number): void => {
    stamps.clear();
    for (let i = 0; i < labels.length; i++) {
      const label = labels[i] ?? NO_LABEL;
      if (!which(label) || !dots.shown(label)) continue;
      const x = left + (places[2 * i] ?? 0) * scale;
      const y = top - (places[2 * i + 1] ?? 0) * scale;
      if (x < -size || y < -size || x > width + size || y > height + size) continue;
      let picture = stamps.get(label);
      if (!picture) stamps.set(label, (picture = stamp(label, size, alpha, palette)));
      context.drawImage(picture, Math.round(x - picture.width / 2), Math.round(y - picture.height / 2));
    }
  };
  if (dots.chosen === null) pass(() => true, Math.min(1, 1.5 * few));
  else {
    pass((label) => label !== dots.chosen, few);
    pass((label) => label === dots.chosen, dots.sheer ? 0.25 : 1);
  }
  context.restore();
}

function cleared(canvas: HTMLCanvasElement, view: View, ratio: number): CanvasRenderingContext2D | null {
  const [width, height] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context?.setTransform(ratio, 0, 0, ratio, 0, 0);
  context?.clearRect(0, 0, view.width, view.height);
  return context;
}

/** Draw the background, the tiles and the two axes. `ratio`: device pixels per CSS pixel. */
export function drawGround(
  canvas: HTMLCanvasElement,
  view: View,
  ratio: number,
  palette: Palette,
  tiles: Tiles | null,
): void {
  const context = cleared(canvas, view, ratio);
  if (!context) return;
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, view.width, view.height);
  if (tiles) drawTiles(context, view, tiles, palette);
  drawAxes(context, view, palette);
}

/** Draw the dots and the rings of N(0, I) on a transparent background. */
export function drawCloud(
  canvas: HTMLCanvasElement,
  view: View,
  ratio: number,
  palette: Palette,
  dots: Dots | null,
): void {
  const context = cleared(canvas, view, ratio);
  if (!context) return;
  if (dots) drawDots(context, view, ratio, dots, palette);
  drawRings(context, view, palette);
}
