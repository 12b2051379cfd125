/** The state in the URL, such as `#kind=cvae&label=3&seed=1`. Invalid values are ignored; default values are omitted. */
import { firstAxes, type MapAxes } from "./latent";
import { KINDS, type StudioState, VIEWS } from "./state.svelte";

/** Decimal places of z: a ten-thousandth of σ. */
const DIGITS = 4;

/** Largest valid seed. */
const MOST = 1e9;

function integer(text: string | null, least: number, most: number): number | null {
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

/** Update the state from the URL's hash; returns whether the hash specifies a latent point (by z or a seed). */
export function readHash(state: StudioState, hash: string): boolean {
  const params = new URLSearchParams(hash.replace(/^#/, ""));
  state.view = oneOf(params.get("view"), VIEWS) ?? state.view;
  state.step = integer(params.get("step"), 1, 99) ?? state.step;
  state.mode = oneOf(params.get("mode"), ["mean", "sample"] as const) ?? state.mode;
  state.temperature = real(params.get("t"), 0, 3) ?? state.temperature;
  const kind = oneOf(params.get("kind"), KINDS);
  if (kind !== null) state.setKind(kind);
  const label = integer(params.get("label"), 0, state.classes.length - 1);
  if (label !== null) state.label = label;

  const d = state.maybeModel?.latent_dim ?? 0;
  const axes = params.get("axes");
  if (axes === "principal") state.axes = "principal";
  else if (axes !== null) {
    const [first, second] = axes.split(".").map((axis) => integer(axis, 0, d - 1));
    if (first != null && second != null && first !== second) state.axes = [first, second];
  }

  const seed = integer(params.get("seed"), 0, MOST);
  if (seed !== null) state.seed = seed;
  state.reset();
  const z = params.get("z")?.split(",").map((value) => real(value, -100, 100));
  const hasPoint = z !== undefined && z.length === d && z.every((value) => value !== null);
  if (hasPoint) {
    state.z = Float32Array.from(z);
    state.from = "link";
    state.pinned = params.get("pin") === "1";
  }
  state.touched = false;
  return hasPoint || seed !== null;
}

/** The hash of a state; "" for the initial state. */
export function hashOf(state: StudioState): string {
  const entries: [string, string][] = [];
  const { manifest, maybeModel: model } = state;
  if (state.view !== "play") entries.push(["view", state.view]);
  if (state.view === "story") entries.push(["step", String(state.step)]);
  if (state.kind !== manifest.main) entries.push(["kind", state.kind]);
  if (state.label !== 0) entries.push(["label", String(state.label)]);
  if (state.seed !== 0) entries.push(["seed", String(state.seed)]);
  if (state.temperature !== 1) entries.push(["t", String(Number(state.temperature.toFixed(2)))]);
  if (state.mode !== "mean") entries.push(["mode", state.mode]);
  const text = (axes: MapAxes): string => (axes === "principal" ? axes : axes.join("."));
  if (text(state.axes) !== text(firstAxes(model))) entries.push(["axes", text(state.axes)]);
  if (state.from !== "seed" && state.from !== "idle") {
    entries.push(["z", Array.from(state.z, (value) => String(Number(value.toFixed(DIGITS)))).join(",")]);
    if (state.pinned) entries.push(["pin", "1"]);
  }
  // Not URLSearchParams, which would encode the commas.
  return entries.length === 0 ? "" : `#${entries.map(([name, value]) => `${name}=${value}`).join("&")}`;
}
