/** Loading of the map's files: the points and the sprite sheet of their images. */
import type { Bundle, PointsFacts, Shape } from "../../lib/types";
import { parsePoints, type Points } from "./points";

export interface Thumbs {
  count: number;
  /** Draw image number `dot` on a canvas at 1:1. */
  draw(canvas: HTMLCanvasElement, dot: number): void;
}

export async function loadPoints(bundle: Bundle, facts: PointsFacts): Promise<Points> {
  return parsePoints(await bundle(facts.file), facts);
}

/** Load the sprite sheet; null if there is none or it cannot be read: the dots then have no images. */
export async function loadThumbs(bundle: Bundle, facts: PointsFacts, [, H, W]: Shape): Promise<Thumbs | null> {
  if (facts.thumbs === null) return null;
  try {
    const sheet = await createImageBitmap(new Blob([await bundle(facts.thumbs)], { type: "image/png" }));
    return {
      count: facts.thumbs_count,
      draw(canvas, dot) {
        canvas.width = W;
        canvas.height = H;
        const [column, row] = [dot % facts.thumbs_columns, Math.floor(dot / facts.thumbs_columns)];
        canvas.getContext("2d")?.drawImage(sheet, column * W, row * H, W, H, 0, 0, W, H);
      },
    };
  } catch {
    return null;
  }
}
