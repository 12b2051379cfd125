import { describe, expect, it } from "vitest";

import { normal } from "../../lib/rng";
import { model } from "./fixture";
import { ellipseOf, frameOf, placeOf, placesOf, zAt } from "./frame";

const z = Float32Array.from([0.3, -1.2, 0.8, 0.5, -0.4]);

describe("the plane of the map", () => {
  for (const [name, facts] of [
    ["a VAE", model()],
    ["an autoencoder", model({ kind: "ae", stochastic: false })],
  ] as const) {
    for (const axes of [[3, 0], "principal"] as const) {
      const along = axes === "principal" ? axes : ([axes[0], axes[1]] as [number, number]);
      const frame = frameOf(facts, along);

      it(`moves z of ${name} on ${axes === "principal" ? "the principal plane" : "two axes"} and in no other direction`, () => {
        const moved = zAt(facts, along, frame, z, [1.5, -0.7]);
        const [u, v] = placeOf(facts, along, frame, moved);
        expect(u).toBeCloseTo(1.5, 5);
        expect(v).toBeCloseTo(-0.7, 5);
        const back = zAt(facts, along, frame, moved, placeOf(facts, along, frame, z));
        back.forEach((value, axis) => expect(value).toBeCloseTo(z[axis] ?? NaN, 5));
        const still = axes === "principal" ? [3, 4] : [1, 2, 4]; // the components are 0 on axes 3 and 4
        for (const axis of still) expect(moved[axis]).toBe(z[axis]);
      });
    }
  }

  it("has the prior's mean at (0, 0) of the principal plane", () => {
    const [u, v] = placeOf(model(), "principal", frameOf(model(), "principal"), new Float32Array(5));
    expect(Math.hypot(u, v)).toBeLessThan(1e-6);
  });

  it("converts columns of the points file to positions", () => {
    const ae = model({ stochastic: false });
    const places = placesOf(frameOf(ae, [3, 0]), Float32Array.of(4, 7), Float32Array.of(1, -3));
    expect([...places]).toEqual([0, 0, 1, -2]);
  });
});

describe("a drawing's posterior on the plane", () => {
  const drawn = { mean: z, deviation: Float32Array.of(0.5, 0.1, 0.3, 0.2, 0.4), label: null };

  it("has the standard deviations of the axes on a plane of two axes", () => {
    const ellipse = ellipseOf(model(), [3, 0], frameOf(model(), [3, 0]), drawn);
    expect(ellipse.centre[0]).toBeCloseTo(0.5, 6);
    expect(ellipse.radii[0]).toBeCloseTo(0.5, 6);
    expect(ellipse.radii[1]).toBeCloseTo(0.2, 6);
    expect(Math.abs(ellipse.angle)).toBeCloseTo(Math.PI / 2, 6);
  });

  it("has the covariance of its samples on the principal plane", () => {
    const facts = model();
    const frame = frameOf(facts, "principal");
    const { radii, angle, centre } = ellipseOf(facts, "principal", frame, drawn);
    const count = 20_000;
    const noise = normal(1, 5 * count);
    const sums = [0, 0, 0];
    for (let i = 0; i < count; i++) {
      const draw = z.map((mean, axis) => mean + (drawn.deviation[axis] ?? 0) * (noise[5 * i + axis] ?? 0));
      const [u, v] = placeOf(facts, "principal", frame, draw);
      const [a, b] = [u - centre[0], v - centre[1]];
      const along = a * Math.cos(angle) + b * Math.sin(angle);
      const across = -a * Math.sin(angle) + b * Math.cos(angle);
      sums[0] = (sums[0] ?? 0) + along * along;
      sums[1] = (sums[1] ?? 0) + across * across;
      sums[2] = (sums[2] ?? 0) + along * across;
    }
    expect(Math.sqrt((sums[0] ?? 0) / count)).toBeCloseTo(radii[0], 2);
    expect(Math.sqrt((sums[1] ?? 0) / count)).toBeCloseTo(radii[1], 2);
    expect((sums[2] ?? 0) / count / (radii[0] * radii[1])).toBeCloseTo(0, 1);
  });

  it("is a point for an autoencoder", () => {
    const ae = model({ stochastic: false });
    const { radii } = ellipseOf(ae, [3, 0], frameOf(ae, [3, 0]), { ...drawn, deviation: new Float32Array(5) });
    expect(radii).toEqual([0, 0]);
  });
});
