/** The precomputed picture, shown before the runtime is loaded. */
import type { First } from "./state.svelte";
import type { Bundle, Manifest } from "./types";

/** Load the precomputed picture; null if there is none or it cannot be read: the page then waits for the model. */
export async function loadFirst(bundle: Bundle, manifest: Manifest): Promise<First | null> {
  const facts = manifest.first;
  if (facts === null) return null;
  try {
    const image = await createImageBitmap(new Blob([await bundle(facts.file)], { type: "image/png" }));
    const [, H, W] = manifest.shape;
    if (image.width !== facts.columns * W || image.height !== facts.rows * H) return null;
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (context === null) return null;
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    return { pixels: cells(data, manifest.shape, facts.rows, facts.columns), ...facts };
  } catch {
    return null;
  }
}

/** Split the RGBA data of a grid without gaps into images: (rows·columns)×C×H×W, 0…1. */
export function cells(
  data: Uint8ClampedArray,
  [C, H, W]: Manifest["shape"],
  rows: number,
  columns: number,
): Float32Array {
  const out = new Float32Array(rows * columns * C * H * W);
  let at = 0;
  for (let cell = 0; cell < rows * columns; cell++) {
    const top = Math.floor(cell / columns) * H;
    const left = (cell % columns) * W;
    for (let channel = 0; channel < C; channel++) {
      for (let y = 0; y < H; y++) {
        for (let x = 0; x < W; x++) {
          out[at++] = (data[4 * ((top + y) * columns * W + left + x) + channel] ?? 0) / 255;
        }
      }
    }
  }
  return out;
}
