import { describe, expect, it } from "vitest";
import type { Kind, Manifest } from "../../lib/types";
import { average, density, deviations, divergence, fromPlane, grid, originOn, rate, reach, reparameterised } from "./algebra";
import { besideOf, clamped, modelOf, STEPS } from "./steps";

const xs = grid(-8, 8, 2001);

describe("the story's algebra", () => {
  it("writes a draw as μ + σ·ε", () => {
    const z = reparameterised(Float32Array.of(1, -2), Float32Array.of(0.5, 0), Float32Array.of(2, 9));
    expect([...z]).toEqual([2, -2]);
  });

  it("has densities that integrate to one", () => {
    const total = (y: number[]): number => y.reduce((sum, value) => sum + value, 0) * (16 / 2000);
    expect(total(xs.map((x) => density(x, 0.3, 0.7)))).toBeCloseTo(1, 6);
    expect(total(average(xs, [-1, 2, 0.5], [0.2, 0.4, 1]))).toBeCloseTo(1, 6);
  });

  it("computes the divergence of one Gaussian as its closed form does", () => {
    for (const [mean, deviation] of [[0, 1], [1.2, 0.3], [-0.5, 0.8]] as const) {
      expect(divergence(xs, average(xs, [mean], [deviation]))).toBeCloseTo(rate(mean, deviation), 5);
    }
  });

  it("finds the average of Gaussians closer to N(0, 1) than the Gaussians are on average", () => {
    const means = grid(-1.5, 1.5, 25);
    const widths = means.map(() => 0.5);
    const single = means.reduce((sum, mean) => sum + rate(mean, 0.5), 0) / means.length;
    expect(divergence(xs, average(xs, means, widths))).toBeLessThan(single / 10);
  });

  it("converts log-variance to standard deviation, 0 for an encoder without noise", () => {
    const [one, none] = deviations(Float32Array.of(Math.log(0.25), -Infinity));
    expect(one).toBeCloseTo(0.5, 6);
    expect(none).toBe(0);
  });

  it("maps to the principal plane and back", () => {
    const plane = { mean: [1, 2, 3], components: [[1, 0, 0], [0, 0, 1]] as [number[], number[]] };
    expect([...fromPlane(plane, [0.5, -1])]).toEqual([1.5, 2, 2]);
    expect(originOn(plane)).toEqual([-1, -3]);
    const [a, b] = originOn(plane);
    expect([...fromPlane(plane, [a, b])]).toEqual([0, 2, 0]);
  });

  it("finds a square that contains most points", () => {
    const column = Float32Array.from(grid(0, 10, 101));
    expect(reach([column, new Float32Array(101)], [0, 0], 0.5, 1)).toBeCloseTo(1.05 * 5, 5);
    expect(reach([column, column], [5, 5], 0.5, 9)).toBe(9);
  });
});

const page = (...kinds: Kind[]): Manifest =>
  ({ models: Object.fromEntries(kinds.map((kind) => [kind, {}])) }) as unknown as Manifest;

describe("the steps", () => {
  it("are seven, each with the model that it explains", () => {
    const all = page("ae", "vae", "cvae");
    expect(STEPS.map((_, at) => modelOf(all, at + 1))).toEqual(["ae", "ae", "vae", "vae", "vae", "vae", "cvae"]);
  });

  it("use another kind of model where possible, and otherwise report the missing one", () => {
    const alone = page("cvae");
    expect(STEPS.map((_, at) => modelOf(alone, at + 1))).toEqual([null, null, "cvae", "cvae", "cvae", null, "cvae"]);
    expect([besideOf(alone), besideOf(page("ae"))]).toEqual(["cvae", null]);
  });

  it("are limited to 1 to 7", () => {
    expect([0, 3.4, 99, NaN].map(clamped)).toEqual([1, 3, 7, 1]);
  });
});
