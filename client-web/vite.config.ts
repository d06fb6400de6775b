import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: here("app"),
  plugins: [svelte({ configFile: here("svelte.config.js") })],
  resolve: { alias: { "@rookery/sdk": here("sdk/src/index.ts") } },
  build: {
    outDir: here("dist"),
    emptyOutDir: true,
    target: "es2022",
    // The server's policy allows files of its own and nothing inline.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    fs: { allow: [here(".")] },
    proxy: { "/v1": { target: "http://127.0.0.1:8080", ws: true }, "/.well-known": "http://127.0.0.1:8080" },
  },
});
