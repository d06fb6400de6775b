import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const alias = { "@rookery/sdk": fileURLToPath(new URL("sdk/src/index.ts", import.meta.url)) };

/** Three kinds of tests: `unit` needs nothing, `integration` a server, `browser` a server and Chromium. */
export default defineConfig(({ mode }) => {
  const slow = { testTimeout: 120_000, hookTimeout: 120_000, fileParallelism: false };
  if (mode === "integration") {
    // Node 20 has a WebSocket behind this flag; later versions have it without.
    const forks = { execArgv: ["--experimental-websocket"] };
    return { resolve: { alias }, test: { include: ["test/integration/**/*.test.ts"], ...slow, pool: "forks" as const, poolOptions: { forks } } };
  }
  if (mode === "browser") return { resolve: { alias }, test: { include: ["test/browser/**/*.test.ts"], ...slow } };
  return { resolve: { alias }, test: { include: ["sdk/test/**/*.test.ts", "app/test/**/*.test.ts"] } };
});
