/** The preparation of drawings is compared with Python, and with itself after a shift or scaling. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

import { describe, expect, test } from "vitest";

import { prepare } from "./prepare";

interface Case {
  width: number;
  height: number;
  size: [number, number];
  grey: string;
  expected: { levels: string; inverted: boolean; shading: boolean } | null;
}

const FILE = process.env["VECTORS"] ?? fileURLToPath(new URL("./prepare/vectors.json.gz", import.meta.url));
const cases = JSON.parse(gunzipSync(readFileSync(FILE)).toString()) as Case[];
const bytes = (text: string): Uint8ClampedArray => new Uint8ClampedArray(Buffer.from(text, "base64"));

function largest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs((a[i] ?? 0) - (b[i] ?? 0)));
  return most;
}

function meanDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs((a[i] ?? 0) - (b[i] ?? 0));
  return sum / a.length;
}

/** A hook drawn with a round pen on a 280×280 canvas, `dx` pixels right of the centre, scaled by `size`. */
function hook(dx: number, size: number): Uint8ClampedArray {
  const canvas = new Uint8ClampedArray(280 * 280).fill(250);
  for (let t = 0; t <= 1; t += 0.005) {
    const x = 140 + dx + size * (60 * Math.cos(4.5 * t));
    const y = 140 + size * (120 * t - 60);
    for (let v = Math.floor(y - 10); v <= y + 10; v++) {
      for (let u = Math.floor(x - 10); u <= x + 10; u++) {
        const ink = Math.min(1, Math.max(0, 9.5 - Math.hypot(u - x, v - y)));
        const at = v * 280 + u;
        canvas[at] = Math.min(canvas[at] ?? 255, 250 - 230 * ink);
      }
    }
  }
  return canvas;
}

function read(canvas: Uint8ClampedArray): Uint8Array {
  const prepared = prepare(canvas, 280, 280, [28, 28]);
  if (prepared === null) throw new Error("no ink was found in a drawing");
  return prepared.levels;
}

describe("against Python", () => {
  test(`${cases.length} drawings agree to 1/255`, () => {
    expect(cases.length).toBeGreaterThanOrEqual(40);
    expect(cases.filter(({ expected }) => expected?.shading).length).toBeGreaterThanOrEqual(1);
    expect(cases.filter(({ expected }) => expected?.inverted === false).length).toBeGreaterThanOrEqual(5);
    const wrong: string[] = [];
    cases.forEach(({ width, height, size, grey, expected }, number) => {
      const got = prepare(bytes(grey), width, height, size);
      if (got === null || expected === null) {
        if (got !== expected) wrong.push(`${number}: empty only ${got === null ? "here" : "in Python"}`);
        return;
      }
      const off = largest(got.levels, bytes(expected.levels));
      if (off > 1) wrong.push(`${number}: ${off} levels apart`);
      if (got.inverted !== expected.inverted || got.shading !== expected.shading) wrong.push(`${number}: inverted or shading differ`);
    });
    expect(wrong).toEqual([]);
  }, 600_000);
});

describe("of one drawing", () => {
  test("a shift by 4 pixels changes nothing", () => {
    expect(meanDifference(read(hook(4, 1)), read(hook(0, 1)))).toBeLessThan(0.2);
  });

  test("scaling by 20 % changes little: only the relative pen width", () => {
    const middle = read(hook(0, 1));
    expect(meanDifference(read(hook(0, 1.2)), middle)).toBeLessThan(20);
    expect(meanDifference(read(hook(0, 0.8)), middle)).toBeLessThan(20);
    expect(meanDifference(read(hook(0, -1)), middle)).toBeGreaterThan(40); // a different shape differs more
  });

  test("an empty canvas gives null", () => {
    expect(prepare(new Uint8ClampedArray(280 * 280).fill(255), 280, 280, [28, 28])).toBeNull();
    expect(prepare(new Uint8ClampedArray(280 * 280), 280, 280, [28, 28])).toBeNull();
  });
});
