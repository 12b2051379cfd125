/** The worker: ONNX Runtime on WASM with one thread and two sessions per model. It answers requests in order. */
import * as ort from "onnxruntime-web/wasm";

import { messageOf } from "../message";
import type { Decoded, Encoded, Kind } from "../types";
import { unpack } from "../unpack";
import type { Answer, DecodeRequest, EncodeRequest, LoadRequest, Request, RuntimeRequest } from "./protocol";

interface Sessions {
  facts: LoadRequest;
  encoder: ort.InferenceSession;
  decoder: ort.InferenceSession;
}

interface Scope {
  onmessage: ((event: MessageEvent<Request>) => void) | null;
  postMessage(answer: Answer, transfer: Transferable[]): void;
}

/** Maximum number of image values per forward pass; larger batches are split. */
const AT_ONCE = 1 << 21;

const scope = self as unknown as Scope;
const models = new Map<Kind, Sessions>();
let queue: Promise<void> = Promise.resolve();

scope.onmessage = ({ data }) => {
  queue = queue.then(() => answer(data));
};

async function answer(request: Request): Promise<void> {
  const { id } = request;
  try {
    switch (request.op) {
      case "runtime":
        await start(request);
        return scope.postMessage({ id, result: null }, []);
      case "load":
        await load(request);
        return scope.postMessage({ id, result: null }, []);
      case "decode": {
        const result = await decode(request);
        const { pixels, parameters, nats } = result;
        return scope.postMessage({ id, result }, [pixels.buffer, parameters.buffer, ...(nats === null ? [] : [nats.buffer])]);
      }
      case "encode": {
        const result = await encode(request);
        return scope.postMessage({ id, result }, [result.mean.buffer, result.logVariance.buffer]);
      }
    }
  } catch (error) {
    scope.postMessage({ id, error: messageOf(error) }, []);
  }
}

async function start({ runtime }: RuntimeRequest): Promise<void> {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = false;
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = await unpack(runtime, "ort.wasm");
}

async function load(facts: LoadRequest): Promise<void> {
  if (models.has(facts.kind)) return;
  const [encoder, decoder] = await Promise.all([unpack(facts.encoder, "the encoder"), unpack(facts.decoder, "the decoder")]);
  const options: ort.InferenceSession.SessionOptions = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
  models.set(facts.kind, {
    facts,
    decoder: await ort.InferenceSession.create(new Uint8Array(decoder), options),
    encoder: await ort.InferenceSession.create(new Uint8Array(encoder), options),
  });
}

function sessionsOf(kind: Kind): Sessions {
  const sessions = models.get(kind);
  if (sessions === undefined) throw new Error(`the model "${kind}" is not loaded`);
  return sessions;
}

async function decode({ kind, z, labels, scored }: DecodeRequest): Promise<Decoded> {
  const { facts, decoder } = sessionsOf(kind);
  const [C, H, W] = facts.shape;
  const count = z.length / facts.latentDim;
  const inputs: Record<string, Input> = { z: [z, [facts.latentDim]], labels };
  if (!decoder.inputNames.includes("scored")) {
    const [pixels, parameters] = await inParts(facts, decoder, count, inputs, ["decoded", "parameters"]);
    return { pixels, parameters, nats: null, count };
  }
  inputs["scored"] = [scored ?? new Float32Array(count * C * H * W), facts.shape];
  const [pixels, parameters, nats] = await inParts(facts, decoder, count, inputs, ["decoded", "parameters", "nats"]);
  return { pixels, parameters, nats, count };
}

async function encode({ kind, images, labels }: EncodeRequest): Promise<Encoded> {
  const { facts, encoder } = sessionsOf(kind);
  const [C, H, W] = facts.shape;
  const count = images.length / (C * H * W);
  const inputs = { images: [images, facts.shape] as const, image_labels: labels };
  const [mean, logVariance] = await inParts(facts, encoder, count, inputs, ["mean", "log_variance"]);
  return { mean, logVariance, count };
}

type Input = readonly [Float32Array, readonly number[]] | Float32Array | null;

type Outputs<Names extends readonly string[]> = { [At in keyof Names]: Float32Array };

/** Run a session on `count` rows in batches; return the outputs. A plain array as input holds labels; null is omitted. */
async function inParts<const Names extends readonly string[]>(
  facts: LoadRequest,
  session: ort.InferenceSession,
  count: number,
  inputs: Record<string, Input>,
  outputs: Names,
): Promise<Outputs<Names>> {
  const [C, H, W] = facts.shape;
  const most = Math.max(1, Math.floor(AT_ONCE / (C * H * W)));
  const parts: Float32Array[][] = outputs.map(() => []);
  for (let first = 0; first < count; first += most) {
    const rows = Math.min(most, count - first);
    const feeds: Record<string, ort.Tensor> = {};
    for (const [name, input] of Object.entries(inputs)) {
      if (input === null || facts.classes === 0 && input instanceof Float32Array) continue;
      const [values, shape] = input instanceof Float32Array ? [input, [facts.classes]] : input;
      const each = shape.reduce((a, b) => a * b, 1);
      feeds[name] = new ort.Tensor("float32", values.subarray(first * each, (first + rows) * each), [rows, ...shape]);
    }
    const results = await session.run(feeds, [...outputs]);
    outputs.forEach((name, at) => {
      const data = results[name]?.data;
      if (!(data instanceof Float32Array)) throw new Error("the model returned no numbers");
      parts[at]?.push(data);
    });
  }
  return parts.map(joined) as Outputs<Names>;
}

function joined(parts: Float32Array[]): Float32Array {
  if (parts.length === 1 && parts[0] !== undefined) return parts[0];
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
