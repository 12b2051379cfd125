/** What the files of a bundle say, and what the engine gives back: the words that all parts of the page share. */

export type Kind = "ae" | "vae" | "cvae";

export type LikelihoodName = "bernoulli" | "continuous_bernoulli" | "discretised_logistic" | "gaussian";

/** Where bytes are: to be fetched, or gzip in base64 inside the page. */
export type Source = { url: string } | { packed: string };

/** Bytes of a file of the bundle by its name; rejects with a readable message. */
export interface Bundle {
  (name: string): Promise<ArrayBuffer>;
  /** Where they are, for the worker to get them itself. */
  source(name: string): Source;
}

/** [C, H, W] */
export type Shape = [number, number, number];

export interface AxisFacts {
  /** Nats per image that each latent axis carries, over test images; all 0 for an autoencoder. */
  rate: number[];
  /** Mean and standard deviation, over test images, of the posterior's mean on each axis. */
  mean: number[];
  deviation: number[];
}

export interface PrincipalPlane {
  mean: number[];
  /** Two unit vectors of d numbers. */
  components: [number[], number[]];
  /** Share of the variance of the points along each. */
  explained: [number, number];
}

export interface PointsFacts {
  file: string;
  count: number;
  /** The axes whose columns the file holds, at most 12; the two columns after them are the principal components. */
  axes: number[];
  /** What one count of a coordinate is worth. */
  scale: number;
  /** Which of the data's splits the images are of: test, or validation or train where there is none. */
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
  /** Whether a drawing is cut into 0 and 1 before the model scores it. */
  binarised: boolean;
  axes: AxisFacts;
  /** All d axes, highest rate first. */
  order: number[];
  principal: PrincipalPlane;
  points: PointsFacts | null;
  /** 101 quantiles of −ELBO of test images in nats, ascending. */
  surprise: { quantiles: number[] } | null;
  figures: Record<string, number> | null;
  /** The aggregate posterior, axis by axis. */
  spread: { mean: number[]; deviation: number[] };
}

export interface FirstPicture {
  file: string;
  /** A row per label, or 1. */
  rows: number;
  columns: number;
  /** The point of each column. */
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
  /** What a person should know of the run: what is missing here, and why. */
  notes: string[];
}

export interface Decoded {
  /** n×C×H×W, 0…1 */
  pixels: Float32Array;
  /** n×planes×C×H×W of the likelihood, named by `stated_as` */
  parameters: Float32Array;
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
