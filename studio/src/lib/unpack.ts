/** Load a file: fetch it, or unpack it from gzip in base64. Used on the main thread and in the worker. */
import type { Source } from "./types";

/** Base64 characters decoded at a time, a multiple of 4; takes a few milliseconds. */
const SLICE = 1 << 20;

export async function unpack(source: Source, name: string): Promise<ArrayBuffer> {
  return "url" in source ? fetched(source.url, name) : inflated(source.packed, name);
}

async function fetched(url: string, name: string): Promise<ArrayBuffer> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch {
    throw new Error(`${name} could not be loaded: vaelab studio may have stopped; start it again and reload this page`);
  }
  if (!response.ok) {
    const reason = (await response.text().catch(() => "")).trim().slice(0, 300);
    throw new Error(`${name} could not be loaded: ${reason || `the server answered with status ${response.status}`}`);
  }
  return response.arrayBuffer();
}

async function inflated(packed: string, name: string): Promise<ArrayBuffer> {
  const { readable, writable } = new DecompressionStream("gzip");
  const whole = new Response(readable).arrayBuffer();
  const writer = writable.getWriter();
  const text = packed.trim();
  const written = (async () => {
    for (let at = 0; at < text.length; at += SLICE) await writer.write(decoded(text.slice(at, at + SLICE)));
    await writer.close();
  })();
  try {
    const [bytes] = await Promise.all([whole, written]);
    return bytes;
  } catch {
    throw new Error(`${name} is damaged inside this page: export the page again`);
  }
}

function decoded(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
