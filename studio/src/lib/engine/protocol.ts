/** Messages between the page and its worker. */
import type { Decoded, Encoded, Kind, Shape, Source } from "../types";

export interface RuntimeRequest {
  op: "runtime";
  runtime: Source;
}

export interface LoadRequest {
  op: "load";
  kind: Kind;
  encoder: Source;
  decoder: Source;
  shape: Shape;
  latentDim: number;
  /** Number of classes; 0: the model takes no labels */
  classes: number;
}

export interface DecodeRequest {
  op: "decode";
  kind: Kind;
  z: Float32Array;
  labels: Float32Array | null;
  /** Images to score under a custom likelihood, n×C×H×W; null: none */
  scored: Float32Array | null;
}

export interface EncodeRequest {
  op: "encode";
  kind: Kind;
  images: Float32Array;
  labels: Float32Array | null;
}

export type Task = RuntimeRequest | LoadRequest | DecodeRequest | EncodeRequest;

export type Request = Task & { id: number };

export type Answer = { id: number; result: Decoded | Encoded | null } | { id: number; error: string };
