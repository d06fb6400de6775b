/**
 * The pool of writers. A writer counts the sends of one live tab; the pool in storage lets the next tab count on where a
 * closed one stopped, so that a user's writers do not grow without end.
 */
import type { Platform, Release } from "./platform.js";
import type { Id } from "./wire.js";

/** A writer that this tab holds. */
export interface Held {
  id: Id;
  release: Release;
}

/** See the file's head. */
export class WriterPool {
  #held = new Map<Id, Release>();

  constructor(private readonly platform: Platform, private readonly user: Id) {}

  /** A writer from the pool that no live tab holds, or a new one. */
  async take(): Promise<Id> {
    for (const id of await this.platform.store.writers(this.user)) if (await this.#hold(id)) return id;
    return this.fresh();
  }

  /** A new random writer: nothing was ever counted under it. */
  async fresh(): Promise<Id> {
    const id = this.platform.randomId();
    await this.#hold(id);
    await this.platform.store.commit({ writers: [{ id, user: this.user }] });
    return id;
  }

  /** Of these writers, those that no live tab holds; they are held from now on. */
  async adopt(ids: Iterable<Id>): Promise<Id[]> {
    const adopted: Id[] = [];
    for (const id of new Set(ids)) if (await this.#hold(id)) adopted.push(id);
    return adopted;
  }

  /** Lets another tab have it. */
  release(id: Id): void {
    this.#held.get(id)?.();
    this.#held.delete(id);
  }

  releaseAll(): void {
    for (const id of [...this.#held.keys()]) this.release(id);
  }

  async #hold(id: Id): Promise<boolean> {
    if (this.#held.has(id)) return false;
    const release = await this.platform.locks.tryHold(`rookery-writer-${id}`);
    if (release) this.#held.set(id, release);
    return release !== null;
  }
}
