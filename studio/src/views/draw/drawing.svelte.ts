/** What is on the sheet: ink as strokes, or an image that was dropped. It outlives the view, so that coming back finds it. */
import type { Reading } from "../../lib/reading";
import type { Kind } from "../../lib/types";
import { extended, type Point, type Stroke } from "./strokes";

/** What was read, and off what. */
interface Answer {
  reading: Reading;
  /** C×H×W: the drawing as the model sees it. */
  seen: Float32Array;
  kind: Kind;
  label: number | null;
  strokes: readonly Stroke[];
  image: ImageData | null;
}

export class Drawing {
  strokes: readonly Stroke[] = $state.raw([]);
  /** An image file's pixels, in place of ink. */
  image: ImageData | null = $state.raw(null);
  /** The label that the reader says it is; null: the model guesses. */
  label: number | null = $state(null);

  answer: Answer | null = $state.raw(null);

  /** Whether the answer is to what is on the sheet now, by this model. */
  answered(kind: Kind): boolean {
    const { answer } = this;
    return (
      answer?.kind === kind &&
      answer.label === this.label &&
      answer.strokes === this.strokes &&
      answer.image === this.image
    );
  }

  get empty(): boolean {
    return this.strokes.length === 0 && this.image === null;
  }

  begin(at: Point): void {
    this.image = null;
    this.strokes = [...this.strokes, [at]];
  }

  /** More points of the stroke that was begun last. */
  more(points: readonly Point[]): void {
    const last = this.strokes[this.strokes.length - 1];
    if (last === undefined) return;
    const longer = points.reduce(extended, last);
    if (longer !== last) this.strokes = [...this.strokes.slice(0, -1), longer];
  }

  undo(): void {
    if (this.image) this.image = null;
    else this.strokes = this.strokes.slice(0, -1);
    if (this.empty) this.label = null;
  }

  clear(): void {
    [this.strokes, this.image, this.label] = [[], null, null];
  }

  drop(image: ImageData): void {
    [this.strokes, this.image, this.label] = [[], image, null];
  }
}

export const drawing = new Drawing();
