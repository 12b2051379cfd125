/** The URL restores the state that it was written from, and invalid values change nothing. */
import { expect, test } from "vitest";

import { hashOf, readHash } from "./hash";
import { StudioState } from "./state.svelte";
import { manifestOf } from "./testing";

function opened(hash: string): StudioState {
  const state = new StudioState(manifestOf());
  readHash(state, hash);
  return state;
}

test("the initial state has no hash, and its point is that of the precomputed picture", () => {
  const state = opened("");
  expect(hashOf(state)).toBe("");
  expect([...state.z]).toEqual([0.5, -1, 0.25]);
  expect(state.axes).toEqual([1, 2]);
});

test("a changed state is restored", () => {
  const state = opened("");
  state.setKind("vae");
  state.setLabel(2);
  state.view = "story";
  state.step = 4;
  state.mode = "sample";
  state.axes = "principal";
  state.setTemperature(0.8);
  state.draw();
  state.setZ(Float32Array.of(0.12345, -2, 1e-6), "map");
  const other = opened(hashOf(state));
  expect(other).toMatchObject({ kind: "vae", label: 2, view: "story", step: 4, mode: "sample", axes: "principal", seed: 1 });
  expect(other.temperature).toBe(0.8);
  expect([...other.z]).toEqual([...Float32Array.of(0.1235, -2, 0)]);
  expect(hashOf(other)).toBe(hashOf(state));
});

test("a seed alone restores its point", () => {
  const state = opened("");
  state.draw();
  state.draw();
  expect(hashOf(state)).toBe("#seed=2");
  expect(opened("#seed=2").z).toEqual(state.z);
});

test.each([
  "#kind=gan&label=3&z=1,2&seed=-1&t=hot&mode=mode&view=<img>&step=0&axes=0.0",
  "#label=1e3&z=a,b,c&seed=1.5&t=1e9&axes=0.9&step=-2",
  "#z=NaN,1,1&z=Infinity,0,0&label=%E0%A4%A&seed=99999999999",
  "#&&==&%%%",
])("%s is ignored", (hash) => {
  expect(hashOf(opened(hash))).toBe("");
});

test("a link within the page is followed too", () => {
  const state = opened("#label=1&z=1,2,3&pin=1");
  expect(state).toMatchObject({ label: 1, pinned: true });
  expect(readHash(state, "#seed=7")).toBe(true);
  expect(state).toMatchObject({ seed: 7, from: "seed" });
});
