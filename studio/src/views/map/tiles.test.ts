import { describe, expect, it } from "vitest";

import { ink } from "./tiler";
import { apart, cornersOf, nextSlice, outward, placeOfTile, planFor, serves, SIDE } from "./tiles";
import { panned, toPlane, whole, zoomed } from "./view";

describe("the tiles", () => {
  const view = whole(500, 500);

  it("are on a lattice about the centre, row 0 on top", () => {
    const plan = planFor(view);
    expect(placeOfTile(plan, (SIDE * SIDE - 1) / 2)).toEqual([0, 0]);
    const [u, v] = placeOfTile(plan, 0);
    expect(u).toBeCloseTo(-2.8, 10);
    expect(v).toBeCloseTo(2.8, 10);
    expect(cornersOf(plan)).toEqual({ left: -3, top: 3, right: 3, bottom: -3 });
  });

  it("cover the view at every zoom from the whole map on", () => {
    for (const factor of [2, 2.7, 3.99, 4, 9]) {
      const near = zoomed(view, [330, 200], factor);
      const { left, right, top, bottom } = cornersOf(planFor(near));
      const [u0, v0] = toPlane(near, [0, 0]);
      const [u1, v1] = toPlane(near, [500, 500]);
      const cell = planFor(near).cell;
      // up to the rim of the whole map and half a tile of rounding
      const rim = 0.4 * ((u1 - u0) / 6.8) + cell;
      expect(left - u0).toBeLessThan(rim);
      expect(u1 - right).toBeLessThan(rim);
      expect(v0 - top).toBeLessThan(rim);
      expect(bottom - v1).toBeLessThan(rim);
    }
  });

  it("are kept for a small movement, not for a large one", () => {
    const near = zoomed(view, [250, 250], 4);
    const plan = planFor(near);
    expect(serves(plan, panned(near, 20, 20))).toBe(true);
    expect(serves(plan, panned(near, 300, 0))).toBe(false);
    expect(serves(plan, zoomed(near, [250, 250], 2.2))).toBe(false);
  });

  it("are ordered from the centre outwards, each once", () => {
    const order = outward();
    expect(new Set(order).size).toBe(SIDE * SIDE);
    expect(order[0]).toBe((SIDE * SIDE - 1) / 2);
    expect([0, SIDE - 1, SIDE * SIDE - 1]).toContain(order[SIDE * SIDE - 1]);
  });

  it("are decoded in batches of about the target time", () => {
    expect(nextSlice(4, 1)).toBe(8); // at most twice as many
    expect(nextSlice(16, 48)).toBe(8);
    expect(nextSlice(1, 900)).toBe(1);
    expect(nextSlice(32, 1)).toBe(32);
  });

  it("measures the largest difference of two points", () => {
    expect(apart(Float32Array.of(1, 2, 3), Float32Array.of(1, 2.5, 2.75))).toBeCloseTo(0.5);
  });
});

describe("ink", () => {
  it("makes contrasting pixels opaque, on dark and on light images", () => {
    const pixels = Float32Array.of(0, 1, 0.2, 0);
    expect([...ink(pixels, 1, [1, 1, 2], false)]).toEqual([0, 0, 0, 51, 0, 0, 0, 0]);
    expect([...ink(pixels, 1, [1, 1, 2], true)]).toEqual([0, 0, 0, 204, 0, 0, 0, 255]);
  });

  it("does not change colours", () => {
    expect([...ink(Float32Array.of(1, 0.2, 0), 0, [3, 1, 1], false)]).toEqual([255, 51, 0, 255]);
  });
});
