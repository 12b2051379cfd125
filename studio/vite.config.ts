/// <reference types="vitest/config" />
/** How the page is built: `npm run build` runs this once for the page and once for its worker (scripts/build.js). */
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [svelte()],
  test: { include: ["src/**/*.test.ts"], environment: "node", testTimeout: 10_000 },
});
