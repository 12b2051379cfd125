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

  it("gives the columns of a plane in its order, or null", () => {
    const points = parsePoints(bytes(), facts);
    expect(columnsFor(points, [1, 4])?.[0][0]).toBe(-0.5);
    expect(columnsFor(points, "principal")?.[0][0]).toBe(0.25);
    expect(columnsFor(points, [4, 3])).toBeNull();
  });

  it("is rejected if it is truncated", () => {
    expect(() => parsePoints(bytes().slice(2), facts)).toThrow("vae-points.bin holds 18 bytes, not 20");
  });
});

describe("the nearest dot", () => {
  const places = normal(3, 4000);
  const grid = gridOf(places);

  it("is the one that a full search finds", () => {
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

  it("skips dots that do not satisfy the condition", () => {
    const first = nearest(grid, [0, 0], 1);
    const second = nearest(grid, [0, 0], 1, (index) => index !== first?.index);
    expect(second?.distance).toBeGreaterThan(first?.distance ?? NaN);
  });

  it("finds dots beyond the edge of the grid", () => {
    expect(nearest(gridOf(Float32Array.of(9, -11)), [9.1, -11], 0.2)?.index).toBe(0);
  });
});

describe("the support at a position", () => {
  const grid = gridOf(normal(5, 20_000));

  it("has no message where images are encoded", () => {
    expect(supportAt([1, -1], grid)).toEqual({ outside: false, line: "" });
  });

  it("reports that no image is nearby, far from the centre", () => {
    const { outside, line } = supportAt([4, 4], grid);
    expect(outside).toBe(true);
    expect(line).toBe("Outside 2.5 σ: no image is encoded near this point.");
  });

  it("reports few images where there are some", () => {
    const { outside, line } = supportAt([2.55, 0], grid);
    expect(outside).toBe(true);
    expect(line).toMatch(/few images are encoded here \(3\.\d % this far out\)/);
    expect(shareBeyond(grid.places, 2.55)).toBeCloseTo(Math.exp(-(2.55 ** 2) / 2), 2);
  });

  it("reports a gap between many dots, but not between few", () => {
    const ring = Float32Array.from({ length: 4000 }, (_, i) => 2 * (i % 2 === 0 ? Math.cos(i) : Math.sin(i - 1)));
    expect(supportAt([0, 0], gridOf(ring)).line).toMatch(/^Gap/);
    expect(supportAt([0, 0], gridOf(ring.subarray(0, 600))).outside).toBe(false);
    expect(supportAt([0, 0], null).outside).toBe(false);
  });
});
