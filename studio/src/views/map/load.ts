/** The map's files of the bundle: the points, and the sheet of the images that they are of. */
import type { Bundle, PointsFacts, Shape } from "../../lib/types";
import { parsePoints, type Points } from "./points";

export interface Thumbs {
  count: number;
  /** Puts image number `dot` on a canvas at 1:1. */
  draw(canvas: HTMLCanvasElement, dot: number): void;
}

export async function loadPoints(bundle: Bundle, facts: PointsFacts): Promise<Points> {
  return parsePoints(await bundle(facts.file), facts);
}

/** Null where there are none, or they cannot be read: the dots do without. */
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
