/** What browsers and newer versions of Node have, and Node 18 does not. */

import { webcrypto } from "node:crypto";
import { WebSocket } from "undici";

const missing: Record<string, unknown> = { crypto: webcrypto, WebSocket };

for (const [name, value] of Object.entries(missing)) {
  if (!(name in globalThis)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}
