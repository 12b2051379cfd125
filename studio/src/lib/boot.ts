/** How the page begins: the manifest, the first picture, then the model; and what is said if one of them fails. */
import { createBundle, loadManifest } from "./bundle";
import { createEngine, startWorker } from "./engine/engine";
import { loadFirst } from "./first";
import { readHash } from "./hash";
import { idle } from "./idle";
import { StudioState } from "./state.svelte";
import type { Studio } from "./studio";

export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The studio with its manifest read and its worker on its way; rejects with a readable message. */
export async function boot(): Promise<Studio> {
  const bundle = createBundle();
  const send = startWorker();
  const manifest = await loadManifest(bundle);
  const state = new StudioState(manifest);
  readHash(state, location.hash);
  return { state, engine: createEngine(bundle, manifest, send), bundle };
}

/** Brings the first picture and then the model to life. */
export function enliven({ state, engine, bundle }: Studio): void {
  void loadFirst(bundle, state.manifest).then((first) => {
    state.first = first;
  });
  if (state.maybeModel === undefined) return;
  engine.ready(state.kind).then(
    () => {
      state.live = true;
      if (state.from === "seed" && state.seed === 0) idle(state);
    },
    (error: unknown) => {
      state.fail(error);
    },
  );
}
