/** Pixel values 0…1 drawn on a canvas. */
import type { Shape } from "./types";

/** Image number `index` of n×C×H×W as RGBA, rounded as in Python: level = round(255·x). */
export function rgba(pixels: Float32Array, index: number, [C, H, W]: Shape): Uint8ClampedArray<ArrayBuffer> {
  const out = new Uint8ClampedArray(4 * H * W);
  const plane = H * W;
  const from = index * C * plane;
  for (let i = 0; i < plane; i++) {
    for (let channel = 0; channel < 3; channel++) {
      out[4 * i + channel] = Math.round(255 * (pixels[from + (C === 3 ? channel : 0) * plane + i] ?? 0));
    }
    out[4 * i + 3] = 255;
  }
  return out;
}

/** Draw image `index` at 1:1: the canvas becomes W×H, and CSS enlarges it without smoothing. */
export function paint(canvas: HTMLCanvasElement, pixels: Float32Array, index: number, shape: Shape): void {
  const [, H, W] = shape;
  if (canvas.width !== W) canvas.width = W;
  if (canvas.height !== H) canvas.height = H;
  canvas.getContext("2d")?.putImageData(new ImageData(rgba(pixels, index, shape), W, H), 0, 0);
}
