/**
 * A real server in a temporary folder, that tests start, kill and start again on the same port. With the address of a
 * database in `ROOKERY_TEST_CASSANDRA` it keeps everything there, in a keyspace of its own.
 */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const binary = process.env["ROOKERY_BIN"] ?? here("../../target/debug/rookery");
/** A debug build on a busy machine may take its time. */
const START_MS = 30_000;

const database = process.env["ROOKERY_TEST_CASSANDRA"];

/** What tells a server where to keep things. */
function store(): Record<string, string> {
  if (!database) return {};
  return {
    ROOKERY__STORE__KIND: "scylla",
    ROOKERY__SCYLLA__CONTACT_POINTS: database,
    ROOKERY__SCYLLA__KEYSPACE: `web_${randomBytes(6).toString("hex")}`,
  };
}

export class Server {
  url = "";
  output = "";
  readonly folder = mkdtempSync(join(tmpdir(), "rookery-web-"));
  #child: ChildProcess | null = null;
  readonly #store = store();

  constructor(private readonly more: Record<string, string> = {}) {
    if (!existsSync(binary)) throw new Error(`no server at ${binary}: build it, or set ROOKERY_BIN`);
  }

  /** Starts it: on any free port first, later on the one that it had. */
  async start(): Promise<this> {
    const address = this.url ? new URL(this.url).host : "127.0.0.1:0";
    const env = {
      PATH: process.env["PATH"] ?? "",
      ROOKERY__LISTEN__ADDRESS: address,
      ROOKERY__STORE__FOLDER: join(this.folder, "data"),
      ...this.#store,
      ...this.more,
    };
    if (!this.url && database) execFileSync(binary, ["migrate"], { env });
    const child = spawn(binary, ["serve"], { cwd: this.folder, env, stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    let out = "";
    const url = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the server did not say where it listens:\n${this.output}`)), START_MS);
      const read = (chunk: Buffer) => {
        out += chunk.toString();
        this.output += chunk.toString();
        const found = /https?:\/\/127\.0\.0\.1:\d+/.exec(out);
        if (found) resolve(found[0]);
        if (found) clearTimeout(timer);
      };
      child.stdout!.on("data", read);
      child.stderr!.on("data", (chunk: Buffer) => void (this.output += chunk.toString()));
      child.on("exit", (code) => reject(new Error(`the server ended with ${code}:\n${this.output}`)));
    });
    this.url = url;
    return this;
  }

  /** Ends it as a loss of power would. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await gone;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Waits until `holds`. The deadline is for a failure only. */
export async function until<T>(holds: () => T | Promise<T>, what: string, ms = 30_000): Promise<NonNullable<T>> {
  const end = Date.now() + ms;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what} did not come`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
