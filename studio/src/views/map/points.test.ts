import { describe, expect, it } from "vitest";

import { normal } from "../../lib/rng";
import { gridOf, nearest } from "./nearest";
import { columnsFor, NO_LABEL, parsePoints } from "./points";
import { shareBeyond, supportAt } from "./support";

const facts = {
  file: "vae-points.bin",
  count: 2,
  axes: [4, 1],
  scale: 1 / 2048,
  split: "test",
  thumbs: null,
  thumbs_columns: 100,
  thumbs_count: 0,
};

function bytes(): ArrayBuffer {
  const data = new DataView(new ArrayBuffer(2 * (2 * 4 + 2)));
  const values = [2048, -1024, 512, 0, -2048, 32767, -32768, 1, 7, NO_LABEL];
  values.forEach((value, at) => data.setUint16(2 * at, value & 0xffff, true));
  return data.buffer;
}

describe("the points file", () => {
  it("is read by row: axes, principal components, then labels", () => {
    const points = parsePoints(bytes(), facts);
    expect(points.columns.map((column) => [...column])).toEqual([
      [1, -1],
      [-0.5, 32767 / 2048],
      [0.25, -16],
      [0, 1 / 2048],
    ]);
    expect([...points.labels]).toEqual([7, NO_LABEL]);
  });

  it("gives the columns of a plane, in the plane's order, or null", () => {
    const points = parsePoints(bytes(), facts);
    expect(columnsFor(points, [1, 4])?.[0][0]).toBe(-0.5);
    expect(columnsFor(points, "principal")?.[0][0]).toBe(0.25);
    expect(columnsFor(points, [4, 3])).toBeNull();
  });

  it("is refused when it is cut short", () => {
    expect(() => parsePoints(bytes().slice(2), facts)).toThrow("vae-points.bin holds 18 bytes, not 20");
  });
});

describe("the nearest dot", () => {
  const places = normal(3, 4000);
  const grid = gridOf(places);

  it("is that of a search through all dots", () => {
    const queries = normal(4, 400);
    for (let q = 0; q < 200; q++) {
      const [u, v] = [1.4 * (queries[2 * q] ?? 0), 1.4 * (queries[2 * q + 1] ?? 0)];
      let [best, distance] = [-1, 0.3];
      for (let i = 0; i < 2000; i++) {
        const apart = Math.hypot((places[2 * i] ?? 0) - u, (places[2 * i + 1] ?? 0) - v);
        if (apart <= distance) [best, distance] = [i, apart];
      }
      const found = nearest(grid, [u, v], 0.3);
      expect(found?.index ?? -1).toBe(best);
      if (found) expect(found.distance).toBeCloseTo(distance, 12);
    }
  });

  it("passes over dots that do not count", () => {
    const first = nearest(grid, [0, 0], 1);
    const second = nearest(grid, [0, 0], 1, (index) => index !== first?.index);
    expect(second?.distance).toBeGreaterThan(first?.distance ?? NaN);
  });

  it("finds dots beyond the grid's edge", () => {
    expect(nearest(gridOf(Float32Array.of(9, -11)), [9.1, -11], 0.2)?.index).toBe(0);
  });
});

describe("what is said of a place", () => {
  const grid = gridOf(normal(5, 20_000));

  it("is nothing where images lie", () => {
    expect(supportAt([1, -1], grid)).toEqual({ outside: false, line: "" });
  });

  it("is that no training image lies there, far out", () => {
    const { outside, line } = supportAt([4, 4], grid);
    expect(outside).toBe(true);
    expect(line).toBe("Outside 2.5 σ: no training image lies here.");
  });

  it("does not deny the few that do", () => {
    const { outside, line } = supportAt([2.55, 0], grid);
    expect(outside).toBe(true);
    expect(line).toMatch(/almost no training image lies here \(3\.\d % so far out\)/);
    expect(shareBeyond(grid.places, 2.55)).toBeCloseTo(Math.exp(-(2.55 ** 2) / 2), 2);
  });

  it("names a gap between many dots, and not between few", () => {
    const ring = Float32Array.from({ length: 4000 }, (_, i) => 2 * (i % 2 === 0 ? Math.cos(i) : Math.sin(i - 1)));
    expect(supportAt([0, 0], gridOf(ring)).line).toMatch(/^A gap/);
    expect(supportAt([0, 0], gridOf(ring.subarray(0, 600))).outside).toBe(false);
    expect(supportAt([0, 0], null).outside).toBe(false);
  });
});
