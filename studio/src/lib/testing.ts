/** The manifest of a small model, for tests. */
import type { Kind, Manifest, ModelFacts } from "./types";

export function modelFacts(kind: Kind, d = 3): ModelFacts {
  const axis = (value: number): number[] => Array.from({ length: d }, () => value);
  return {
    kind,
    network: "mlp",
    conditional: kind === "cvae",
    stochastic: kind !== "ae",
    encoder: `${kind}-encoder.onnx`,
    decoder: `${kind}-decoder.onnx`,
    latent_dim: d,
    likelihood: "bernoulli",
    custom_likelihood: false,
    stated_as: ["logit"],
    binarised: true,
    axes: { rate: axis(kind === "ae" ? 0 : 1), mean: axis(kind === "ae" ? 2 : 0), deviation: axis(kind === "ae" ? 4 : 1) },
    order: Array.from({ length: d }, (_, i) => (i + 1) % d),
    principal: {
      mean: axis(0),
      components: [
        [0.6, 0.8, ...axis(0).slice(2)],
        [-0.8, 0.6, ...axis(0).slice(2)],
      ],
      explained: [0.5, 0.3],
    },
    points: null,
    surprise: null,
    figures: null,
    spread: { mean: axis(0), deviation: axis(1) },
    styles: null,
    diagnosis: null,
  };
}

export function manifestOf(kinds: Kind[] = ["ae", "vae", "cvae"], classes = ["a", "b", "c"]): Manifest {
  return {
    format: 3,
    vaelab: "0",
    name: "test",
    main: kinds[kinds.length - 1] ?? "vae",
    classes,
    shape: [1, 2, 2],
    source: "strokes",
    training: false,
    models: Object.fromEntries(kinds.map((kind) => [kind, modelFacts(kind)])),
    first: { file: "first.png", rows: 3, columns: 2, z: [[0.5, -1, 0.25], [1, 1, 1]] },
    report: null,
    curve: null,
    evaluate: "vaelab evaluate test",
    train: "vaelab train test --model all --out test --resume",
    notes: [],
  };
}
