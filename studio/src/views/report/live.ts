/** State of a training that is followed live, updated by the server's events. */
import { isObject, merged, type Metric } from "./curve";

export interface Live {
  metrics: Metric[];
  /** Seconds until the end; null: unknown. */
  secondsLeft: number | null;
  samples: { url: string; step: number } | null;
  finished: boolean;
  /** Whether the connection to the server is open. */
  connected: boolean;
}

export const BEGINNING: Live = { metrics: [], secondsLeft: null, samples: null, finished: false, connected: false };

export const EVENTS = ["metrics", "samples", "done"] as const;
export type EventName = (typeof EVENTS)[number];

function parsed(data: string): unknown {
  try {
    return JSON.parse(data) as unknown;
  } catch {
    return null;
  }
}

/** The text that an event has under a name, or null. */
export function messageIn(data: string, name: string): string | null {
  const value = parsed(data);
  const text = isObject(value) ? value[name] : null;
  return typeof text === "string" ? text : null;
}

/** The state after an event; invalid events change nothing. */
export function followed(live: Live, name: EventName, data: string): Live {
  if (name === "done") return { ...live, connected: true, finished: true, secondsLeft: 0 };
  const value = parsed(data);
  if (!isObject(value)) return live;
  if (name === "samples") {
    const { url, step } = value;
    const local = typeof url === "string" && /^live\/[\w.-]+$/.test(url);
    return local ? { ...live, connected: true, samples: { url, step: typeof step === "number" ? step : 0 } } : live;
  }
  const left = value["seconds_left"];
  return {
    ...live,
    connected: true,
    metrics: merged([...live.metrics, value]),
    secondsLeft: typeof left === "number" && Number.isFinite(left) ? left : null,
  };
}
