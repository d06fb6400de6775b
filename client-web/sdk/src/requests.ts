/** Requests over the socket: each has a number, and its answer carries it back. */
import type { Connection } from "./connection.js";
import type { Clock } from "./platform.js";
import { Refusal } from "./rest.js";
import { TRANSIENT_CODES, type ClientFrame, type HistoryFrom, type Id, type PageOfLog, type ServerFrame } from "./wire.js";

/** Attempts at a page that the server is too busy for. */
const ATTEMPTS = 5;
/** Before the next one, where the server names no time. */
const AGAIN_MS = 1_000;

type Numbered = Extract<ClientFrame, { id: number }>;
interface Waiting {
  resolve(frame: ServerFrame): void;
  reject(error: Refusal): void;
}

/** See the file's head. */
export class Requests {
  #waiting = new Map<number, Waiting>();

  constructor(private readonly clock: Clock, private readonly connection: Connection) {
    connection.on("down", () => this.#abandon());
  }

  /** Asks, and waits for the answer. Rejects when the server refuses or the connection ends first. */
  ask(make: (id: number) => Numbered): Promise<ServerFrame> {
    const id = this.connection.nextId();
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      if (!this.connection.send(make(id))) this.#reject(id, new Refusal("unreachable", "not connected", 0));
    });
  }

  /** A page of a room's log. Waits and asks again where the server says that it is asked too often. */
  async history(room: Id, from?: HistoryFrom, limit?: number): Promise<PageOfLog> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#page(room, from, limit);
      } catch (error) {
        const again = error instanceof Refusal && TRANSIENT_CODES.has(error.code) && attempt < ATTEMPTS;
        if (!again) throw error;
        await new Promise<void>((over) => this.clock.setTimeout(over, error.retryAfterMs ?? AGAIN_MS));
      }
    }
  }

  async #page(room: Id, from?: HistoryFrom, limit?: number): Promise<PageOfLog> {
    const frame = await this.ask((id) => ({ type: "history", id, room, ...(from && { from }), ...(limit && { limit }) }));
    if (frame.type !== "page") throw new Refusal("invalid", `a ${frame.type} answered a history request`, 0);
    return frame;
  }

  /** Takes a frame if it answers something. */
  heard(frame: ServerFrame): void {
    const id = "id" in frame ? frame.id : undefined;
    if (id === undefined) return;
    if (frame.type === "error") return this.#reject(id, new Refusal(frame.code, frame.message, 0, frame.retry_after_ms));
    this.#waiting.get(id)?.resolve(frame);
    this.#waiting.delete(id);
  }

  #reject(id: number, error: Refusal): void {
    this.#waiting.get(id)?.reject(error);
    this.#waiting.delete(id);
  }

  #abandon(): void {
    for (const id of [...this.#waiting.keys()]) this.#reject(id, new Refusal("unreachable", "the connection ended", 0));
  }
}
