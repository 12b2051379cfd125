/** Types of the bundle's files and of the engine's results. */

export type Kind = "ae" | "vae" | "cvae";

export type LikelihoodName = "bernoulli" | "continuous-bernoulli" | "logistic" | "colour-logistic" | "two-colour" | "gaussian";

/** Location of a file: a URL, or gzip in base64 inside the page. */
export type Source = { url: string } | { packed: string };

/** Loads a file of the bundle by name; rejects with a readable message. */
export interface Bundle {
  (name: string): Promise<ArrayBuffer>;
  /** The location of a file, for the worker to load it. */
  source(name: string): Source;
}

/** [C, H, W] */
export type Shape = [number, number, number];

export interface AxisFacts {
  /** KL divergence of each latent axis in nats per image, over test images; all 0 for an autoencoder. */
  rate: number[];
  /** Mean and standard deviation over test images of the posterior mean on each axis. */
  mean: number[];
  deviation: number[];
}

export interface PrincipalPlane {
  mean: number[];
  /** Two unit vectors of d numbers. */
  components: [number[], number[]];
  /** Fraction of the points' variance along each. */
  explained: [number, number];
}

export interface PointsFacts {
  file: string;
  count: number;
  /** Axes with a column in the file, at most 32; two columns with the principal components follow them. */
  axes: number[];
  /** Factor from stored integers to coordinates. */
  scale: number;
  /** Split that the images come from: test; validation or train if there is no test split. */
  split: string;
  thumbs: string | null;
  thumbs_columns: number;
  thumbs_count: number;
}

export interface ModelFacts {
  kind: Kind;
  network: string;
  conditional: boolean;
  stochastic: boolean;
  encoder: string;
  decoder: string;
  latent_dim: number;
  likelihood: LikelihoodName;
  stated_as: string[];
  /** Whether the decoder computes the nats of an image itself; such a likelihood cannot be sampled here. */
  custom_likelihood: boolean;
  /** Whether an image is binarised before the model scores it. */
  binarised: boolean;
  axes: AxisFacts;
  /** All d axes by descending rate. */
  order: number[];
  principal: PrincipalPlane;
  points: PointsFacts | null;
  /** 101 quantiles of the −ELBO of test images in nats, ascending. */
  surprise: { quantiles: number[] } | null;
  figures: Record<string, number> | null;
  /** Mean and standard deviation of the aggregate posterior on each axis. */
  spread: { mean: number[]; deviation: number[] };
  /** Correlation of each axis with each style, by the style's name; null if the images are not drawings, or are too few. */
  styles: Record<string, number[]> | null;
  /** A line for each fault of the model, with its evidence and remedy; null if there were no images to look for faults on. */
  diagnosis: string[] | null;
}

export interface FirstPicture {
  file: string;
  /** One row per label; 1 without labels. */
  rows: number;
  columns: number;
  /** The latent point of each column. */
  z: number[][];
}

export interface Manifest {
  format: number;
  vaelab: string;
  name: string;
  main: Kind;
  classes: string[];
  shape: Shape;
  source: string;
  training: boolean;
  models: Partial<Record<Kind, ModelFacts>>;
  first: FirstPicture | null;
  report: string | null;
  curve: string | null;
  /** The command that evaluates the run. */
  evaluate: string;
  /** The command that trains the missing kinds of models. */
  train: string;
  /** Notes for the user: what is missing from the page, and why. */
  notes: string[];
}

export interface Decoded {
  /** n×C×H×W, 0…1 */
  pixels: Float32Array;
  /** Parameters of the likelihood, n×planes×C×H×W; the planes are named by `stated_as` */
  parameters: Float32Array;
  /** −log p of the images to score under a custom likelihood, n; null for a built-in one */
  nats: Float32Array | null;
  count: number;
}

export interface Encoded {
  /** n×d */
  mean: Float32Array;
  /** n×d; −∞ for an autoencoder */
  logVariance: Float32Array;
  count: number;
}

/** A drawing's posterior, for the ellipse on the map. */
export interface Drawn {
  /** d */
  mean: Float32Array;
  /** d; zeros for an autoencoder */
  deviation: Float32Array;
  label: number | null;
}
