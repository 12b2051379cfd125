/** The objects that all views share, provided through Svelte's context. */
import { getContext, setContext } from "svelte";

import type { Engine } from "./engine/engine";
import type { StudioState } from "./state.svelte";
import type { Bundle } from "./types";

export interface Studio {
  state: StudioState;
  engine: Engine;
  bundle: Bundle;
}

const KEY = Symbol("studio");

export function provideStudio(studio: Studio): Studio {
  return setContext(KEY, studio);
}

export function useStudio(): Studio {
  return getContext<Studio>(KEY);
}
