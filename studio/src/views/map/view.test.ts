import { describe, expect, it } from "vitest";

import { carriedOver, inSight, panned, resized, toPlane, toScreen, whole, zoomed, zoomOf } from "./view";

describe("the view", () => {
  const view = zoomed(whole(500, 500), [120, 310], 3);

  it("converts positions to pixels and back, with the second axis upwards", () => {
    const [u, v] = toPlane(view, toScreen(view, [0.7, -1.3]));
    expect(u).toBeCloseTo(0.7, 12);
    expect(v).toBeCloseTo(-1.3, 12);
    expect(toScreen(whole(500, 500), [0, 1])[1]).toBeLessThan(250);
  });

  it("keeps the point under the pointer when zooming", () => {
    const before = toPlane(view, [50, 400]);
    const after = toPlane(zoomed(view, [50, 400], 1.7), [50, 400]);
    expect(after[0]).toBeCloseTo(before[0], 10);
    expect(after[1]).toBeCloseTo(before[1], 10);
  });

  it("limits the zoom", () => {
    expect(zoomOf(zoomed(view, [0, 0], 1e9))).toBeCloseTo(24, 6);
    expect(zoomOf(zoomed(view, [0, 0], 1e-9))).toBeCloseTo(0.5, 6);
  });

  it("follows the finger when panning, within limits", () => {
    const at = toPlane(view, [200, 200]);
    const [u, v] = toPlane(panned(view, 30, -10), [230, 190]);
    expect([u, v]).toEqual([expect.closeTo(at[0], 10), expect.closeTo(at[1], 10)]);
    expect(panned(view, -1e7, 0).centre[0]).toBe(6);
  });

  it("shows the same part on a larger canvas", () => {
    const larger = resized(view, 1000, 1000);
    expect(zoomOf(larger)).toBeCloseTo(zoomOf(view), 10);
    expect(toPlane(larger, [0, 0])[0]).toBeCloseTo(toPlane(view, [0, 0])[0], 10);
  });

  it("maps an old image to the new view", () => {
    const now = panned(zoomed(view, [10, 20], 1.5), 7, 9);
    const [x, y, width] = carriedOver(view, now);
    const [px, py] = toScreen(view, [0.2, 0.1]);
    const [qx, qy] = toScreen(now, [0.2, 0.1]);
    expect(x + (px * width) / view.width).toBeCloseTo(qx, 8);
    expect(y + (py * width) / view.width).toBeCloseTo(qy, 8);
  });

  it("tells whether a position is visible", () => {
    expect(inSight(view, toPlane(view, [5, 495]))).toBe(true);
    expect(inSight(view, toPlane(view, [-40, 250]))).toBe(false);
  });
});
