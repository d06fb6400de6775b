/** The shell of the timelines: opens and closes rooms, fills holes, pages back. */
import type { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";
import type { Platform } from "./platform.js";
import type { Requests } from "./requests.js";
import { Refusal } from "./rest.js";
import { emptyTimeline, hasOlder, lastSeq, reduceTimeline, type Timeline, type TimelineInput, type TimelineOutput } from "./timeline.js";
import { TRANSIENT_CODES, type Entry, type ErrorCode, type Id, type Resume, type Seq, type ServerFrame } from "./wire.js";

/** Entries asked for when scrolling back. */
const OLDER_ENTRIES = 50;
/** Before something refused is asked for again, where the server names no time. */
const AGAIN_MS = 1_000;

export interface TimelinesEvents {
  timeline: { room: Id; timeline: Timeline };
  /** Entries as they come: of the stream (`live`) or of a page. */
  entries: { room: Id; entries: readonly Entry[]; live: boolean };
  /** The server ended the room's stream, or refused to begin it. */
  closed: { room: Id; code: ErrorCode };
  reset: { room: Id };
  skipped: { room: Id; after: Seq; upto: Seq };
  discontinuity: { room: Id; after: Seq; next: Seq };
}

/** See the file's head. */
export class Timelines extends Emitter<TimelinesEvents> {
  #timelines = new Map<Id, Timeline>();
  #wanted = new Set<Id>();
  /** What the last identification asked to resume. */
  #resumed = new Set<Id>();
  #opening = new Set<Id>();
  /** Rooms whose closing the server has not yet answered; it refuses to open them until then. */
  #closing = new Map<Id, Promise<unknown>>();
  #paging = new Map<Id, Promise<boolean>>();

  constructor(private readonly platform: Platform, private readonly connection: Connection, private readonly requests: Requests) {
    super();
    connection.on("ready", () => this.#ready());
    connection.on("down", () => {
      this.#closing.clear();
      this.#opening.clear();
      for (const room of this.#timelines.keys()) this.#put(room, { type: "disconnected" });
    });
  }

  get(room: Id): Timeline {
    return this.#timelines.get(room) ?? emptyTimeline(room);
  }

  isOpen(room: Id): boolean {
    return this.#wanted.has(room);
  }

  /** Hears the room whole, now and after every reconnect, until `close`. */
  open(room: Id): void {
    if (this.#wanted.has(room)) return;
    this.#wanted.add(room);
    if (this.connection.state === "ready") void this.#ask(room);
  }

  close(room: Id): void {
    if (!this.#wanted.delete(room)) return;
    this.#put(room, { type: "disconnected" });
    if (this.connection.state === "ready") this.#tellClosed(room);
  }

  forget(room: Id): void {
    this.#wanted.delete(room);
    this.#timelines.delete(room);
  }

  /** Where the open rooms stopped. */
  resume(): Record<Id, Resume> {
    const known = [...this.#wanted].filter((room) => this.#knows(room));
    this.#resumed = new Set(known);
    return Object.fromEntries(known.map((room) => {
      const timeline = this.get(room);
      return [room, { after: lastSeq(timeline), open: true, incarnation: timeline.incarnation! }];
    }));
  }

  /** Loads a page of older entries. Says whether there may be more. */
  older(room: Id): Promise<boolean> {
    const running = this.#paging.get(room) ?? this.#older(room).finally(() => this.#paging.delete(room));
    this.#paging.set(room, running);
    return running;
  }

  heard(frame: ServerFrame): void {
    switch (frame.type) {
      case "opened": case "gap": case "reset":
        return this.#put(frame.room, frame);
      case "entries":
        // Told first: who shows both must know what is not pending any more before the timeline shows it.
        this.emit("entries", { room: frame.room, entries: frame.entries, live: true });
        return this.#put(frame.room, frame);
      case "closed":
        if (frame.code !== undefined) this.#lost(frame.room, frame.code);
        return;
      case "error":
        // An open of the resume that failed has no number; one that was asked for is answered where it was asked.
        if (frame.room && frame.id === undefined && this.#wanted.has(frame.room)) this.#refused(frame.room, frame.code, frame.retry_after_ms);
    }
  }

  /** Opens and closes what has changed since the resume was written. */
  #ready(): void {
    for (const room of this.#wanted) if (!this.#resumed.has(room)) void this.#ask(room);
    for (const room of this.#resumed) if (!this.#wanted.has(room)) this.#tellClosed(room);
  }

  #tellClosed(room: Id): void {
    const closing = this.requests.ask((id) => ({ type: "close", id, room })).catch(() => {}).finally(() => {
      if (this.#closing.get(room) === closing) this.#closing.delete(room);
    });
    this.#closing.set(room, closing);
  }

  async #older(room: Id): Promise<boolean> {
    const timeline = this.get(room);
    if (!hasOlder(timeline)) return false;
    const page = await this.requests.history(room, { before: timeline.base + 1 }, OLDER_ENTRIES);
    this.#put(room, { type: "page", page });
    this.emit("entries", { room, entries: page.entries, live: false });
    // An empty page means that nothing older may be read, whatever `first` says.
    return page.entries.length > 0 && hasOlder(this.get(room));
  }

  async #ask(room: Id): Promise<void> {
    if (this.#opening.has(room)) return;
    this.#opening.add(room);
    try {
      await this.#closing.get(room);
      if (this.#wanted.has(room)) await this.requests.ask((id) => ({ type: "open", id, room, ...this.#position(room) }));
    } catch (error) {
      // A broken connection is no refusal: the next one opens the room again.
      if (error instanceof Refusal && error.code !== "unreachable") this.#refused(room, error.code, error.retryAfterMs);
    } finally {
      this.#opening.delete(room);
    }
  }

  #position(room: Id): { after?: Seq; incarnation?: number } {
    const timeline = this.get(room);
    return timeline.incarnation === null ? {} : { after: lastSeq(timeline), incarnation: timeline.incarnation };
  }

  #knows(room: Id): boolean {
    return this.get(room).incarnation !== null;
  }

  #refused(room: Id, code: ErrorCode, retryAfterMs?: number): void {
    if (!TRANSIENT_CODES.has(code) && code !== "internal") return this.#lost(room, code);
    this.#later(retryAfterMs, () => { if (this.#wanted.has(room) && !this.get(room).live) void this.#ask(room); });
  }

  #lost(room: Id, code: ErrorCode): void {
    this.#wanted.delete(room);
    this.#put(room, { type: "closed" });
    this.emit("closed", { room, code });
  }

  #put(room: Id, input: TimelineInput): void {
    const [timeline, outputs] = reduceTimeline(this.get(room), input);
    this.#timelines.set(room, timeline);
    for (const output of outputs) this.#perform(room, output);
    this.emit("timeline", { room, timeline });
  }

  #perform(room: Id, output: TimelineOutput): void {
    switch (output.type) {
      case "fill": return void this.#fill(room, output.after, output.upto);
      case "reset": return this.emit("reset", { room });
      case "skipped": return this.emit("skipped", { room, after: output.after, upto: output.upto });
      case "discontinuity": return this.emit("discontinuity", { room, after: output.after, next: output.next });
    }
  }

  async #fill(room: Id, after: Seq, upto: Seq): Promise<void> {
    const most = this.connection.welcome?.limits.page_entries ?? OLDER_ENTRIES;
    try {
      const page = await this.requests.history(room, { after }, Math.min(most, upto - after));
      this.#put(room, { type: "page", page, fill: true });
      this.emit("entries", { room, entries: page.entries, live: false });
    } catch (error) {
      // Without a connection there is no hole: the resume asks for what follows the run.
      const again = error instanceof Refusal && error.code !== "unreachable";
      if (again) this.#later(error.retryAfterMs, () => { if (this.get(room).hole?.after === after) void this.#fill(room, after, upto); });
    }
  }

  #later(ms: number | undefined, run: () => void): void {
    this.platform.clock.setTimeout(run, ms ?? AGAIN_MS);
  }
}
