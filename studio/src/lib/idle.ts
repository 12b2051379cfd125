/** A gentle motion until the page is touched: the point goes round a small circle about where it began. */
import { unitOf } from "./latent";
import type { StudioState } from "./state.svelte";

/** Seconds of a round, and σ of the circle's radius. */
const ROUND = 16;
const RADIUS = 0.7;
/** Milliseconds between two steps: often enough to look smooth, and half the work of every frame. */
const EVERY = 33;

/** Moves the point until it is touched, and not at all for who asks for less motion; returns what stops it. */
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
    // A circle through the starting point, so that the first picture is where the motion begins.
    z[first] = (z[first] ?? 0) + one * RADIUS * Math.sin(angle);
    z[second] = (z[second] ?? 0) + other * RADIUS * (Math.cos(angle) - 1);
    state.setZ(z, "idle");
  };

  for (const event of TOUCHES) addEventListener(event, touch, { capture: true, passive: true });
  frame = requestAnimationFrame(move);
  return stop;
}

const TOUCHES = ["pointerdown", "keydown", "wheel", "drop"] as const;
