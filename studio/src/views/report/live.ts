/** A training as it is followed: what each event from the server makes of what is known. */
import { merged, type Metric } from "./curve";

export interface Live {
  metrics: Metric[];
  /** Seconds until it ends; null where that is not known. */
  secondsLeft: number | null;
  samples: { url: string; step: number } | null;
  finished: boolean;
  /** Whether the line to the server stands. */
  connected: boolean;
}

export const BEGINNING: Live = { metrics: [], secondsLeft: null, samples: null, finished: false, connected: false };

export const EVENTS = ["metrics", "samples", "done"] as const;
export type EventName = (typeof EVENTS)[number];

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

function parsed(data: string): unknown {
  try {
    return JSON.parse(data) as unknown;
  } catch {
    return null;
  }
}

/** What is known after an event; one that makes no sense changes nothing. */
export function followed(live: Live, name: EventName, data: string): Live {
  if (name === "done") return { ...live, connected: true, finished: true, secondsLeft: 0 };
  const value = parsed(data);
  if (!isObject(value)) return live;
  if (name === "samples") {
    const { url, step } = value;
    const own = typeof url === "string" && /^live\/[\w.-]+$/.test(url);
    return own ? { ...live, connected: true, samples: { url, step: typeof step === "number" ? step : 0 } } : live;
  }
  const left = value["seconds_left"];
  return {
    ...live,
    connected: true,
    metrics: merged([...live.metrics, value]),
    secondsLeft: typeof left === "number" && Number.isFinite(left) ? left : null,
  };
}
