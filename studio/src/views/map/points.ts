/** Encoded test images from the bundle's points file: 16-bit coordinates row by row, then the labels. */
import type { MapAxes } from "../../lib/latent";
import type { PointsFacts } from "../../lib/types";

export const NO_LABEL = 65535;

export interface Points {
  count: number;
  /** Axes that have a column. */
  axes: number[];
  /** One column per axis, then the two principal components. */
  columns: Float32Array[];
  labels: Uint16Array;
}

export function parsePoints(bytes: ArrayBuffer, facts: PointsFacts): Points {
  const width = facts.axes.length + 2;
  const expected = facts.count * (width + 1) * 2;
  if (bytes.byteLength !== expected) {
    throw new Error(`${facts.file} holds ${bytes.byteLength} bytes, not ${expected}: export the run again`);
  }
  const data = new DataView(bytes);
  const columns = Array.from({ length: width }, () => new Float32Array(facts.count));
  columns.forEach((column, at) => {
    for (let row = 0; row < facts.count; row++) column[row] = facts.scale * data.getInt16(2 * (row * width + at), true);
  });
  const labels = new Uint16Array(facts.count);
  for (let row = 0; row < facts.count; row++) labels[row] = data.getUint16(2 * (facts.count * width + row), true);
  return { count: facts.count, axes: facts.axes, columns, labels };
}

/** The two columns of a map with these axes; null if the file does not contain them. */
export function columnsFor(points: Points, axes: MapAxes): [Float32Array, Float32Array] | null {
  const at = axes === "principal" ? [points.axes.length, points.axes.length + 1] : axes.map((axis) => points.axes.indexOf(axis));
  const [first, second] = [points.columns[at[0] ?? -1], points.columns[at[1] ?? -1]];
  return first && second ? [first, second] : null;
}
