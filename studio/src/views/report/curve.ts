/** The lines of metrics.jsonl as the curves of a training, and what is read off them. */

export interface Losses {
  nats: number;
  distortion: number;
  rate: number;
}

export interface Metric {
  step: number;
  epoch: number;
  seconds: number;
  train: Losses | null;
  validation: Losses | null;
}

export interface Line {
  name: string;
  x: number[];
  y: number[];
}

export type Over = "seconds" | "step";

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const finite = (value: unknown): number | null => (typeof value === "number" && Number.isFinite(value) ? value : null);

function losses(value: unknown): Losses | null {
  if (!isObject(value)) return null;
  const nats = finite(value["nats"]);
  return nats === null ? null : { nats, distortion: finite(value["distortion"]) ?? NaN, rate: finite(value["rate"]) ?? NaN };
}

/** One line; null if it is none. */
export function metricOf(value: unknown): Metric | null {
  if (!isObject(value)) return null;
  const step = finite(value["step"]);
  if (step === null) return null;
  return {
    step,
    epoch: finite(value["epoch"]) ?? 0,
    seconds: finite(value["seconds"]) ?? 0,
    train: losses(value["train"]),
    validation: losses(value["validation"]),
  };
}

/** All that are lines, each step once (the later line counts), in the order of their steps. */
export function merged(lines: readonly unknown[]): Metric[] {
  const byStep = new Map<number, Metric>();
  for (const line of lines) {
    const metric = metricOf(line);
    if (metric) byStep.set(metric.step, metric);
  }
  return [...byStep.values()].sort((a, b) => a.step - b.step);
}

/** Training and validation nats over time or steps; a line of which there is nothing is left out. */
export function lines(metrics: readonly Metric[], over: Over): Line[] {
  return (["validation", "train"] as const)
    .map((part) => {
      const held = metrics.filter((one) => one[part] !== null);
      const name = part === "train" ? "training" : "validation";
      return { name, x: held.map((one) => one[over]), y: held.map((one) => one[part]?.nats ?? NaN) };
    })
    .filter((line) => line.x.length > 0);
}

/** The line with the lowest validation nats; null where none was validated. */
export function best(metrics: readonly Metric[]): Metric | null {
  return metrics.reduce<Metric | null>((least, one) => {
    if (one.validation === null) return least;
    return least?.validation && least.validation.nats <= one.validation.nats ? least : one;
  }, null);
}
