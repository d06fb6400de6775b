/**
 * The queue of sends: which message goes out when, and what an answer means. Pure: it holds state, takes what happened
 * and returns what to do; `sender.ts` keeps, sends and waits for it.
 *
 * The rule that everything follows from: once a number may have been on a wire, number and content stay together, until
 * the server says definitely that nothing was or will be stored under it.
 */
import { Lane } from "./lane.js";
import { fromDraft, toFrame, type Draft, type OutboxOutput, type Pending } from "./pending.js";
import type { Lane as StoredLane } from "./storage/store.js";
import { DEFAULT_LIMITS, TRANSIENT_CODES, type Ack, type Entry, type Id, type Limits, type Refused, type Seq } from "./wire.js";

/** An unanswered send is sent again after this long; the server's own repeats take five seconds each. */
export const ANSWER_MS = 30_000;
/** Attempts at something that fails without a reason before the user is asked. */
export const ATTEMPTS = 6;
/** Below what a server allows by default: one that sees a flood ends the connection for good. */
const SENDS_A_SECOND = 25;
const SENDS_AT_ONCE = 40;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 15_000;
/** Faults that say nothing about the message. */
const FAULTS = new Set(["internal", "other"]);

export class Outbox {
  #writers: Id[] = [];
  #lanes = new Map<string, Lane>();
  /** Without a number: no writer yet, or waiting for the user. */
  #loose: Pending[] = [];
  #limits: Limits = DEFAULT_LIMITS;
  #connected = false;
  #budget = SENDS_AT_ONCE;
  #budgetAt = 0;
  #out: OutboxOutput[] = [];

  /** The messages of a room that are not in the log as far as is known, oldest first. */
  pending(room: Id): Pending[] {
    return this.all().filter((item) => item.room === room);
  }

