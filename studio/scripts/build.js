/**
 * Builds the page into the Python package: index.html, app.js, app.css, worker.js (each one file, no modules, so that they run
 * from file:// as well), ort.wasm and licences.txt.
 */
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "vite";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const out = join(root, process.env.STUDIO_OUT ?? "../src/vaelab/studio/dist");

/** Packages that the page contains; licences.txt lists their licences. */
const SHIPPED = ["svelte", "clsx", "onnxruntime-web", "onnxruntime-common"];

/** Licence of ONNX Runtime, whose packages do not include its text. */
const MIT = `Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files
(the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify,
merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE
LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

Third-party notices for its WebAssembly: https://github.com/microsoft/onnxruntime/blob/main/ThirdPartyNotices.txt`;

/** The worker receives the runtime as bytes, so the library's look-up of addresses is not needed. */
const noImportMeta = {
  name: "no-import-meta",
  transform(code, id) {
    return id.includes("onnxruntime-web") ? code.replaceAll("import.meta.url", "self.location.href") : null;
  },
};

async function bundle(entry, name) {
  await build({
    root,
    configFile: join(root, "vite.config.ts"),
    logLevel: "warn",
    plugins: entry.endsWith("worker.ts") ? [noImportMeta] : [],
    resolve: { conditions: ["browser", "import", "module", "default"] },
    build: {
      target: "es2022",
      outDir: out,
      emptyOutDir: false,
      minify: true,
      lib: { entry: join(root, entry), formats: ["iife"], name, fileName: () => `${name}.js`, cssFileName: name },
    },
    define: { "process.env.NODE_ENV": '"production"' },
  });
}

async function licences() {
  const parts = [];
  for (const name of SHIPPED) {
    const folder = join(root, "node_modules", name);
    const facts = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file === undefined ? MIT : await readFile(join(folder, file), "utf8");
    if (file === undefined && !name.startsWith("onnxruntime-")) throw new Error(`no licence found for ${name}`);
    parts.push(`${facts.name} ${facts.version} (${facts.license})\n\n${text.trim()}\n`);
  }
  return `Software included in this page, in addition to vaelab itself (MIT).\n\n${parts.join(`\n${"-".repeat(80)}\n\n`)}`;
}

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await bundle("src/main.ts", "app");
await bundle("src/lib/engine/worker.ts", "worker");
await copyFile(join(root, "index.html"), join(out, "index.html"));
await copyFile(join(root, "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"), join(out, "ort.wasm"));
await writeFile(join(out, "licences.txt"), await licences());
