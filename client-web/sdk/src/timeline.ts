/**
 * What a client knows of a room's log: one run of entries without holes, and what to do when the stream says that
 * something is missing. Pure: `(timeline, input) -> [timeline, output]`; `rooms.ts` performs the outputs.
 */
import type { Durability, Entries, Entry, Gap, Id, Opened, PageOfLog, Reset, Role, Seq } from "./wire.js";

/** A hole of more entries than this is not filled: the timeline begins anew above it, and what is older is paged. */
export const FILL_MOST = 1000;

/** Entries that exist and are not here: above `after`, up to `upto`. */
export interface Hole {
  after: Seq;
  upto: Seq;
}

/** See the file's head. */
export interface Timeline {
  readonly room: Id;
  /** Which life of the room the rest belongs to. Null until the server has said. */
  readonly incarnation: number | null;
  readonly durability: Durability;
  readonly role: Role | null;
  /** The newest entry that the server has told of. */
  readonly head: Seq;
  /** Position before the first entry here. */
  readonly base: Seq;
  /** `base + 1`, `base + 2`, … */
  readonly entries: readonly Entry[];
  /** What is missing above `entries`, while it is being fetched. */
  readonly hole: Hole | null;
  /** What was heard beyond the hole, without holes itself. */
  readonly ahead: readonly Entry[];
  /** The oldest entry that this user may read, if known. */
  readonly first: Seq | null;
  /** The server streams the room on the present connection. */
  readonly live: boolean;
}

/** What happens to a timeline. */
export type TimelineInput =
  | Opened | Entries | Gap | Reset
  /** `fill`: it was asked for to close the hole. */
  | { type: "page"; page: PageOfLog; fill?: boolean }
  | { type: "disconnected" }
  | { type: "closed" };

/** What a timeline asks for. */
export type TimelineOutput =
  /** Fetch the entries above `after`, at most up to `upto`. */
  | { type: "fill"; after: Seq; upto: Seq }
  /** What was here belongs to another life of the room. */
  | { type: "reset"; incarnation: number }
  /** A hole too large to fill: what lay before it was let go and can be paged. */
  | { type: "skipped"; after: Seq; upto: Seq }
  /** The stream left something out without saying so. Filled like a gap; told because it is a fault. */
  | { type: "discontinuity"; after: Seq; next: Seq };

/** A room of which nothing is known. */
export function emptyTimeline(room: Id): Timeline {
  return {
    room, incarnation: null, durability: "durable", role: null, head: 0, base: 0, entries: [], hole: null, ahead: [],
    first: null, live: false,
  };
}

/** The last entry of the run without holes: where a resume goes on. */
export const lastSeq = (timeline: Timeline): Seq => timeline.base + timeline.entries.length;

/** Whether older entries exist that may be read and are not here. */
export const hasOlder = (timeline: Timeline): boolean =>
  timeline.incarnation !== null && timeline.base > 0 && (timeline.first === null || timeline.base >= timeline.first);

type Step = [Timeline, TimelineOutput[]];

/** The timeline after `input`. */
export function reduceTimeline(timeline: Timeline, input: TimelineInput): Step {
  switch (input.type) {
    case "opened": return opened(timeline, input);
    case "entries": return inLife(timeline, input.incarnation, (same) => entries(same, input.entries));
    case "gap": return gap(timeline, input.after, input.upto);
    case "reset": return begin(timeline, input.incarnation, input.head, input.head);
    case "page": return inLife(timeline, input.page.incarnation, (same) => page(same, input.page, input.fill ?? false));
    // What was heard beyond a hole is let go: the resume brings it again, in order.
    case "disconnected": return [{ ...timeline, hole: null, ahead: [], live: false }, []];
    case "closed": return [{ ...timeline, live: false }, []];
  }
}

function opened(timeline: Timeline, frame: Opened): Step {
  const known = timeline.incarnation === frame.incarnation;
  const [next, outputs]: Step = known || timeline.incarnation === null
    ? [{ ...timeline, incarnation: frame.incarnation }, []]
    : begin(timeline, frame.incarnation, frame.after, frame.head);
  const told = { ...next, durability: frame.durability, role: frame.role, head: Math.max(next.head, frame.head), live: true };
  if (told.entries.length === 0) return [{ ...told, base: frame.after }, outputs];
  if (frame.after <= lastSeq(told)) return [told, outputs];
  const [filled, more] = missing(told, frame.after);
  return [filled, [...outputs, ...more]];
}

/** Runs `step` if the news belongs to the same life of the room; else the timeline begins anew first. */
function inLife(timeline: Timeline, incarnation: number, step: (timeline: Timeline) => Step): Step {
  if (timeline.incarnation === incarnation) return step(timeline);
  if (timeline.incarnation === null) return step({ ...timeline, incarnation });
  const [fresh, outputs] = begin(timeline, incarnation, 0, 0);
  const [next, more] = step(fresh);
  return [next, [...outputs, ...more]];
}

function begin(timeline: Timeline, incarnation: number, base: Seq, head: Seq): Step {
  return [{ ...timeline, incarnation, base, head, entries: [], hole: null, ahead: [], first: null }, [{ type: "reset", incarnation }]];
}

function gap(timeline: Timeline, after: Seq, upto: Seq): Step {
  if (timeline.hole) return [{ ...timeline, hole: { ...timeline.hole, upto: Math.max(upto, timeline.hole.upto) }, ahead: [] }, []];
  if (upto <= lastSeq(timeline)) return [timeline, []];
  if (timeline.entries.length === 0) return [{ ...timeline, base: upto, head: Math.max(timeline.head, upto) }, []];
  return missing(timeline, Math.max(upto, after));
}

