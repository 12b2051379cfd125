/** The state of the page; `hash.ts` writes it to the URL and reads it back. */
import { drawOf, firstAxes, type MapAxes, distance } from "./latent";
import { messageOf } from "./message";
import type { Drawn, Kind, Manifest, ModelFacts } from "./types";

export type View = "play" | "story" | "report";
export const VIEWS: readonly View[] = ["play", "story", "report"];
export const KINDS: readonly Kind[] = ["ae", "vae", "cvae"];
export const KIND_NAMES: Record<Kind, string> = { ae: "Autoencoder", vae: "VAE", cvae: "CVAE" };

/** What set z last: "seed" (a random point), "idle" (the initial animation), "link" (the URL), or the name of a view. */
export type Origin = string;

/** The precomputed picture, shown until the model is loaded. */
export interface First {
  /** (rows·columns)×C×H×W, row by row */
  pixels: Float32Array;
  rows: number;
  columns: number;
  z: number[][];
}

/** Distance in σ from the centre of the map, which shows two directions, beyond which few images are encoded. */
export const FAR = 2.5;

export class StudioState {
  readonly manifest: Manifest;
  kind: Kind = $state("cvae");
  label = $state(0);
  /** The latent point, d; set it with `setZ`. */
  z: Float32Array = $state.raw(new Float32Array(0));
  from: Origin = $state("seed");
  /** Seed of the random point; 0: the first point of the precomputed picture. */
  seed = $state(0);
  temperature = $state(1);
  #mode: "mean" | "sample" = $state("mean");
  view: View = $state("play");
  /** Step of the story, from 1. */
  step = $state(1);
  axes: MapAxes = $state.raw("principal");
  pinned = $state(false);
  drawn: Drawn | null = $state.raw(null);
  /** Whether the user has interacted with the page; until then, the point is animated. */
  touched = $state(false);
  /** Whether the model is loaded; until then, the page shows the precomputed picture. */
  live = $state(false);
  first: First | null = $state.raw(null);
  /** Error message about the model for the user; null: no error. */
  failure: string | null = $state(null);

  constructor(manifest: Manifest) {
    this.manifest = manifest;
    this.kind = manifest.models[manifest.main] ? manifest.main : (KINDS.find((kind) => manifest.models[kind]) ?? "vae");
    this.axes = firstAxes(this.maybeModel);
    this.reset();
  }

  /** The current model; undefined only if a run is being trained and has no weights yet. */
  get maybeModel(): ModelFacts | undefined {
    return this.manifest.models[this.kind];
  }

  get model(): ModelFacts {
    const model = this.maybeModel;
    if (model === undefined) throw new Error(`no model "${this.kind}" in this page`);
    return model;
  }

  /** Whether the point is farther from the centre of the latent space than 99.7 % of the points of N(0, I). */
  get outside(): boolean {
    const model = this.maybeModel;
    return model !== undefined && distance(model, this.z) > Math.sqrt(model.latent_dim) + 2;
  }

  get classes(): string[] {
    return this.manifest.classes;
  }

  /** Names of the labels that the current model can generate; none if it is unconditional. */
  get labelNames(): string[] {
    return this.maybeModel?.conditional ? this.manifest.classes : [];
  }

  /** What is shown of p(x|z); a custom likelihood cannot be sampled here. */
  get mode(): "mean" | "sample" {
    return this.maybeModel?.custom_likelihood ? "mean" : this.#mode;
  }
  set mode(mode: "mean" | "sample") {
    this.#mode = mode;
  }

  /** Show an error of the model to the user; the page continues without the model. */
  fail(error: unknown): void {
    const advice =
      typeof WebAssembly === "undefined"
        ? "WebAssembly is not available in this browser or is disabled. Enable it, or use a current Chrome, Firefox or Safari."
        : "Reload the page. If the error remains, use a current Chrome, Firefox or Safari, or create the page again with vaelab studio RUN or vaelab export RUN.";
    this.failure = `The model could not be run (${messageOf(error)}). ${advice}`;
  }

  /** Set the point; `from` names what set it. */
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

  /** Switch to another model of the run; its point is reset to the seed, since the models have different latent spaces. */
  setKind(kind: Kind): void {
    if (kind === this.kind || this.manifest.models[kind] === undefined) return;
    this.kind = kind;
    this.axes = firstAxes(this.model);
    this.drawn = null;
    this.reset();
  }

  setTemperature(temperature: number): void {
    this.temperature = temperature;
    this.touched = true;
    if (this.from === "seed") this.reset();
  }

  /** A new random point, z ~ N(0, I) · temperature, from the next seed. */
  draw(): void {
    this.seed += 1;
    this.touched = true;
    this.reset();
  }

  /** Set the point that belongs to the seed. */
  reset(): void {
    const model = this.maybeModel;
    if (model === undefined) return;
    this.from = "seed";
    const precomputed = this.manifest.first?.z[0];
    if (this.seed === 0 && this.kind === this.manifest.main && precomputed?.length === model.latent_dim) {
      this.z = Float32Array.from(precomputed);
      return;
    }
    this.z = drawOf(model, this.seed, this.temperature);
  }
}
