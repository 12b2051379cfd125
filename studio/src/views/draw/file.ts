/** Reading of image files: the longer side has at most 512 pixels, and transparent pixels become white. */

const LARGEST = 512;

/** The size at which an image is read: its own, or reduced so that the longer side is `LARGEST`. */
export function fitted(width: number, height: number): { width: number; height: number } {
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** The largest centred crop with the aspect ratio of (H, W). */
export function cropped(
  width: number,
  height: number,
  [H, W]: [number, number],
): { x: number; y: number; width: number; height: number } {
  const scale = Math.min(width / W, height / H);
  const [w, h] = [W * scale, H * scale];
  return { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h };
}

/** Grey levels of RGBA pixels on white by ITU-R 601-2, as in Pillow. */
export function greyOf(rgba: Uint8ClampedArray): Uint8ClampedArray {
  const grey = new Uint8ClampedArray(rgba.length / 4);
  for (let at = 0; at < grey.length; at++) {
    const alpha = (rgba[4 * at + 3] ?? 255) / 255;
    const over = (channel: number): number => Math.round((rgba[4 * at + channel] ?? 0) * alpha + 255 * (1 - alpha));
    grey[at] = (over(0) * 19595 + over(1) * 38470 + over(2) * 7471 + 0x8000) >> 16;
  }
  return grey;
}

/** RGBA pixels in the model's format, C×H×W, 0…1. */
export function planesOf(rgba: Uint8ClampedArray, channels: number): Float32Array {
  const count = rgba.length / 4;
  const planes = new Float32Array(channels * count);
  const grey = channels === 1 ? greyOf(rgba) : null;
  for (let at = 0; at < count; at++) {
    for (let channel = 0; channel < channels; channel++) {
      planes[channel * count + at] = ((grey ? grey[at] : rgba[4 * at + channel]) ?? 0) / 255;
    }
  }
  return planes;
}

interface Size {
  width: number;
  height: number;
}

async function opened(file: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error("This browser cannot read that file as an image. Choose a PNG, JPEG or WebP file.");
  }
}

function pixelsOf(bitmap: ImageBitmap, from: { x: number; y: number; width: number; height: number }, to: Size): ImageData {
  const canvas = document.createElement("canvas");
  canvas.width = to.width;
  canvas.height = to.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("The image cannot be read: this browser provides no canvas.");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, to.width, to.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, from.x, from.y, from.width, from.height, 0, 0, to.width, to.height);
  return context.getImageData(0, 0, to.width, to.height);
}

/** Read a file with its own aspect ratio; the longer side has at most 512 pixels. */
export async function readWhole(file: Blob): Promise<ImageData> {
  const bitmap = await opened(file);
  const whole = { x: 0, y: 0, width: bitmap.width, height: bitmap.height };
  const pixels = pixelsOf(bitmap, whole, fitted(bitmap.width, bitmap.height));
  bitmap.close();
  return pixels;
}

/** Read the centre of a file at the size of the model's images. */
export async function readCropped(file: Blob, size: [number, number]): Promise<ImageData> {
  const bitmap = await opened(file);
  const pixels = pixelsOf(bitmap, cropped(bitmap.width, bitmap.height, size), { width: size[1], height: size[0] });
  bitmap.close();
  return pixels;
}
