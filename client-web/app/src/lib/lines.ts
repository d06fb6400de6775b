/** What the message list shows: lines made from a timeline and what is pending. Pure. */
import type { Entry, Hole, Id, MembershipChange, PendingMessage, Role, RoomChange, Seq, Timeline } from "@rookery/sdk";

/** Messages of one author within this time share a heading. */
const TOGETHER_MS = 5 * 60_000;

export interface Reaction {
  emoji: string;
  users: Id[];
}

export interface MessageLine {
  type: "message";
  key: string;
  seq: Seq;
  at: number;
  from: Id;
  text: string;
  masked: "deleted" | "erased" | null;
  edited: boolean;
  /** Whether it begins a group, and so shows author and time. */
  heading: boolean;
  reactions: Reaction[];
  replyTo: { seq: Seq; from: Id; text: string; masked: boolean } | null;
}

export interface PendingLine {
  type: "pending";
  key: string;
  heading: boolean;
  text: string;
  pending: PendingMessage;
}

export type Line =
  | MessageLine
  | PendingLine
  | { type: "day"; key: string; at: number }
  | { type: "new"; key: string }
  | { type: "hole"; key: string; hole: Hole }
  | { type: "event"; key: string; at: number; from: Id; what: Happening };

/** Something that the room's log tells beside messages. */
export type Happening =
  | { type: "membership"; change: MembershipChange["change"]; user: Id; role?: Role | undefined }
  | { type: "created" }
  | { type: "deleted" }
  | { type: "renamed"; name: string }
  | { type: "topic"; topic: string }
  | { type: "settings" };

export interface LineOptions {
  me: Id;
  /** What had not been read when the room was entered; null: nothing. What comes while somebody looks is not new. */
  unread: { after: Seq; upto: Seq } | null;
  /** That a direct room was made and has its two members is no news to them. */
  direct: boolean;
  dayOf(at: number): string;
}

/** The text of a body; other bodies have none. */
export function textOf(entry: Pick<Entry, "body">): string {
  const text = entry.body?.["text"];
  return typeof text === "string" ? text : "";
}

/** The lines of a room, oldest first. */
export function buildLines(timeline: Timeline, pending: PendingMessage[], options: LineOptions): Line[] {
  const entries = [...timeline.entries, ...timeline.ahead];
  const amended = amendments(entries);
  const lines: Line[] = [];
  let previous: { from: Id; at: number } | null = null;
  let day = "";
  let told = options.unread === null;
  for (const entry of entries) {
    const hole = timeline.hole && timeline.ahead[0] === entry ? timeline.hole : null;
    if (hole) lines.push({ type: "hole", key: "hole", hole });
    const line = toLine(entry, amended);
    if (!line || (options.direct && isSetUp(line))) continue;
    const today = options.dayOf(entry.at);
    if (today !== day) lines.push({ type: "day", key: `d${today}`, at: entry.at });
    if (!told && line.type === "message" && isNew(entry, options)) {
      lines.push({ type: "new", key: "new" });
      told = true;
      previous = null;
    }
    if (line.type === "message") line.heading = today !== day || !!hole || !joins(previous, entry);
    previous = line.type === "message" ? entry : null;
    day = today;
    lines.push(line);
  }
  if (timeline.hole && timeline.ahead.length === 0) lines.push({ type: "hole", key: "hole", hole: timeline.hole });
  return [...lines, ...pendingLines(pending, previous, options)];
}

const isNew = (entry: Entry, { unread, me }: LineOptions): boolean =>
  unread !== null && entry.seq > unread.after && entry.seq <= unread.upto && entry.from !== me;

const isSetUp = (line: Line): boolean =>
  line.type === "event" && (line.what.type === "created" || (line.what.type === "membership" && line.what.change === "joined"));

function pendingLines(pending: PendingMessage[], before: { from: Id; at: number } | null, options: LineOptions): PendingLine[] {
  let previous = before;
  return pending.filter((item) => item.kind === "message" || item.kind === "reply" || item.state === "failed").map((item) => {
    const heading = !joins(previous, { from: options.me, at: item.createdAt });
    previous = { from: options.me, at: item.createdAt };
    return { type: "pending", key: `p${item.local}`, heading, text: textOf(item), pending: item };
  });
}

const joins = (previous: { from: Id; at: number } | null, next: { from: Id; at: number }): boolean =>
  previous !== null && previous.from === next.from && next.at - previous.at < TOGETHER_MS;

