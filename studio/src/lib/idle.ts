/** Animation until the first interaction: the point moves on a small circle. */
import { unitOf } from "./latent";
import type { StudioState } from "./state.svelte";

/** Seconds per round, and radius of the circle in σ. */
const ROUND = 16;
const RADIUS = 0.7;
/** Milliseconds between two steps: looks smooth at half the work of a step per frame. */
const EVERY = 33;

/** Move the point until the first interaction, unless the user prefers reduced motion; returns a function that stops it. */
export function idle(state: StudioState): () => void {
  const [first, second] = state.maybeModel?.order ?? [];
  if (first === undefined || second === undefined) return () => undefined;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return () => undefined;
  const { z: start, model } = state;
  const [one, other] = [unitOf(model, first).sigma, unitOf(model, second).sigma];
  let begun: number | null = null;
  let last = 0;
  let frame = 0;

  const stop = (): void => {
    cancelAnimationFrame(frame);
    for (const event of TOUCHES) removeEventListener(event, touch, true);
  };
  const touch = (): void => {
    state.touched = true;
    stop();
  };
  const move = (now: number): void => {
    if (state.touched) return stop();
    frame = requestAnimationFrame(move);
    if (state.view !== "play" || now - last < EVERY) return;
    begun ??= now;
    last = now;
    const angle = (2 * Math.PI * (now - begun)) / 1000 / ROUND;
    const z = start.slice();
    // The circle passes through the starting point, so that the motion begins at the first picture.
    z[first] = (z[first] ?? 0) + one * RADIUS * Math.sin(angle);
    z[second] = (z[second] ?? 0) + other * RADIUS * (Math.cos(angle) - 1);
    state.setZ(z, "idle");
  };

  for (const event of TOUCHES) addEventListener(event, touch, { capture: true, passive: true });
  frame = requestAnimationFrame(move);
  return stop;
}

const TOUCHES = ["pointerdown", "keydown", "wheel", "drop"] as const;
