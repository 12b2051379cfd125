/// <reference types="vitest/config" />
/** Build configuration: `npm run build` (scripts/build.js) uses it once for the page and once for its worker. */
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [svelte()],
  test: { include: ["src/**/*.test.ts"], environment: "node", testTimeout: 10_000 },
});
