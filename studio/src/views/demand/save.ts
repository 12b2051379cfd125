/** Export of an image as a PNG, enlarged without smoothing, and of a point as text. */
import { rgba } from "../../lib/pixels";
import type { Kind, Shape } from "../../lib/types";

/** Enlarge W×H RGBA pixels by the integer factor `times`. */
export function enlarged(
  picture: Uint8ClampedArray,
  [, H, W]: Shape,
  times: number,
): Uint8ClampedArray<ArrayBuffer> {
  const out = new Uint32Array(W * H * times * times);
  const words = new Uint32Array(picture.buffer, picture.byteOffset, W * H);
  for (let y = 0; y < H * times; y++) {
    const row = Math.floor(y / times) * W;
    for (let x = 0; x < W * times; x++) out[y * W * times + x] = words[row + Math.floor(x / times)] ?? 0;
  }
  return new Uint8ClampedArray(out.buffer);
}

/** Image 0 of `pixels` as a PNG. */
export async function png(pixels: Float32Array, shape: Shape, times: number): Promise<Blob> {
  const [, H, W] = shape;
  const canvas = document.createElement("canvas");
  canvas.width = W * times;
  canvas.height = H * times;
  const image = new ImageData(enlarged(rgba(pixels, 0, shape), shape, times), W * times, H * times);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => {
      if (blob) resolve(blob);
      else reject(new Error("the browser could not write the PNG"));
    }, "image/png");
  });
}

/** A file name that is valid on every system: letters, digits and hyphens. */
export function fileName(parts: readonly string[], suffix: string): string {
  const safe = parts.map((part) => part.normalize("NFKD").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, ""));
  return `${safe.filter((part) => part !== "").join("-").slice(0, 80) || "vaelab"}.${suffix}`;
}

export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The point as JSON, for `decode` in Python. float32 values have the fewest digits that restore them exactly. */
export function pointAsText(kind: Kind, label: string | null, z: Float32Array): string {
  const numbers = Array.from(z, (value) => shortest(value));
  return `{"model": ${JSON.stringify(kind)}, "label": ${JSON.stringify(label)}, "z": [${numbers.join(", ")}]}`;
}

function shortest(value: number): string {
  for (let digits = 1; digits <= 9; digits++) {
    const text = String(Number(value.toPrecision(digits)));
    if (Math.fround(Number(text)) === value) return text;
  }
  return String(value);
}
