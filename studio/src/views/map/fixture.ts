/** A small model, for tests. */
import type { ModelFacts } from "../../lib/types";

/** A model with five axes and orthonormal principal directions that are not parallel to them. */
export function model(changes: Partial<ModelFacts> = {}): ModelFacts {
  return {
    kind: "vae",
    network: "mlp",
    conditional: false,
    stochastic: true,
    encoder: "e",
    decoder: "d",
    latent_dim: 5,
    likelihood: "bernoulli",
    custom_likelihood: false,
    stated_as: ["logit"],
    binarised: false,
    axes: { rate: [0.5, 2, 0.01, 1, 0.2], mean: [1, 2, 3, 4, 5], deviation: [2, 1, 0.5, 3, 1] },
    order: [1, 3, 0, 4, 2],
    principal: {
      mean: [0.1, -0.2, 0.3, 0, 0.1],
      components: [
        [0.6, 0.8, 0, 0, 0],
        [-0.48, 0.36, 0.8, 0, 0],
      ],
      explained: [0.5, 0.25],
    },
    points: null,
    surprise: null,
    figures: null,
    spread: { mean: [0, 0, 0, 0, 0], deviation: [1, 1, 1, 1, 1] },
    styles: null,
    diagnosis: null,
    ...changes,
  };
}
