import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const alias = { "@rookery/sdk": fileURLToPath(new URL("sdk/src/index.ts", import.meta.url)) };

/** Three kinds of tests: `unit` needs nothing, `integration` a server, `browser` a server and Chromium. */
export default defineConfig(({ mode }) => {
  if (mode === "integration" || mode === "browser") {
    return {
      resolve: { alias },
      test: {
        include: [`test/${mode}/**/*.test.ts`],
        testTimeout: 120_000,
        hookTimeout: 120_000,
        fileParallelism: false,
        pool: "forks" as const,
        setupFiles: ["test/node.ts"],
      },
    };
  }
  return { resolve: { alias }, test: { include: ["sdk/test/**/*.test.ts", "app/test/**/*.test.ts"], setupFiles: ["test/node.ts"] } };
});
