/** The state as it stands in the URL: `#kind=cvae&label=3&seed=1`; what cannot be read is ignored, what is as usual left out. */
import { KINDS, type StudioState, VIEWS } from "./state.svelte";

/** Digits behind the point that z is written with: a ten-thousandth of σ. */
const DIGITS = 4;

/** Seeds and labels beyond this are no whole numbers of ours. */
const MOST = 1e9;

function whole(text: string | null, least: number, most: number): number | null {
  if (text === null || !/^\d{1,10}$/.test(text)) return null;
  const value = Number(text);
  return value >= least && value <= most ? value : null;
}

function real(text: string | null, least: number, most: number): number | null {
  if (text === null || text.trim() === "") return null;
  const value = Number(text);
  return Number.isFinite(value) && value >= least && value <= most ? value : null;
}

function oneOf<T extends string>(text: string | null, allowed: readonly T[]): T | null {
  return allowed.find((value) => value === text) ?? null;
}

/** Takes what the URL's hash says into the state; true if it said where in the latent space to begin. */
export function readHash(state: StudioState, hash: string): boolean {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  state.view = oneOf(said.get("view"), VIEWS) ?? state.view;
  state.step = whole(said.get("step"), 1, 99) ?? state.step;
  state.mode = oneOf(said.get("mode"), ["mean", "sample"] as const) ?? state.mode;
  state.temperature = real(said.get("t"), 0, 3) ?? state.temperature;
  const kind = oneOf(said.get("kind"), KINDS);
  if (kind !== null) state.setKind(kind);
  const label = whole(said.get("label"), 0, state.classes.length - 1);
  if (label !== null) state.label = label;

  const d = state.maybeModel?.latent_dim ?? 0;
  const axes = said.get("axes");
  if (axes === "principal") state.axes = "principal";
  else if (axes !== null) {
    const [first, second] = axes.split(".").map((axis) => whole(axis, 0, d - 1));
    if (first != null && second != null && first !== second) state.axes = [first, second];
  }

  const seed = whole(said.get("seed"), 0, MOST);
  if (seed !== null) state.seed = seed;
  state.reset();
  const z = said.get("z")?.split(",").map((value) => real(value, -100, 100));
  const given = z !== undefined && z.length === d && z.every((value) => value !== null);
  if (given) {
    state.z = Float32Array.from(z);
    state.from = "link";
    state.pinned = said.get("pin") === "1";
  }
  state.touched = false;
  return given || seed !== null;
}

/** The hash of a state, "" for that of a fresh page. */
export function hashOf(state: StudioState): string {
  const said: [string, string][] = [];
  const { manifest, maybeModel: model } = state;
  if (state.view !== "play") said.push(["view", state.view]);
  if (state.view === "story") said.push(["step", String(state.step)]);
  if (state.kind !== manifest.main) said.push(["kind", state.kind]);
  if (state.label !== 0) said.push(["label", String(state.label)]);
  if (state.seed !== 0) said.push(["seed", String(state.seed)]);
  if (state.temperature !== 1) said.push(["t", String(Number(state.temperature.toFixed(2)))]);
  if (state.mode !== "mean") said.push(["mode", state.mode]);
  const [first, second] = model?.order ?? [];
  if (state.axes === "principal") {
    if (second !== undefined) said.push(["axes", "principal"]);
  } else if (state.axes[0] !== first || state.axes[1] !== second) said.push(["axes", state.axes.join(".")]);
  if (state.from !== "seed" && state.from !== "idle") {
    said.push(["z", Array.from(state.z, (value) => String(Number(value.toFixed(DIGITS)))).join(",")]);
    if (state.pinned) said.push(["pin", "1"]);
  }
  // Commas stay as they are, so that the link can be read.
  return said.length === 0 ? "" : `#${said.map(([name, value]) => `${name}=${value}`).join("&")}`;
}
