/** Access to the files of the page: next to it on a server, or inside it when it is one file. */
import { unpack } from "./unpack";
import type { Bundle, Manifest, Source } from "./types";
import { RENAMED_LIKELIHOODS } from "./manifest";
import { parseShown } from "./printable";

/** Selects the script elements that contain the files of a page exported as one file. */
const PACKED = 'script[type="application/vaelab"]';

export function isSingleFile(): boolean {
  return document.querySelector(PACKED) !== null;
}

/** The location of a file of the page itself (worker.js, ort.wasm). */
export function pageSource(name: string): Source {
  return isSingleFile() ? packed(name) : { url: new URL(name, document.baseURI).href };
}

function packed(name: string): Source {
  for (const element of document.querySelectorAll<HTMLScriptElement>(PACKED)) {
    if (element.dataset["name"] === name) return { packed: element.textContent };
  }
  throw new Error(`${name} is missing from this page; export the page again: vaelab export RUN --out page.html`);
}

export function createBundle(): Bundle {
  const source = (name: string): Source =>
    isSingleFile() ? packed(name) : { url: new URL(`bundle/${name}`, document.baseURI).href };
  const bytes = async (name: string): Promise<ArrayBuffer> => unpack(source(name), name);
  return Object.assign(bytes, { source });
}

export async function json<T>(bundle: Bundle, name: string): Promise<T> {
  return parseShown(new TextDecoder().decode(await bundle(name))) as T;
}

/** Load the manifest; throws if its format is not the one that this page reads. */
export async function loadManifest(bundle: Bundle): Promise<Manifest> {
  const manifest = await json<Manifest>(bundle, "manifest.json");
  if (manifest.format !== 3) {
    throw new Error(`manifest.json has format ${String(manifest.format)}, but this page reads format 3; open it with the version of vaelab that wrote it`);
  }
  for (const model of Object.values(manifest.models)) {
    model.likelihood = RENAMED_LIKELIHOODS[model.likelihood] ?? model.likelihood;
  }
  return manifest;
}
