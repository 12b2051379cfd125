/** Data that the steps of the story share: test images, their posteriors, and the encoded points of the bundle. */
import { oneHot, oneHotRows } from "../../lib/latent";
import { messageOf } from "../../lib/message";
import { normal } from "../../lib/rng";
import type { Studio } from "../../lib/studio";
import type { Kind, ModelFacts } from "../../lib/types";
import { planesOf } from "../draw/file";
import { loadPoints } from "../map/load";
import type { Points } from "../map/points";
import { deviations } from "./algebra";

export interface Sample {
  /** C×H×W, 0…1 */
  pixels: Float32Array;
  label: number;
}

export interface Code {
  mean: Float32Array;
  deviation: Float32Array;
}

export class Material {
  /** Error message for the reader; "": no error. */
  trouble = $state("");
  readonly #studio: Studio;
  readonly #points = new Map<Kind, Promise<Points | null>>();
  #sprite: Promise<ImageBitmap | null> | null = null;

  constructor(studio: Studio) {
    this.#studio = studio;
  }

  /** Show an error to the reader. */
  readonly fail = (error: unknown): void => {
    this.trouble = messageOf(error);
  };

  facts(kind: Kind): ModelFacts {
    const facts = this.#studio.state.manifest.models[kind];
    if (facts === undefined) throw new Error(`no model "${kind}" in this page`);
    return facts;
  }

  points(kind: Kind): Promise<Points | null> {
    let held = this.#points.get(kind);
    if (held === undefined) {
      const facts = this.facts(kind).points;
      held = facts === null ? Promise.resolve(null) : loadPoints(this.#studio.bundle, facts);
      this.#points.set(kind, held);
    }
    return held;
  }

  /** Test image number `at` from the sprite sheet; an image decoded from a random point if the page has none. */
  async image(kind: Kind, at: number): Promise<Sample> {
    const { shape } = this.#studio.state.manifest;
    const [C, H, W] = shape;
    const facts = this.facts(kind).points;
    const sprite = await this.#sheet(kind);
    if (facts === null || sprite === null || sprite.width !== facts.thumbs_columns * W) return this.#generated(at);
    const index = at % facts.thumbs_count;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [W, H];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (context === null) return this.#generated(at);
    const [row, column] = [Math.floor(index / facts.thumbs_columns), index % facts.thumbs_columns];
    context.drawImage(sprite, column * W, row * H, W, H, 0, 0, W, H);
    const label = (await this.points(kind))?.labels[index] ?? 0;
    const known = label < this.#studio.state.classes.length ? label : 0;
    return { pixels: planesOf(context.getImageData(0, 0, W, H).data, C), label: known };
  }

  /** What `image` returns, in words. */
  noun(kind: Kind): string {
    const points = this.facts(kind).points;
    return points?.thumbs ? `${points.split} image` : "generated image";
  }

  /** Images 0 to `count` − 1. */
  async images(kind: Kind, count: number): Promise<Sample[]> {
    const samples: Sample[] = [];
    for (let at = 0; at < count; at++) samples.push(await this.image(kind, at));
    return samples;
  }

  /** The posterior mean and standard deviation of each image. */
  async encode(kind: Kind, samples: readonly Sample[]): Promise<Code[]> {
    const facts = this.facts(kind);
    const size = samples[0]?.pixels.length ?? 0;
    const images = new Float32Array(samples.length * size);
    const classes = this.#studio.state.classes.length;
    const labels = facts.conditional ? oneHotRows(samples.map((sample) => sample.label), classes) : null;
    samples.forEach((sample, at) => images.set(sample.pixels, at * size));
    const { mean, logVariance } = await this.#studio.engine.encode(kind, images, labels);
    const d = facts.latent_dim;
    return samples.map((_, at) => ({
      mean: mean.slice(at * d, (at + 1) * d),
      deviation: deviations(logVariance.slice(at * d, (at + 1) * d)),
    }));
  }

  #sheet(kind: Kind): Promise<ImageBitmap | null> {
    const name = this.facts(kind).points?.thumbs ?? null;
    this.#sprite ??=
      name === null
        ? Promise.resolve(null)
        : this.#studio.bundle(name).then((bytes) => createImageBitmap(new Blob([bytes], { type: "image/png" })));
    return this.#sprite;
  }

  async #generated(at: number): Promise<Sample> {
    const { state, engine } = this.#studio;
    const facts = this.facts(state.manifest.main);
    const label = at % Math.max(1, state.classes.length);
    const z = normal(at + 1, facts.latent_dim);
    const { pixels } = await engine.decode(facts.kind, z, oneHot(facts, state.classes.length, label));
    return { pixels, label };
  }
}
