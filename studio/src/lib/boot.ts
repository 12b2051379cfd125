/** Start-up of the page: load the manifest, then the precomputed picture, then the model. */
import { createBundle, loadManifest } from "./bundle";
import { createEngine, startWorker } from "./engine/engine";
import { loadFirst } from "./first";
import { readHash } from "./hash";
import { idle } from "./idle";
import { StudioState } from "./state.svelte";
import type { Studio } from "./studio";

/** Create the studio: load the manifest and start the worker. Rejects with a readable message. */
export async function boot(): Promise<Studio> {
  const bundle = createBundle();
  const send = startWorker();
  const manifest = await loadManifest(bundle);
  const state = new StudioState(manifest);
  readHash(state, location.hash);
  return { state, engine: createEngine(bundle, manifest, send), bundle };
}

/** Load the precomputed picture and the model. */
export function startModel({ state, engine, bundle }: Studio): void {
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
