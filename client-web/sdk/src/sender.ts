/** The shell of the outbox: keeps, sends and waits for it, and holds its writers. */
import { Emitter } from "./emitter.js";
import { Outbox } from "./outbox.js";
import { fromStored, toStored, type Draft, type OutboxOutput, type Pending } from "./pending.js";
import type { Platform } from "./platform.js";
import { MemoryStore, type StoredSend } from "./storage/store.js";
import type { Ack, Entry, Id, Limits, Millis, PageOfLog, Refused, SendFrame, Seq } from "./wire.js";
import { WriterPool } from "./writers.js";

/** How often a tab looks for messages that a closed tab has left behind. */
const ADOPT_EVERY_MS = 30_000;

/** What the sender tells. */
export interface SenderEvents {
  /** The pending messages of a room are others now. */
  changed: { room: Id };
  /** A message is in the log. */
  acked: { pending: Pending; seq?: Seq; at?: Millis };
}

/** How the sender reaches the server. */
export interface SenderLink {
  send(frame: SendFrame): void;
  /** A page around `seq`, or the newest one. */
  read(room: Id, around?: Seq): Promise<PageOfLog>;
}

/** See the file's head. */
export class Sender extends Emitter<SenderEvents> {
  readonly outbox = new Outbox();
  #pool: WriterPool;
  #platform: Platform;
  #main: Id | null = null;
  #timer: { at: number; handle: unknown } | null = null;
  #adoption: unknown = null;
  #asked = false;
  #stopped = false;
  /** Changes are kept in the order in which they were decided. */
  #commits: Promise<void> = Promise.resolve();

  constructor(platform: Platform, private readonly user: Id, private readonly link: SenderLink) {
    super();
    this.#platform = { ...platform };
    this.#pool = new WriterPool(this.#platform, user);
  }

  /** Takes a writer and what was left unsent. */
  async start(): Promise<void> {
    try {
      await this.#platform.store.writers(this.user);
    } catch {
      // The browser gives no storage: what is pending lives as long as the page, under a writer of its own.
      this.#platform.store = new MemoryStore();
    }
    this.#main = await this.#pool.take();
    const stored = await this.#platform.store.sends(this.user);
    this.#do(this.outbox.addSettled(stored.filter((send) => send.state !== "queued").map(fromStored)));
    await this.#add(this.#main, stored);
    await this.#adopt();
  }

  /** Lets go of everything; what is pending stays in storage for the next tab. */
  stop(): void {
    this.#stopped = true;
    this.#platform.clock.clearTimeout(this.#timer?.handle);
    this.#platform.clock.clearTimeout(this.#adoption);
    this.#pool.releaseAll();
  }

  enqueue(draft: Draft): void {
    this.#do(this.outbox.enqueue(draft, this.#now()));
  }

  retry(local: string): void {
    this.#do(this.outbox.retry(local, this.#now()));
  }

  discard(local: string): void {
    this.#do(this.outbox.discard(local));
  }

  connected(limits: Limits): void {
    this.#do(this.outbox.connected(limits, this.#now()));
  }

  disconnected(): void {
    this.#do(this.outbox.disconnected(this.#now()));
  }

  ack(frame: Ack): void {
    this.#do(this.outbox.ack(frame, this.#now()));
  }

  refused(frame: Refused): void {
    this.#do(this.outbox.refused(frame, this.#now()));
  }

  seen(room: Id, entries: Entry[]): void {
    if (entries.some((entry) => entry.writer !== undefined)) this.#do(this.outbox.seen(room, entries, this.#now()));
  }

  #now(): number {
    return this.#platform.clock.now();
  }

  #do(outputs: OutboxOutput[]): void {
    for (const output of outputs) this.#perform(output);
  }

  #perform(output: OutboxOutput): void {
    switch (output.type) {
      case "commit": return this.#commit(output);
      case "send": return this.link.send(output.frame);
      case "acked": return this.#acked(output);
      case "locate": return void this.#locate(output.pending, output.seq);
      case "changed": return this.emit("changed", { room: output.room });
      case "writer_needed": return void this.#freshWriter();
      case "wake": return this.#wake(output.at);
    }
  }

  #commit(output: OutboxOutput & { type: "commit" }): void {
    const { change, saved } = output;
    const lanes = change.lanes.flatMap(({ writer, room }) => this.outbox.lane(writer, room)?.toStored(this.user) ?? []);
    const items = change.sends.flatMap((local) => this.outbox.get(local) ?? []);
    const whole = { lanes, sends: items.map((item) => toStored(item, this.user)), forget: change.forget };
    this.#commits = this.#commits
      .then(() => this.#platform.store.commit(whole))
      // Storage is full or gone. Sending on is better than not sending: a reload then begins with a new writer.
      .catch(() => {})
      .then(() => { if (!this.#stopped) this.#do(this.outbox.saved(saved, this.#now())); });
  }

  #acked(output: OutboxOutput & { type: "acked" }): void {
    const { type: _, ...event } = output;
    this.emit("acked", event);
    const writer = event.pending.writer;
    if (writer && writer !== this.#main && this.outbox.isIdle(writer)) this.#letGo(writer);
  }

  /** An adopted writer whose messages are all answered is free for the next tab, once that is kept. */
  #letGo(writer: Id): void {
    void this.#commits.then(() => {
      if (!this.outbox.isIdle(writer)) return;
      this.outbox.dropWriter(writer);
      this.#pool.release(writer);
    });
  }

  async #locate(pending: Pending, seq?: Seq): Promise<void> {
    try {
      const page = await this.link.read(pending.room, seq);
      const own = page.entries.find((entry) => entry.writer === pending.writer && entry.n === pending.n);
      this.#do(this.outbox.located(pending.local, own?.seq ?? seq, this.#now()));
    } catch {
      // The connection broke: the send is repeated on the next one, and answered `stored` again.
    }
  }

  async #freshWriter(): Promise<void> {
    if (this.#asked || this.#main === null) return;
    this.#asked = true;
    const writer = await this.#pool.fresh().catch(() => this.#platform.randomId());
    this.#asked = false;
    this.#do(this.outbox.addWriter(writer, [], [], this.#now()));
  }

  async #add(writer: Id, sends: StoredSend[]): Promise<void> {
    const lanes = await this.#platform.store.lanes(writer);
    const items = sends.filter((send) => send.writer === writer && send.state === "queued").map(fromStored);
    this.#do(this.outbox.addWriter(writer, lanes, items, this.#now()));
  }

  /** Takes over what closed tabs have left unsent. */
  async #adopt(): Promise<void> {
    if (this.#stopped) return;
    const queued = (await this.#platform.store.sends(this.user)).filter((send) => send.state === "queued" && send.writer);
    const adopted = await this.#pool.adopt(queued.map((send) => send.writer!));
    // Read again: the tab that went may have finished some of them before its lock was free.
    const sends = adopted.length ? await this.#platform.store.sends(this.user) : [];
    for (const writer of adopted) {
      await this.#add(writer, sends);
      if (this.outbox.isIdle(writer)) this.#letGo(writer);
    }
    this.#adoption = this.#platform.clock.setTimeout(() => void this.#adopt().catch(() => {}), ADOPT_EVERY_MS);
  }

  #wake(at: number): void {
    if (this.#timer && this.#timer.at <= at && this.#timer.at > this.#now()) return;
    this.#platform.clock.clearTimeout(this.#timer?.handle);
    const run = () => {
      this.#timer = null;
      this.#do(this.outbox.pump(this.#now()));
    };
    this.#timer = { at, handle: this.#platform.clock.setTimeout(run, Math.max(0, at - this.#now())) };
  }
}
