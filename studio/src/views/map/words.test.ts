import { describe, expect, it } from "vitest";

import { model } from "./fixture";
import { axisName, directions, mixing, otherAxes, placeInWords, signed } from "./words";

describe("the texts of the map", () => {
  it("name axes and signs", () => {
    expect(axisName(12)).toBe("z₁₂");
    expect([signed(1.26), signed(-0.3), signed(-0.04), signed(2, 2)]).toEqual(["+1.3", "−0.3", "0.0", "+2.00"]);
  });

  it("describe the directions and the other axes", () => {
    expect(directions(model(), [1, 3])).toBe("Horizontal: z₁ (2.00 nats), vertical: z₃ (1.00 nats).");
    expect(otherAxes(model(), [1, 3])).toBe("The other 3 axes are held at the current z.");
    expect(directions(model(), "principal")).toBe("Principal plane: 75 % of the variance of the encoded images.");
    expect(otherAxes(model({ latent_dim: 3 }), "principal")).toBe("The other direction is held at the current z.");
    expect(otherAxes(model({ latent_dim: 2 }), [0, 1])).toBe("The model has no other axes.");
    expect(directions(model({ stochastic: false }), [1, 3])).toBe("Horizontal: z₁, vertical: z₃.");
  });

  it("say why colours mix, of a conditional model only", () => {
    expect(mixing(model({ conditional: true }))).toMatch(/given the label.*mainly holds the style/);
    expect(mixing(model())).toBe("");
  });

  it("give the position of the point", () => {
    expect(placeInWords([1, 3], [1.44, -0.26])).toBe("z₁ +1.4 σ, z₃ −0.3 σ");
  });
});
