import { describe, expect, it } from "vitest";

import { model } from "./fixture";
import { axisName, directions, placeInWords, rest, signed } from "./words";

describe("the map's words", () => {
  it("name axes and signs", () => {
    expect(axisName(12)).toBe("z₁₂");
    expect([signed(1.26), signed(-0.3), signed(-0.04), signed(2, 2)]).toEqual(["+1.3", "−0.3", "0.0", "+2.00"]);
  });

  it("say what the directions are and what the rest is set to", () => {
    expect(directions(model(), [1, 3])).toBe("Across z₁ (2.00 nats), up z₃ (1.00 nats).");
    expect(rest(model(), [1, 3])).toBe("The other 3 axes are held at the current z.");
    expect(directions(model(), "principal")).toBe("Principal plane: 75 % of the images’ variance.");
    expect(rest(model({ latent_dim: 3 }), "principal")).toBe("The other direction is held at the current z.");
    expect(rest(model({ latent_dim: 2 }), [0, 1])).toBe("These are all its axes.");
    expect(directions(model({ stochastic: false }), [1, 3])).toBe("Across z₁, up z₃.");
  });

  it("say where the point is", () => {
    expect(placeInWords([1, 3], [1.44, -0.26])).toBe("z₁ +1.4 σ, z₃ −0.3 σ");
  });
});
