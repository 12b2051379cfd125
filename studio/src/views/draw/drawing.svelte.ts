/** The contents of the sheet: strokes or a dropped image. Kept outside the view, so that it survives a change of views. */
import type { Reading } from "../../lib/reading";
import type { Kind } from "../../lib/types";
import { extended, type Point, type Stroke } from "./strokes";

/** A reading, and the drawing and settings that it belongs to. */
interface Answer {
  reading: Reading;
  /** The drawing in the model's format, C×H×W. */
  input: Float32Array;
  kind: Kind;
  label: number | null;
  strokes: readonly Stroke[];
  image: ImageData | null;
}

export class Drawing {
  strokes: readonly Stroke[] = $state.raw([]);
  /** Pixels of an image file, shown instead of strokes. */
  image: ImageData | null = $state.raw(null);
  /** The label set by the user; null: the model predicts it. */
  label: number | null = $state(null);

  answer: Answer | null = $state.raw(null);

  /** Whether `answer` is up to date for this model. */
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

  /** Add points to the current stroke. */
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
