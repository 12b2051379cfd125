/** The seven steps: their titles, which models each one needs, and what to type where one is missing. */
import type { Kind, Manifest } from "../../lib/types";

export interface Step {
  title: string;
  short: string;
  /** Any one of these will do, the first that there is. */
  needs: readonly Kind[];
}

export const STEPS: readonly Step[] = [
  { title: "Squeeze an image, and rebuild it", short: "autoencoder", needs: ["ae"] },
  { title: "A space without holes", short: "the wish", needs: ["ae"] },
  { title: "A cloud instead of a point", short: "posterior", needs: ["vae", "cvae"] },
  { title: "All clouds together", short: "average", needs: ["vae", "cvae"] },
  { title: "The dice stand outside", short: "z = μ + σ·ε", needs: ["vae", "cvae"] },
  { title: "Any point will do: the VAE", short: "VAE", needs: ["vae"] },
  { title: "Say which: the label and the CVAE", short: "CVAE", needs: ["cvae"] },
];

export const NAMES: Record<Kind, string> = {
  ae: "an autoencoder (ae)",
  vae: "a variational autoencoder (vae)",
  cvae: "a conditional variational autoencoder (cvae)",
};

/** The model that a step uses; null where the page has none of those that it needs. */
export function modelOf(manifest: Manifest, step: number): Kind | null {
  return STEPS[step - 1]?.needs.find((kind) => manifest.models[kind] !== undefined) ?? null;
}

/** The model without gaps that step 2 puts beside the autoencoder. */
export function besideOf(manifest: Manifest): Kind | null {
  return (["vae", "cvae"] as const).find((kind) => manifest.models[kind] !== undefined) ?? null;
}

/** What to type to have all three models in the page; a source that is no plain word is quoted. */
export function command(source: string): string {
  const plain = /^[\w./:-]+$/.test(source);
  return `vaelab train ${plain ? source : `'${source.replaceAll("'", "'\\''")}'`} --model all`;
}

/** A step of the story from anything: 1 to 7. */
export function clamped(step: number): number {
  return Number.isFinite(step) ? Math.min(STEPS.length, Math.max(1, Math.round(step))) : 1;
}
