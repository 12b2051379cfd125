/** What the state does when it is told. */
import { expect, test } from "vitest";

import { StudioState } from "./state.svelte";
import { manifestOf } from "./testing";

test("another draw is the next seed's; temperature scales it", () => {
  const state = new StudioState(manifestOf());
  state.draw();
  const z = state.z;
  state.setTemperature(0.5);
  expect(state.seed).toBe(1);
  expect([...state.z]).toEqual([...z].map((value) => value / 2));
  state.draw();
  expect(state.z).not.toEqual(z);
});

test("an autoencoder draws in units of its own codes", () => {
  const state = new StudioState(manifestOf(["ae"]));
  state.setTemperature(0);
  state.draw();
  expect([...state.z]).toEqual([2, 2, 2]);
});

test("a point beyond 2.5 σ of the map is outside, whatever its other axes", () => {
  const state = new StudioState(manifestOf());
  state.setZ(Float32Array.of(9, 0, 2.4), "map");
  expect(state.outside).toBe(false);
  state.setZ(Float32Array.of(0, 2, 2), "map");
  expect(state.outside).toBe(true);
  const autoencoder = new StudioState(manifestOf(["ae"]));
  autoencoder.setZ(Float32Array.of(0, 2 + 4 * 2.4, 2), "map");
  expect(autoencoder.outside).toBe(false);
});

test("a label that is not there is refused; a model that is not there too", () => {
  const state = new StudioState(manifestOf(["vae"], []));
  state.setLabel(1);
  state.setKind("cvae");
  expect(state).toMatchObject({ label: 0, kind: "vae", asked: [] });
});

test("a run in training without weights yet has no model, and nothing breaks", () => {
  const state = new StudioState({ ...manifestOf([]), training: true, first: null });
  state.draw();
  expect(state.maybeModel).toBeUndefined();
  expect(state.outside).toBe(false);
});
