/** One writer's counting in one room: which numbers are out, which may be given anew. */
import type { Pending } from "./pending.js";
import type { Lane as StoredLane } from "./storage/store.js";
import type { Id } from "./wire.js";

/** See the file's head. Items are in the order of their numbers. */
export class Lane {
  next = 1;
  acked = 0;
  retired = false;
  /** The number that a definite refusal left free; later numbers must be answered before it can be given again. */
  hole: number | null = null;
  /** One send at a time until something is acknowledged: the server has lost the order once. */
  careful = false;
  items: Pending[] = [];

  constructor(readonly room: Id, readonly writer: Id) {}

  /** Gives `pending` the next number. */
  push(pending: Pending): void {
    pending.writer = this.writer;
    pending.n = this.next++;
    this.items.push(pending);
  }

  find(n: number): Pending | undefined {
    return this.items.find((item) => item.n === n);
  }

  remove(pending: Pending): void {
    this.items = this.items.filter((item) => item !== pending);
  }

  /** What still waits for an answer, a turn, or its place; not what the user has to decide about. */
  get live(): Pending[] {
    return this.items.filter((item) => item.state !== "unknown");
  }

  /** Leaves the number of `pending` free, after a definite refusal. */
  free(pending: Pending): void {
    this.hole = Math.min(this.hole ?? pending.n!, pending.n!);
    this.remove(pending);
    delete pending.writer;
    delete pending.n;
  }

  /** Counts on from `first`. Only for items that are known never to be accepted under their old numbers. */
  renumber(first: number): void {
    this.hole = null;
    this.next = first;
    for (const item of this.live) item.n = this.next++;
  }

  toStored(user: Id): StoredLane {
    return { user, room: this.room, writer: this.writer, next: this.next, acked: this.acked, retired: this.retired };
  }
}