  /** All of them. */
  all(): Pending[] {
    const numbered = [...this.#lanes.values()].flatMap((lane) => lane.items);
    return [...numbered, ...this.#loose].sort((a, b) => a.createdAt - b.createdAt || (a.n ?? 0) - (b.n ?? 0));
  }

  get(local: string): Pending | undefined {
    return this.all().find((item) => item.local === local);
  }

  lane(writer: Id, room: Id): Lane | undefined {
    return this.#lanes.get(`${writer} ${room}`);
  }

  /** Whether this writer has nothing left to send. */
  isIdle(writer: Id): boolean {
    return [...this.#lanes.values()].every((lane) => lane.writer !== writer || lane.live.length === 0);
  }

  /** A writer that this tab holds, with what was kept of it. Earlier ones are preferred for new messages. */
  addWriter(writer: Id, lanes: StoredLane[], items: Pending[], now: number): OutboxOutput[] {
    this.#writers.push(writer);
    for (const stored of lanes) Object.assign(this.#lane(writer, stored.room), { next: stored.next, acked: stored.acked, retired: stored.retired });
    for (const item of [...items].sort((a, b) => a.n! - b.n!)) {
      const lane = this.#lane(writer, item.room);
      lane.items.push(item);
      lane.next = Math.max(lane.next, item.n! + 1);
      this.#changed(item.room);
    }
    for (const waiting of this.#loose.filter((item) => item.state === "saving")) this.#assign(waiting);
    return this.#pump(now);
  }

  /** Gives up a writer that has nothing left to send. */
  dropWriter(writer: Id): void {
    this.#writers = this.#writers.filter((other) => other !== writer);
    for (const [key, lane] of this.#lanes) if (lane.writer === writer) this.#lanes.delete(key);
  }

  /** Messages that wait for the user, as they were kept. */
  addSettled(items: Pending[]): OutboxOutput[] {
    for (const item of items) {
      this.#loose.push(item);
      this.#changed(item.room);
    }
    return this.#take();
  }

  enqueue(draft: Draft, now: number): OutboxOutput[] {
    const item = fromDraft(draft, now);
    // A frame that the server cannot read is answered without a number, so it must not get one.
    if (item.bytes > this.#limits.body_bytes) this.#fail(Object.assign(item, { code: "too_large" }));
    else this.#assign(item);
    return this.#take();
  }

  /** What was committed under these names may be sent now. */
  saved(locals: string[], now: number): OutboxOutput[] {
    for (const local of locals) {
      const item = this.get(local);
      if (item?.state === "saving") this.#set(item, "queued");
    }
    return this.#pump(now);
  }

  connected(limits: Limits, now: number): OutboxOutput[] {
    this.#connected = true;
    this.#limits = limits;
    return this.#pump(now);
  }

  disconnected(now: number): OutboxOutput[] {
    this.#connected = false;
    for (const lane of this.#lanes.values()) {
      lane.careful = false;
      for (const item of lane.live) if (item.state === "sent" || item.state === "locating") this.#set(item, "queued");
      this.#settle(lane);
    }
    return this.#pump(now);
  }

  ack(ack: Ack, now: number): OutboxOutput[] {
    const lane = this.lane(ack.writer, ack.room);
    const item = lane?.find(ack.n);
    if (lane && item) {
      lane.careful = false;
      this.#done(item, ack.seq, ack.at);
    }
    return this.#pump(now);
  }

  /** Entries read from the log name their writer to its owner: as good as an acknowledgement. */
  seen(room: Id, entries: Entry[], now: number): OutboxOutput[] {
    const own = entries.filter((entry) => entry.writer !== undefined);
    for (const { writer, n, seq, at } of own) {
      const item = this.all().find((other) => other.room === room && other.writer === writer && other.n === n);
      if (item) this.#done(item, seq, at);
    }
    return this.#pump(now);
  }

  refused(frame: Refused, now: number): OutboxOutput[] {
    const lane = this.lane(frame.writer, frame.room);
    const item = lane?.find(frame.n);
    if (lane && item?.state === "sent") this.#answer(lane, item, frame, now);
    return this.#pump(now);
  }

  /** The answer to `locate`. Without `seq` the entry is in the log all the same: the server has said so. */
  located(local: string, seq: Seq | undefined, now: number): OutboxOutput[] {
    const item = this.get(local);
    if (item?.state === "locating") this.#done(item, seq);
    return this.#pump(now);
  }

  /** The user wants it sent after all. */
  retry(local: string, now: number): OutboxOutput[] {
    const item = this.get(local);
    if (item?.state !== "failed" && item?.state !== "unknown") return [];
    this.#detach(item);
    const { room, kind, target, body } = item;
    this.#assign(fromDraft({ local, room, kind, body, ...(target !== undefined && { target }) }, now));
    return this.#take();
  }

  /** The user does not want it any more. */
  discard(local: string): OutboxOutput[] {
    const item = this.get(local);
    if (item?.state !== "failed" && item?.state !== "unknown") return [];
    this.#detach(item);
    this.#commit({ forget: [local] });
    this.#changed(item.room);
    return this.#take();
  }

  /** Sends what may be sent now. */
  pump(now: number): OutboxOutput[] {
    return this.#pump(now);
  }

  #answer(lane: Lane, item: Pending, frame: Refused, now: number): void {
    // The session that refuses does not know of wires before it.
    const definite = frame.definite && item.wires === 1;
    item.code = frame.code;
    if (frame.code === "stored") {
      this.#set(item, "locating");
      this.#out.push({ type: "locate", pending: item, ...(frame.seq !== undefined && { seq: frame.seq }) });
    } else if (frame.code === "out_of_order") {
      this.#outOfOrder(lane, item, definite, frame.expected ?? item.n!);
    } else if (TRANSIENT_CODES.has(frame.code) || (FAULTS.has(frame.code) && item.attempts < ATTEMPTS)) {
      if (definite) item.wires = 0;
      item.notBefore = now + Math.max(frame.retry_after_ms ?? 0, this.#wait(item));
      lane.careful = true;
      this.#set(item, "queued");
    } else if (frame.code === "conflict") {
      // The number carries something else: storage has been lost or copied. This content was not stored.
      lane.remove(item);
      this.#fail(item);
      this.#retire(lane);
    } else if (definite) {
      lane.free(item);
      this.#fail(item);
      this.#commit({ lanes: [lane] });
    } else {
      this.#retire(lane);
    }
    this.#settle(lane);
  }

  #wait(item: Pending): number {
    return Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** item.attempts++);
  }

  #outOfOrder(lane: Lane, item: Pending, definite: boolean, expected: number): void {
    if (definite) item.wires = 0;
    this.#set(item, "queued");
    lane.careful = true;
    // The server has forgotten what it acknowledged, or has passed this number and yet does not know it.
    if (expected <= lane.acked || expected > item.n!) this.#retire(lane);
    else if (expected < lane.live[0]!.n!) lane.hole = expected;
  }

  /** A free number is given again once nothing that was counted after it can still be accepted under its old number. */
  #settle(lane: Lane): void {
    if (lane.hole === null || lane.retired) return;
    const live = lane.live;
    if (live.some((item) => item.state === "sent" || item.state === "locating")) return;
    if (live.some((item) => item.wires > 0)) return this.#retire(lane);
    lane.renumber(lane.hole);
    this.#commit({ lanes: [lane], sends: live, saved: live });
  }

  /** This writer never speaks in this room again. What was on a wire is in doubt; the rest goes to another writer. */
  #retire(lane: Lane): void {
    lane.retired = true;
    const untouched = lane.live.filter((item) => item.wires === 0);
    for (const item of lane.live) if (item.wires > 0) this.#set(item, "unknown");
    this.#commit({ lanes: [lane], sends: lane.items.filter((item) => item.state === "unknown") });
    for (const item of untouched) {
      lane.remove(item);
      this.#assign(item);
    }
  }

  #assign(item: Pending): void {
    item.state = "saving";
    this.#loose = this.#loose.filter((other) => other !== item);
    const writer = this.#writers.find((id) => !this.lane(id, item.room)?.retired);
    if (writer) {
      const lane = this.#lane(writer, item.room);
      lane.push(item);
      this.#commit({ lanes: [lane], sends: [item], saved: [item] });
    } else {
      delete item.writer;
      delete item.n;
      this.#loose.push(item);
      this.#out.push({ type: "writer_needed", room: item.room });
    }
    this.#changed(item.room);
  }

  #pump(now: number): OutboxOutput[] {
    if (!this.#connected) return this.#take();
    for (const lane of this.#lanes.values()) if (!lane.retired && lane.hole === null) this.#pumpLane(lane, now);
    return this.#take();
  }

  #pumpLane(lane: Lane, now: number): void {
    for (const item of lane.live) {
      if (item.state === "sent" && now < item.sentAt + ANSWER_MS) {
        this.#out.push({ type: "wake", at: item.sentAt + ANSWER_MS });
        if (lane.careful) return;
        continue;
      }
      if (item.state === "saving" || (item.state === "queued" && !this.#fits(item))) return;
      if (item.state === "locating") continue;
      if (now < item.notBefore) return void this.#out.push({ type: "wake", at: item.notBefore });
      if (!this.#paced(now)) return void this.#out.push({ type: "wake", at: now + 1000 / SENDS_A_SECOND });
      item.wires += 1;
      item.sentAt = now;
      this.#set(item, "sent");
      this.#out.push({ type: "send", frame: toFrame(item) }, { type: "wake", at: now + ANSWER_MS });
      if (lane.careful) return;
    }
  }

  /** Takes one from what may be sent now, if there is any left. */
  #paced(now: number): boolean {
    this.#budget = Math.min(SENDS_AT_ONCE, this.#budget + ((now - this.#budgetAt) * SENDS_A_SECOND) / 1000);
    this.#budgetAt = now;
    if (this.#budget < 1) return false;
    this.#budget -= 1;
    return true;
  }

  #fits(item: Pending): boolean {
    const out = this.all().filter((other) => other.state === "sent");
    const bytes = out.reduce((sum, other) => sum + other.bytes, item.bytes);
    return out.length < this.#limits.window_sends && (out.length === 0 || bytes <= this.#limits.window_bytes);
  }

  #done(item: Pending, seq?: Seq, at?: number): void {
    const lane = this.lane(item.writer!, item.room);
    if (lane) lane.acked = Math.max(lane.acked, item.n!);
    this.#detach(item);
    this.#commit({ ...(lane && { lanes: [lane] }), forget: [item.local] });
    this.#out.push({ type: "acked", pending: item, ...(seq !== undefined && { seq }), ...(at !== undefined && { at }) });
    this.#changed(item.room);
    if (lane) this.#settle(lane);
  }

  #fail(item: Pending): void {
    this.#loose.push(item);
    delete item.writer;
    delete item.n;
    this.#set(item, "failed");
    this.#commit({ sends: [item] });
  }

  #detach(item: Pending): void {
    this.#loose = this.#loose.filter((other) => other !== item);
    for (const lane of this.#lanes.values()) lane.remove(item);
  }

  #lane(writer: Id, room: Id): Lane {
    const key = `${writer} ${room}`;
    const lane = this.#lanes.get(key) ?? new Lane(room, writer);
    this.#lanes.set(key, lane);
    return lane;
  }

  #set(item: Pending, state: Pending["state"]): void {
    item.state = state;
    this.#changed(item.room);
  }

  #changed(room: Id): void {
    this.#out.push({ type: "changed", room });
  }

  #commit(change: { lanes?: Lane[]; sends?: Pending[]; forget?: string[]; saved?: Pending[] }): void {
    for (const item of change.saved ?? []) item.state = "saving";
    this.#out.push({
      type: "commit",
      change: {
        lanes: (change.lanes ?? []).map(({ writer, room }) => ({ writer, room })),
        sends: (change.sends ?? []).map((item) => item.local),
        forget: change.forget ?? [],
      },
      saved: (change.saved ?? []).map((item) => item.local),
    });
  }

  #take(): OutboxOutput[] {
    const out = this.#out;
    this.#out = [];
    return out;
  }
}