interface Amendments {
  bySeq: Map<Seq, Entry>;
  edits: Map<Seq, string>;
  reactions: Map<Seq, Map<string, Set<Id>>>;
}

/** What later entries say about earlier ones. */
function amendments(entries: readonly Entry[]): Amendments {
  const amended: Amendments = { bySeq: new Map(), edits: new Map(), reactions: new Map() };
  for (const entry of entries) {
    amended.bySeq.set(entry.seq, entry);
    if (entry.target === undefined || entry.masked) continue;
    if (entry.kind === "edit") edit(amended, entry);
    if (entry.kind === "reaction") react(amended, entry);
  }
  return amended;
}

function edit({ bySeq, edits }: Amendments, entry: Entry): void {
  const target = bySeq.get(entry.target!);
  if (target && target.from === entry.from) edits.set(target.seq, textOf(entry));
}

function react({ reactions }: Amendments, entry: Entry): void {
  const emoji = entry.body?.["emoji"];
  if (typeof emoji !== "string" || emoji.length > 16) return;
  const all = reactions.get(entry.target!) ?? new Map<string, Set<Id>>();
  const users = all.get(emoji) ?? new Set<Id>();
  if (entry.body?.["remove"] === true) users.delete(entry.from);
  else users.add(entry.from);
  reactions.set(entry.target!, all.set(emoji, users));
}

function toLine(entry: Entry, amended: Amendments): Line | null {
  if (entry.kind === "message" || entry.kind === "reply") return message(entry, amended);
  const what = happening(entry);
  return what && { type: "event", key: `e${entry.seq}`, at: entry.at, from: entry.from, what };
}

function message(entry: Entry, { bySeq, edits, reactions }: Amendments): MessageLine {
  const target = entry.kind === "reply" && entry.target !== undefined ? bySeq.get(entry.target) : undefined;
  const all = [...(reactions.get(entry.seq) ?? [])].map(([emoji, users]) => ({ emoji, users: [...users] }));
  return {
    type: "message", key: `e${entry.seq}`, seq: entry.seq, at: entry.at, from: entry.from,
    text: edits.get(entry.seq) ?? textOf(entry), masked: entry.masked ?? null, heading: true,
    edited: edits.has(entry.seq) && !entry.masked,
    reactions: entry.masked ? [] : all.filter((reaction) => reaction.users.length > 0),
    replyTo: target
      ? { seq: target.seq, from: target.from, text: edits.get(target.seq) ?? textOf(target), masked: !!target.masked }
      : null,
  };
}

function happening(entry: Entry): Happening | null {
  if (entry.kind === "membership" && entry.body) {
    const { user, change, role } = entry.body as unknown as MembershipChange;
    return { type: "membership", user, change, role };
  }
  if (entry.kind !== "room" || !entry.body) return null;
  const change = entry.body as RoomChange;
  if (change.created) return { type: "created" };
  if (change.deleted) return { type: "deleted" };
  if (change.name !== undefined) return { type: "renamed", name: change.name };
  if (change.topic !== undefined) return { type: "topic", topic: change.topic };
  return { type: "settings" };
}

/** What an event says, with the names that `name` gives. */
export function sentence(what: Happening, from: Id, name: (user: Id) => string): string {
  const who = name(from);
  switch (what.type) {
    case "created": return `${who} created the room`;
    case "deleted": return `${who} deleted the room`;
    case "renamed": return `${who} named the room “${what.name}”`;
    case "topic": return what.topic ? `${who} set the topic: ${what.topic}` : `${who} removed the topic`;
    case "settings": return `${who} changed the room's settings`;
    case "membership": return membership(what, from, name);
  }
}

function membership(what: Happening & { type: "membership" }, from: Id, name: (user: Id) => string): string {
  const whom = name(what.user);
  const by = what.user === from ? "" : ` by ${name(from)}`;
  switch (what.change) {
    case "joined": return `${whom} joined`;
    case "left": return `${whom} left`;
    case "invited": return `${name(from)} invited ${whom}`;
    case "kicked": return `${whom} was removed${by}`;
    case "banned": return `${whom} was banned${by}`;
    case "unbanned": return `${whom} was unbanned${by}`;
    case "muted": return `${whom} was muted${by}`;
    case "unmuted": return `${whom} may speak again`;
    case "role": return `${whom} is now ${what.role === "member" ? "a member" : what.role === "admin" ? "an admin" : "an owner"}`;
    case "blocked": return `${whom} was blocked`;
    case "unblocked": return `${whom} was unblocked`;
    default: return `${whom}: ${String(what.change)}`;
  }
}
