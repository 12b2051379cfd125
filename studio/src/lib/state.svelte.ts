/** The one state of the page; `hash.ts` says how it stands in the URL. */
import { type MapAxes, radius, unitOf } from "./latent";
import { normal } from "./rng";
import type { Drawn, Kind, Manifest, ModelFacts } from "./types";

export type View = "play" | "story" | "report";
export const VIEWS: readonly View[] = ["play", "story", "report"];
export const KINDS: readonly Kind[] = ["ae", "vae", "cvae"];

/** What last set z: "seed" (a random draw), "idle" (the gentle motion of the beginning), or the name of a view. */
export type Origin = string;

/** The precomputed picture, to show before the model answers. */
export interface First {
  /** (rows·columns)×C×H×W, row by row */
  pixels: Float32Array;
  rows: number;
  columns: number;
  z: number[][];
}

/** σ from the middle of the map beyond which hardly a training image lies. */
export const FAR = 2.5;

export class StudioState {
  readonly manifest: Manifest;
  kind: Kind = $state("cvae");
  label = $state(0);
  /** The point, d numbers; set it through `setZ`. */
  z: Float32Array = $state.raw(new Float32Array(0));
  from: Origin = $state("seed");
  /** 0: the point of the precomputed picture; else of the draws of this seed. */
  seed = $state(0);
  temperature = $state(1);
  mode: "mean" | "sample" = $state("mean");
  view: View = $state("play");
  /** Of the story, from 1. */
  step = $state(1);
  axes: MapAxes = $state.raw("principal");
  pinned = $state(false);
  drawn: Drawn | null = $state.raw(null);
  /** Whether the reader has done anything yet: until then the point moves gently by itself. */
  touched = $state(false);
  /** Whether the model answers yet: until then the page shows the precomputed picture. */
  live = $state(false);
  first: First | null = $state.raw(null);
  /** What went wrong with the model, for the reader; null: nothing. */
  failure: string | null = $state(null);

  constructor(manifest: Manifest) {
    this.manifest = manifest;
    this.kind = manifest.models[manifest.main] ? manifest.main : (KINDS.find((kind) => manifest.models[kind]) ?? "vae");
    const [first, second] = this.maybeModel?.order ?? [];
    if (first !== undefined && second !== undefined) this.axes = [first, second];
    this.reset();
  }

  /** The facts of the model in use; undefined only while a run trains that has none yet. */
  get maybeModel(): ModelFacts | undefined {
    return this.manifest.models[this.kind];
  }

  get model(): ModelFacts {
    const model = this.maybeModel;
    if (model === undefined) throw new Error(`no model "${this.kind}" in this page`);
    return model;
  }

  /** Whether the point lies where hardly a training image does, as the map shows it. */
  get outside(): boolean {
    const model = this.maybeModel;
    return model !== undefined && radius(model, this.axes, this.z) > FAR;
  }

  get classes(): string[] {
    return this.manifest.classes;
  }

  /** Names of the labels that the model in use can be asked for: none of an unconditional one. */
  get asked(): string[] {
    return this.maybeModel?.conditional ? this.manifest.classes : [];
  }

  /** What went wrong with the model, told to the reader; the page goes on with what it has. */
  fail(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    const advice =
      typeof WebAssembly === "undefined"
        ? "This browser does not run WebAssembly, or it is turned off: allow it, or take a current Chrome, Firefox or Safari."
        : "Reload the page. If it stays so, try a current Chrome, Firefox or Safari, or make the page again: vaelab studio RUN, or vaelab export RUN.";
    this.failure = `The model could not be run (${reason}). ${advice}`;
  }

  /** A new point, taken as it is; `from` says who set it. */
  setZ(z: Float32Array, from: Origin): void {
    this.z = z;
    this.from = from;
    if (from !== "idle") this.touched = true;
  }

  setLabel(label: number): void {
    if (label < 0 || label >= this.manifest.classes.length) return;
    this.label = label;
    this.touched = true;
  }

  /** Another model of the same run; its point starts from the seed, since the models do not share a latent space. */
  setKind(kind: Kind): void {
    if (kind === this.kind || this.manifest.models[kind] === undefined) return;
    this.kind = kind;
    const [first, second] = this.model.order;
    this.axes = first !== undefined && second !== undefined ? [first, second] : "principal";
    this.drawn = null;
    this.reset();
  }

  setTemperature(temperature: number): void {
    this.temperature = temperature;
    this.touched = true;
    if (this.from === "seed") this.reset();
  }

  /** Another draw: the next seed, z ~ N(0, I) · temperature. */
  draw(): void {
    this.seed += 1;
    this.touched = true;
    this.reset();
  }

  /** The point of the seed. */
  reset(): void {
    const model = this.maybeModel;
    if (model === undefined) return;
    this.from = "seed";
    const given = this.manifest.first?.z[0];
    if (this.seed === 0 && this.kind === this.manifest.main && given?.length === model.latent_dim) {
      this.z = Float32Array.from(given);
      return;
    }
    const noise = normal(this.seed, model.latent_dim);
    this.z = noise.map((value, axis) => {
      const { middle, sigma } = unitOf(model, axis);
      return middle + sigma * this.temperature * value;
    });
  }
}
