/** The user's rooms with their heads, unread counts and last lines. Pure. */
import type { MyRoom } from "./rest.js";
import type { Entry, Head, Id, MembershipChange, ReadMark, Role, RoomChange, Seq } from "./wire.js";

/** A room in the list. */
export interface ListedRoom extends MyRoom {
  head: Seq;
  unread: number;
  read_seq: Seq;
  last: Entry | null;
}

export type RoomMap = ReadonlyMap<Id, ListedRoom>;

/** The kinds that are worth a line in the list. */
const SAID = new Set(["message", "reply"]);

/** Rooms of which no line is known though something has happened there. */
export const withoutLine = (rooms: RoomMap): Id[] => [...rooms.values()].filter((room) => !room.last && room.head > 0).map((room) => room.id);

/** A room as REST tells it, beside what is known already: positions only move forward. */
export function listRoom(rooms: RoomMap, room: MyRoom): RoomMap {
  const known = rooms.get(room.id);
  const head = Math.max(room.head ?? 0, known?.head ?? 0);
  const read_seq = Math.max(room.read_seq ?? 0, known?.read_seq ?? 0);
  const told = room.last && SAID.has(room.last.kind) ? room.last : null;
  const last = newer(known?.last ?? null, told);
  const unread = head === room.head && read_seq === room.read_seq ? (room.unread ?? 0) : (known?.unread ?? Math.max(0, head - read_seq));
  // What an answer leaves out is empty, not as it was.
  const bare = { name: null, topic: null, peer: known?.peer ?? null };
  return new Map(rooms).set(room.id, { ...bare, ...room, head, read_seq, last, unread });
}

export function dropRoom(rooms: RoomMap, room: Id): RoomMap {
  const rest = new Map(rooms);
  rest.delete(room);
  return rest;
}

/** News of rooms that are not open. Rooms that the list does not have yet are left out. */
export function applyHeads(rooms: RoomMap, heads: Head[]): RoomMap {
  return heads.reduce((all, { room, head, unread }) => change(all, room, () => ({ head, unread })), rooms);
}

export function applyReadMark(rooms: RoomMap, mark: Pick<ReadMark, "room" | "seq" | "unread">): RoomMap {
  return change(rooms, mark.room, (room) => (mark.seq >= room.read_seq ? { read_seq: mark.seq, unread: mark.unread } : {}));
}

/** The stream of a room has begun: it says what the user is there. */
export function applyOpened(rooms: RoomMap, id: Id, role: Role): RoomMap {
  return change(rooms, id, (room) => (room.role === role ? room : { role }));
}

/** This device has read up to `seq`; the server has not answered yet. */
export function applyRead(rooms: RoomMap, id: Id, seq: Seq): RoomMap {
  return change(rooms, id, (room) => {
    const read_seq = Math.max(seq, room.read_seq);
    return { read_seq, unread: Math.max(0, room.head - read_seq) };
  });
}

/** Entries of a room: its last line, and if they are its live stream also its head, name, topic and the own role. */
export function applyEntries(rooms: RoomMap, id: Id, entries: readonly Entry[], me: Id, live: boolean): RoomMap {
  return change(rooms, id, (room) => {
    const told = entries.reduce((known, entry) => ({ ...known, ...applyEntry(known, entry, me, live) }), room);
    const head = Math.max(room.head, entries.at(-1)?.seq ?? 0);
    return live ? { ...told, head, unread: Math.max(0, head - room.read_seq) } : told;
  });
}

function applyEntry(room: ListedRoom, entry: Entry, me: Id, live: boolean): Partial<ListedRoom> {
  if (entry.kind === "deletion" && room.last && entry.target === room.last.seq) {
    const { body: _, ...rest } = room.last;
    return { last: { ...rest, masked: "deleted" } };
  }
  if (SAID.has(entry.kind)) return { last: newer(room.last, entry) };
  // A page of old entries tells of names that the room had once.
  if (live && entry.kind === "room") return named(entry.body as RoomChange | undefined);
  if (live && entry.kind === "membership") return roleOf(entry.body as MembershipChange | undefined, me);
  return {};
}

function named(change: RoomChange | undefined): Partial<ListedRoom> {
  const { name, topic, visibility, history, slow_mode_s } = change ?? {};
  return Object.fromEntries(Object.entries({ name, topic, visibility, history, slow_mode_s }).filter(([, value]) => value !== undefined));
}

function roleOf(change: MembershipChange | undefined, me: Id): Partial<ListedRoom> {
  return change?.user === me && change.role ? { role: change.role } : {};
}

function newer(a: Entry | null, b: Entry | null): Entry | null {
  return !a || (b && b.seq >= a.seq) ? b : a;
}

function change(rooms: RoomMap, id: Id, make: (room: ListedRoom) => Partial<ListedRoom>): RoomMap {
  const room = rooms.get(id);
  return room ? new Map(rooms).set(id, { ...room, ...make(room) }) : rooms;
}

/** Newest first: by the last line, else by when the room came to be. */
export function inOrder(rooms: RoomMap): ListedRoom[] {
  const moment = (room: ListedRoom) => room.last?.at ?? room.created_at;
  return [...rooms.values()].sort((a, b) => moment(b) - moment(a) || (a.id < b.id ? -1 : 1));
}
