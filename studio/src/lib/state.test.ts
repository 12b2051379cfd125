/** Transitions of the page's state. */
import { expect, test } from "vitest";

import { StudioState } from "./state.svelte";
import { manifestOf } from "./testing";

test("a new random point uses the next seed and is scaled by the temperature", () => {
  const state = new StudioState(manifestOf());
  state.draw();
  const z = state.z;
  state.setTemperature(0.5);
  expect(state.seed).toBe(1);
  expect([...state.z]).toEqual([...z].map((value) => value / 2));
  state.draw();
  expect(state.z).not.toEqual(z);
});

test("an autoencoder draws points on the scale of its codes", () => {
  const state = new StudioState(manifestOf(["ae"]));
  state.setTemperature(0);
  state.draw();
  expect([...state.z]).toEqual([2, 2, 2]);
});

test("a point is outside if it is farther from the centre than 99.7 % of N(0, I), on whichever axes", () => {
  const state = new StudioState(manifestOf());
  for (const [z, outside] of [
    [[3.7, 0, 0], false],
    [[0, 0, 3.8], true],
    [[2.2, 2.2, 2.2], true],
    [[2, 2, 2], false],
  ] as const) {
    state.setZ(Float32Array.from(z), "map");
    expect(state.outside).toBe(outside);
  }
  const autoencoder = new StudioState(manifestOf(["ae"]));
  autoencoder.setZ(Float32Array.of(2, 2 + 4 * 2.4, 2), "map");
  expect(autoencoder.outside).toBe(false);
});

test("unknown labels and models are ignored", () => {
  const state = new StudioState(manifestOf(["vae"], []));
  state.setLabel(1);
  state.setKind("cvae");
  expect(state).toMatchObject({ label: 0, kind: "vae", labelNames: [] });
});

test("a run in training without weights has no model, and nothing fails", () => {
  const state = new StudioState({ ...manifestOf([]), training: true, first: null });
  state.draw();
  expect(state.maybeModel).toBeUndefined();
  expect(state.outside).toBe(false);
});
