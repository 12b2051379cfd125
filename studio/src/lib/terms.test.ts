import { expect, test } from "vitest";

import { carried } from "./styles";
import { TERMS } from "./terms";
import { modelFacts } from "./testing";

test("each term is explained once, and without keys, which phones do not have", () => {
  const terms = TERMS.flatMap((group) => group.terms);
  const names = terms.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const name of ["nats", "σ", "tiles", "principal plane", "drifting"]) expect(names).toContain(name);
  for (const { text } of terms) {
    expect(text).toMatch(/\.$/);
    expect(text).not.toMatch(/\b(keys?|press|drop)\b/i);
  }
});

test("an axis carries the styles with which it is clearly correlated, the strongest first", () => {
  const model = { ...modelFacts("vae"), styles: { slant: [0.31, 0.2, -0.29], "stroke width": [-0.7, 0.29, 0] } };
  expect([0, 1, 2].map((axis) => carried(model, axis))).toEqual(["stroke width (r = −0.70), partly slant (r = 0.31)", "", ""]);
  expect(carried(modelFacts("vae"), 0)).toBe("");
});
