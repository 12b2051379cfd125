/** Random numbers, marks, pixels and the arithmetic of the map. */
import { expect, test } from "vitest";

import { labelStyle } from "./colour";
import { cells } from "./first";
import { movedTo, oneHot, oneHotRows, onMap, repeated } from "./latent";
import { rgba } from "./pixels";
import { normal, uniform } from "./rng";
import { modelFacts } from "./testing";
import { unpack } from "./unpack";

test("draws are determined by their seed, and standard normal", () => {
  expect(normal(3, 5)).toEqual(normal(3, 5));
  expect(normal(3, 4)).toEqual(normal(3, 5).slice(0, 4));
  expect(normal(3, 4)).not.toEqual(normal(4, 4));
  const many = normal(1, 100_001);
  const mean = many.reduce((a, b) => a + b) / many.length;
  const variance = many.reduce((a, b) => a + (b - mean) ** 2, 0) / many.length;
  expect(Math.abs(mean)).toBeLessThan(0.02);
  expect(Math.abs(variance - 1)).toBeLessThan(0.03);
  expect(uniform(1, 1000).every((u) => u > 0 && u < 1)).toBe(true);
});

test("the draws of a seed never change, since links depend on them", () => {
  expect([...normal(1, 3)].map((value) => value.toFixed(5))).toMatchInlineSnapshot(`
    [
      "-0.92128",
      "-0.54572",
      "0.44253",
    ]
  `);
});

test("seventy labels differ in colour or shape, and a thousand have one", () => {
  const seen = new Set(Array.from({ length: 70 }, (_, k) => JSON.stringify(labelStyle(k))));
  expect(seen.size).toBe(70);
  expect(labelStyle(999)).toHaveProperty("shape");
});

test("labels as weights", () => {
  expect([...(oneHot(modelFacts("cvae"), 3, 1, 2) ?? [])]).toEqual([0, 1, 0, 0, 1, 0]);
  expect([...oneHotRows([2, 0], 3)]).toEqual([0, 0, 1, 1, 0, 0]);
  expect(oneHot(modelFacts("vae"), 3, 1)).toBeNull();
  expect([...repeated(Float32Array.of(1, 2), 2)]).toEqual([1, 2, 1, 2]);
});

test("a point moved on the map lands there, and orthogonal directions do not change", () => {
  const model = modelFacts("vae");
  const z = Float32Array.of(1, -2, 0.5);
  for (const axes of ["principal", [0, 1], [2, 0]] as ("principal" | [number, number])[]) {
    const moved = movedTo(model, axes, z, [0.3, -0.7]);
    onMap(model, axes, moved).forEach((value, at) => expect(value).toBeCloseTo([0.3, -0.7][at] ?? 0, 5));
  }
  expect(movedTo(model, "principal", z, [0, 0])[2]).toBe(0.5);
});

test("levels are rounded as in Python, grey and colour", () => {
  expect([...rgba(Float32Array.of(0, 1, 0.5, 0.1), 1, [1, 1, 2])]).toEqual([128, 128, 128, 255, 26, 26, 26, 255]);
  expect([...rgba(Float32Array.of(0, 0.2, 1), 0, [3, 1, 1])]).toEqual([0, 51, 255, 255]);
});

test("a grid is cut into its cells row by row", () => {
  const grey = [1, 2, 3, 4, 5, 6, 7, 8]; // two rows of two cells, each 1×2
  const data = Uint8ClampedArray.from(grey.flatMap((value) => [value, value, value, 255]));
  expect([...cells(data, [1, 1, 2], 2, 2)].map((value) => Math.round(value * 255))).toEqual(grey);
  expect([...cells(data, [1, 2, 2], 1, 2)].map((value) => Math.round(value * 255))).toEqual([1, 2, 5, 6, 3, 4, 7, 8]);
});

test("packed bytes are restored, and damaged ones are reported", async () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) % 251);
  const packed = await new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
  const base64 = Buffer.from(packed).toString("base64");
  expect(new Uint8Array(await unpack({ packed: ` ${base64}\n` }, "x"))).toEqual(bytes);
  await expect(unpack({ packed: base64.slice(0, 400) }, "model.onnx")).rejects.toThrow("model.onnx is damaged");
});
