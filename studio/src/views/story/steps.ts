/** The seven steps: titles, and the models that each one needs. */
import type { Kind, Manifest } from "../../lib/types";

export interface Step {
  title: string;
  short: string;
  /** Kinds of model that the step can use, in order of preference. */
  needs: readonly Kind[];
}

export const STEPS: readonly Step[] = [
  { title: "Compress an image and reconstruct it", short: "autoencoder", needs: ["ae"] },
  { title: "A latent space without gaps", short: "N(0, I)", needs: ["ae"] },
  { title: "A distribution instead of a point", short: "posterior", needs: ["vae", "cvae"] },
  { title: "All posteriors together", short: "rate", needs: ["vae", "cvae"] },
  { title: "The reparameterisation trick", short: "z = μ + σ·ε", needs: ["vae", "cvae"] },
  { title: "Generate new images: the VAE", short: "VAE", needs: ["vae"] },
  { title: "Choose the label: the conditional VAE", short: "CVAE", needs: ["cvae"] },
];

export const NAMES: Record<Kind, string> = {
  ae: "an autoencoder (ae)",
  vae: "a variational autoencoder (vae)",
  cvae: "a conditional variational autoencoder (cvae)",
};

/** The model that a step uses; null if the page has none that it needs. */
export function modelOf(manifest: Manifest, step: number): Kind | null {
  return STEPS[step - 1]?.needs.find((kind) => manifest.models[kind] !== undefined) ?? null;
}

/** The VAE or conditional VAE that step 2 shows next to the autoencoder; null if the page has neither. */
export function besideOf(manifest: Manifest): Kind | null {
  return (["vae", "cvae"] as const).find((kind) => manifest.models[kind] !== undefined) ?? null;
}

/** The nearest valid step, 1 to 7; 1 for NaN. */
export function clamped(step: number): number {
  return Number.isFinite(step) ? Math.min(STEPS.length, Math.max(1, Math.round(step))) : 1;
}