/** Something up to `upto` is not here. */
function missing(timeline: Timeline, upto: Seq): Step {
  const after = lastSeq(timeline);
  if (upto - after > FILL_MOST) {
    return [{ ...timeline, base: upto, entries: [], hole: null, ahead: [], head: Math.max(timeline.head, upto) }, [{ type: "skipped", after, upto }]];
  }
  return [{ ...timeline, hole: { after, upto }, head: Math.max(timeline.head, upto) }, [{ type: "fill", after, upto }]];
}

function entries(timeline: Timeline, news: readonly Entry[]): Step {
  let [next, outputs]: Step = [timeline, []];
  for (const run of runs(news)) {
    const [after, more] = next.hole ? beyond(next, next.hole, run) : append(next, run);
    next = after;
    outputs = [...outputs, ...more];
  }
  return [masked(next, news), outputs];
}

/** Splits entries where a number is left out. */
function runs(news: readonly Entry[]): Entry[][] {
  const all: Entry[][] = [];
  for (const entry of news) {
    const run = all.at(-1);
    if (run && run.at(-1)!.seq + 1 === entry.seq) run.push(entry);
    else all.push([entry]);
  }
  return all;
}

function append(timeline: Timeline, run: Entry[]): Step {
  const last = lastSeq(timeline);
  const fresh = run.filter((entry) => entry.seq > last);
  if (fresh.length === 0) return [timeline, []];
  const head = Math.max(timeline.head, fresh.at(-1)!.seq);
  const start = fresh[0]!.seq;
  // A run that meets nothing here yet says itself where the timeline begins.
  if (timeline.entries.length === 0 && timeline.base === 0) return [{ ...timeline, base: start - 1, entries: fresh, head }, []];
  if (start === last + 1) return [{ ...timeline, entries: [...timeline.entries, ...fresh], head }, []];
  const fault: TimelineOutput = { type: "discontinuity", after: last, next: start };
  const [holed, outputs] = missing(timeline, start - 1);
  const kept = holed.hole ? { ...holed, ahead: fresh, head } : { ...holed, entries: fresh, head };
  return [kept, [fault, ...outputs]];
}

/** Keeps what comes beyond a hole, or widens the hole if it does not fit there either. */
function beyond(timeline: Timeline, hole: Hole, run: Entry[]): Step {
  const last = timeline.ahead.at(-1)?.seq ?? hole.upto;
  const fresh = run.filter((entry) => entry.seq > last);
  if (fresh.length === 0) return [timeline, []];
  const head = Math.max(timeline.head, fresh.at(-1)!.seq);
  if (fresh[0]!.seq === last + 1) return [{ ...timeline, ahead: [...timeline.ahead, ...fresh], head }, []];
  const upto = fresh[0]!.seq - 1;
  return [{ ...timeline, hole: { ...hole, upto }, ahead: fresh, head }, [{ type: "discontinuity", after: last, next: upto + 1 }]];
}

/** A page: older entries below the run, or the missing ones above it. */
function page(timeline: Timeline, page: PageOfLog, fill: boolean): Step {
  const told = { ...timeline, head: Math.max(timeline.head, page.head), first: page.first };
  if (page.entries.length > 0 && told.entries.length === 0 && !told.hole && !told.live) {
    return [masked({ ...told, base: page.entries[0]!.seq - 1, entries: page.entries }, page.entries), []];
  }
  const grown = older(told, page.entries);
  const [next, outputs] = fill && grown.hole ? filled(grown, grown.hole, page.entries) : [grown, []];
  return [masked(next, next.entries), outputs];
}

function older(timeline: Timeline, news: readonly Entry[]): Timeline {
  const below = news.filter((entry) => entry.seq <= timeline.base);
  if (below.length === 0 || below.at(-1)!.seq !== timeline.base) return timeline;
  return { ...timeline, base: below[0]!.seq - 1, entries: [...below, ...timeline.entries] };
}

/** A part of the hole has come: closes it, or asks for the rest. */
function filled(timeline: Timeline, hole: Hole, news: readonly Entry[]): Step {
  const last = lastSeq(timeline);
  const part = news.filter((entry) => entry.seq > last && entry.seq <= hole.upto);
  if (part[0]?.seq !== last + 1) return giveUp(timeline, hole);
  const run = [...timeline.entries, ...part];
  const after = last + part.length;
  if (after < hole.upto) return [{ ...timeline, entries: run, hole: { ...hole, after } }, [{ type: "fill", after, upto: hole.upto }]];
  return [{ ...timeline, hole: null, ahead: [], entries: [...run, ...timeline.ahead] }, []];
}

/** The log does not give what is missing (it may not be read any more): begin beyond it, and say so. */
function giveUp(timeline: Timeline, hole: Hole): Step {
  return [
    { ...timeline, base: hole.upto, entries: timeline.ahead, hole: null, ahead: [] },
    [{ type: "skipped", after: hole.after, upto: hole.upto }],
  ];
}

/** Withholds what a deletion among `news` withdraws, as the server does on every later reading. */
function masked(timeline: Timeline, news: readonly Entry[]): Timeline {
  const targets = new Set(news.filter((entry) => entry.kind === "deletion").map((entry) => entry.target));
  if (targets.size === 0) return timeline;
  const hide = (entry: Entry): Entry => {
    if (!targets.has(entry.seq) || entry.masked) return entry;
    const { body: _, ...rest } = entry;
    return { ...rest, masked: "deleted" };
  };
  return { ...timeline, entries: timeline.entries.map(hide), ahead: timeline.ahead.map(hide) };
}
