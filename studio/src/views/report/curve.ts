/** Training curves from the lines of metrics.jsonl. */

/** The parts of a line that are shown; itself a valid line. */
export interface Metric {
  step: number;
  seconds: number;
  /** −ELBO in nats per image; null: not measured. */
  train: { nats: number } | null;
  validation: { nats: number } | null;
}

export interface Line {
  name: string;
  x: number[];
  y: number[];
}

export type Over = "seconds" | "step";

export const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const finite = (value: unknown): number | null => (typeof value === "number" && Number.isFinite(value) ? value : null);

function natsOf(value: unknown): { nats: number } | null {
  const nats = isObject(value) ? finite(value["nats"]) : null;
  return nats === null ? null : { nats };
}

/** Parse one line; null if it is invalid. */
function metricOf(value: unknown): Metric | null {
  if (!isObject(value)) return null;
  const step = finite(value["step"]);
  if (step === null) return null;
  return {
    step,
    seconds: finite(value["seconds"]) ?? 0,
    train: natsOf(value["train"]),
    validation: natsOf(value["validation"]),
  };
}

/** All valid lines sorted by step; of several lines for a step, the last one is used. */
export function merged(lines: readonly unknown[]): Metric[] {
  const byStep = new Map<number, Metric>();
  for (const line of lines) {
    const metric = metricOf(line);
    if (metric) byStep.set(metric.step, metric);
  }
  return [...byStep.values()].sort((a, b) => a.step - b.step);
}

/** Training and validation nats over time or steps; a curve without values is omitted. */
export function lines(metrics: readonly Metric[], over: Over): Line[] {
  return (["validation", "train"] as const)
    .map((part) => {
      const held = metrics.filter((one) => one[part] !== null);
      const name = part === "train" ? "training" : "validation";
      return { name, x: held.map((one) => one[over]), y: held.map((one) => one[part]?.nats ?? NaN) };
    })
    .filter((line) => line.x.length > 0);
}

/** The metric with the lowest validation nats; null if there is none. */
export function best(metrics: readonly Metric[]): Metric | null {
  return metrics.reduce<Metric | null>((least, one) => {
    if (one.validation === null) return least;
    return least?.validation && least.validation.nats <= one.validation.nats ? least : one;
  }, null);
}
