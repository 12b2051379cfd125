/** The main thread's interface to the worker that runs the model. */
import { pageSource } from "../bundle";
import type { Bundle, Decoded, Encoded, Kind, Manifest } from "../types";
import { unpack } from "../unpack";
import { latest } from "./latest";
import type { Answer, Request, Task } from "./protocol";

export interface Engine {
  /** Load the encoder and decoder of a model; `decode` and `encode` do this if needed. */
  ready(kind: Kind): Promise<void>;
  /** z: n×d; labels: n×K weights, null for a model without labels; scored: n×C×H×W, for the nats of a custom likelihood. */
  decode(kind: Kind, z: Float32Array, labels: Float32Array | null, scored?: Float32Array | null): Promise<Decoded>;
  /** images: n×C×H×W, 0…1. */
  encode(kind: Kind, images: Float32Array, labels: Float32Array | null): Promise<Encoded>;
  /** The channel with this name; each call returns the same one. */
  channel(name: string): Channel;
}

/**
 * A queue with at most one request in flight and one waiting, started at most once per animation frame. A newer request replaces
 * the waiting one, whose promise resolves to null.
 */
export interface Channel {
  decode(kind: Kind, z: Float32Array, labels: Float32Array | null): Promise<Decoded | null>;
  encode(kind: Kind, images: Float32Array, labels: Float32Array | null): Promise<Encoded | null>;
}

type Send = (task: Task) => Promise<Decoded | Encoded | null>;

/** Start the worker and load its runtime; call it as early as possible, since the runtime takes longest to load. */
export function startWorker(): Send {
  const waiting = new Map<number, { resolve: (result: Decoded | Encoded | null) => void; reject: (e: Error) => void }>();
  let last = 0;
  const fail = (message: string): void => {
    for (const { reject } of waiting.values()) reject(new Error(message));
    waiting.clear();
  };
  const worker = createWorker().then((made) => {
    made.onmessage = ({ data }: MessageEvent<Answer>) => {
      const request = waiting.get(data.id);
      waiting.delete(data.id);
      if ("error" in data) request?.reject(new Error(data.error));
      else request?.resolve(data.result);
    };
    made.onerror = (event) => {
      fail(`the worker failed: ${event.message || "it could not be started"}`);
    };
    return made;
  });
  const send: Send = (task) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      waiting.set(id, { resolve, reject });
      const request: Request = { ...task, id };
      worker.then(
        (made) => {
          made.postMessage(request);
        },
        (error: unknown) => {
          waiting.delete(id);
          reject(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
  const started = send({ op: "runtime", runtime: pageSource("ort.wasm") });
  started.catch(() => undefined);
  return async (task) => {
    await started;
    return send(task);
  };
}

async function createWorker(): Promise<Worker> {
  const source = pageSource("worker.js");
  if ("url" in source) return new Worker(source.url);
  const script = new Blob([await unpack(source, "worker.js")], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(script));
}

export function createEngine(bundle: Bundle, manifest: Manifest, send: Send): Engine {
  const loaded = new Map<Kind, Promise<unknown>>();
  const channels = new Map<string, Channel>();

  const ready = async (kind: Kind): Promise<void> => {
    let loading = loaded.get(kind);
    if (loading === undefined) {
      const model = manifest.models[kind];
      if (model === undefined) throw new Error(`no model "${kind}" in this page`);
      loading = send({
        op: "load",
        kind,
        encoder: bundle.source(model.encoder),
        decoder: bundle.source(model.decoder),
        shape: manifest.shape,
        latentDim: model.latent_dim,
        classes: model.conditional ? manifest.classes.length : 0,
      });
      loaded.set(kind, loading);
    }
    await loading;
  };

  const decode: Engine["decode"] = async (kind, z, labels, scored = null) => {
    await ready(kind);
    return (await send({ op: "decode", kind, z, labels, scored })) as Decoded;
  };
  const encode: Engine["encode"] = async (kind, images, labels) => {
    await ready(kind);
    return (await send({ op: "encode", kind, images, labels })) as Encoded;
  };

  const channel = (name: string): Channel => {
    const known = channels.get(name);
    if (known !== undefined) return known;
    const run = latest((task: () => Promise<Decoded | Encoded>) => task());
    const made: Channel = {
      decode: (kind, z, labels) => run(() => decode(kind, z, labels)) as Promise<Decoded | null>,
      encode: (kind, images, labels) => run(() => encode(kind, images, labels)) as Promise<Encoded | null>,
    };
    channels.set(name, made);
    return made;
  };

  return { ready, decode, encode, channel };
}
