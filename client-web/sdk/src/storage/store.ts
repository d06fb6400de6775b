/** What outlives a reload: writers, their counters, and the messages that have not been acknowledged. */
import type { Body, Id, Kind, Seq } from "../wire.js";

/** A send as it is kept. */
export interface StoredSend {
  /** The client's own name for it. */
  local: string;
  user: Id;
  room: Id;
  /** Absent once it has definitely been refused, or given up: then it waits for the user, not for the server. */
  writer?: Id;
  n?: number;
  kind: Kind;
  target?: Seq;
  body: Body;
  createdAt: number;
  state: "queued" | "failed" | "unknown";
  /** Why it failed. */
  code?: string;
}

/** How far a writer has counted in a room. */
export interface Lane {
  user: Id;
  room: Id;
  writer: Id;
  /** The counter of the next send. */
  next: number;
  /** The highest counter that was acknowledged. */
  acked: number;
  /** Never to be used again: what its last number carried is in doubt. */
  retired: boolean;
}

/** A change that is kept whole or not at all. */
export interface Change {
  writers?: { id: Id; user: Id }[];
  lanes?: Lane[];
  sends?: StoredSend[];
  forget?: string[];
}

/** Where it is kept. */
export interface Store {
  writers(user: Id): Promise<Id[]>;
  lanes(writer: Id): Promise<Lane[]>;
  sends(user: Id): Promise<StoredSend[]>;
  /** Durable when the promise resolves. */
  commit(change: Change): Promise<void>;
  /** Forgets everything of this user. */
  clear(user: Id): Promise<void>;
}

/** Keeps it for the life of the process; for Node, and for browsers that refuse storage. */
export class MemoryStore implements Store {
  #writers = new Map<Id, Id>();
  #lanes = new Map<string, Lane>();
  #sends = new Map<string, StoredSend>();

  async writers(user: Id): Promise<Id[]> {
    return [...this.#writers].filter(([, owner]) => owner === user).map(([writer]) => writer);
  }

  async lanes(writer: Id): Promise<Lane[]> {
    return [...this.#lanes.values()].filter((lane) => lane.writer === writer).map((lane) => ({ ...lane }));
  }

  async sends(user: Id): Promise<StoredSend[]> {
    return [...this.#sends.values()].filter((send) => send.user === user).map((send) => ({ ...send }));
  }

  async commit(change: Change): Promise<void> {
    for (const writer of change.writers ?? []) this.#writers.set(writer.id, writer.user);
    for (const lane of change.lanes ?? []) this.#lanes.set(`${lane.writer} ${lane.room}`, { ...lane });
    for (const send of change.sends ?? []) this.#sends.set(send.local, { ...send });
    for (const local of change.forget ?? []) this.#sends.delete(local);
  }

  async clear(user: Id): Promise<void> {
    for (const [writer, owner] of this.#writers) if (owner === user) this.#writers.delete(writer);
    for (const [key, lane] of this.#lanes) if (lane.user === user) this.#lanes.delete(key);
    for (const [key, send] of this.#sends) if (send.user === user) this.#sends.delete(key);
  }
}
