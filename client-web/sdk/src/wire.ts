/**
 * The frames of the protocol, as TypeScript sees them. `decode.ts` checks at run time what is declared here, and the
 * tests hold both against the fixtures that the server's crate is pinned by.
 */

/** 32 lowercase hexadecimal digits. */
export type Id = string;
/** A position in a room's log: 1, 2, 3, … without holes. 0 means "before everything". */
export type Seq = number;
/** Milliseconds since the Unix epoch, by the server's clock. */
export type Millis = number;

/** The WebSocket subprotocol of JSON in text frames. */
export const SUBPROTOCOL = "rookery.v1.json";

/** Kinds that this version knows. Others are carried unharmed. */
export type Kind = "message" | "reply" | "edit" | "deletion" | "reaction" | "membership" | "room" | (string & {});
/** A JSON object. */
export type Body = Record<string, unknown>;

/** One line of a room's log. */
export interface Entry {
  seq: Seq;
  at: Millis;
  from: Id;
  kind: Kind;
  /** The earlier entry that a reply, edit, deletion or reaction speaks of. */
  target?: Seq;
  /** Absent where `masked` says why. */
  body?: Body;
  masked?: "deleted" | "erased";
  /** The sender's writer and counter: told to the sender alone, and only when the entry is read from the log. */
  writer?: Id;
  n?: number;
}

export type Role = "member" | "admin" | "owner";
export type Visibility = "public" | "private" | "direct";
export type HistoryAccess = "all" | "since_joined";
export type Durability = "durable" | "ephemeral";
export type PresenceStatus = "online" | "away" | "dnd" | "invisible" | "offline";

/** The body of a `membership` entry. */
export interface MembershipChange {
  user: Id;
  change: "joined" | "invited" | "left" | "kicked" | "banned" | "unbanned" | "muted" | "unmuted" | "role" | "blocked" | "unblocked";
  role?: Role;
  until?: Millis;
  invite?: Id;
}

/** The body of a `room` entry: what changed. */
export interface RoomChange {
  created?: boolean;
  deleted?: boolean;
  name?: string;
  topic?: string;
  visibility?: Visibility;
  history?: HistoryAccess;
  slow_mode_s?: number;
}

/** Why something was refused. */
export const ERROR_CODES = [
  "invalid", "unsupported", "unauthenticated", "expired", "forbidden", "not_found", "not_a_member", "banned", "muted",
  "blocked", "disabled", "taken", "conflict", "out_of_order", "stored", "unknown", "rate_limited", "overloaded",
  "too_large", "too_many", "invite_invalid", "unavailable", "internal",
] as const;
/** A code of a later version arrives as it is. */
export type ErrorCode = (typeof ERROR_CODES)[number] | (string & {});
/** Those after which the same request may succeed later without a change. */
export const TRANSIENT_CODES: ReadonlySet<ErrorCode> = new Set(["rate_limited", "overloaded", "unavailable"]);

/** Limits in force, told in `welcome`. */
export interface Limits {
  frame_bytes: number;
  body_bytes: number;
  open_rooms: number;
  window_sends: number;
  window_bytes: number;
  page_entries: number;
  watched_users: number;
}

/** The server's defaults, until `welcome` says otherwise. */
export const DEFAULT_LIMITS: Limits = {
  frame_bytes: 64 * 1024,
  body_bytes: 16 * 1024,
  open_rooms: 50,
  window_sends: 32,
  window_bytes: 256 * 1024,
  page_entries: 200,
  watched_users: 500,
};

/** Most rooms that one `identify` may resume. */
export const RESUME_ROOMS = 1000;

/** One room of a resume: where the client stopped. */
export interface Resume {
  after: Seq;
  open: boolean;
  incarnation?: number;
}

export type HistoryFrom = { before: Seq } | { after: Seq } | { around: Seq };

/** What a client says. */
export type ClientFrame =
  | { type: "identify"; id?: number; token?: string; ticket?: string; client?: string; resume?: Record<Id, Resume> }
  | { type: "open"; id: number; room: Id; after?: Seq; incarnation?: number }
  | { type: "close"; id: number; room: Id }
  | SendFrame
  | { type: "history"; id: number; room: Id; from?: HistoryFrom; limit?: number }
  | { type: "read"; room: Id; seq: Seq }
  | { type: "typing"; room: Id }
  | { type: "watch"; users: Id[] }
  | { type: "unwatch"; users: Id[] }
  | { type: "status"; status: PresenceStatus }
  | { type: "refresh"; id: number; token: string }
  | { type: "ping"; id?: number };

/** Say something. Room, writer and `n` name it for good: sent again, it gets the same answer. */
export interface SendFrame {
  type: "send";
  room: Id;
  writer: Id;
  n: number;
  kind: Kind;
  target?: Seq;
  body: Body;
  traceparent?: string;
}

export interface Welcome {
  type: "welcome";
  id?: number;
  version: number;
  user: Id;
  device: Id;
  session: Id;
  server_time: Millis;
  expires_at: Millis;
  heartbeat_ms: number;
  limits: Limits;
}
export interface Opened {
  type: "opened";
  id?: number;
  room: Id;
  incarnation: number;
  durability: Durability;
  head: Seq;
  after: Seq;
  role: Role;
}
export interface Closed { type: "closed"; id?: number; room: Id; code?: ErrorCode }
export interface Entries { type: "entries"; room: Id; incarnation: number; entries: Entry[] }
export interface Gap { type: "gap"; room: Id; after: Seq; upto: Seq }
export interface Reset { type: "reset"; room: Id; head: Seq; incarnation: number }
export interface Head { room: Id; head: Seq; unread: number }
export interface Heads { type: "heads"; rooms: Head[] }
export interface Ack { type: "ack"; room: Id; writer: Id; n: number; seq: Seq; at: Millis }
export interface Refused {
  type: "refused";
  room: Id;
  writer: Id;
  n: number;
  code: ErrorCode;
  message: string;
  /** Nothing was or will be stored under this `n`. */
  definite: boolean;
  expected?: number;
  seq?: Seq;
  retry_after_ms?: number;
}
/** A page of the log, in a frame or from REST. */
export interface PageOfLog {
  room: Id;
  incarnation: number;
  head: Seq;
  first: Seq;
  entries: Entry[];
}
export interface Page extends PageOfLog { type: "page"; id?: number }
export interface ReadMark { type: "read_mark"; room: Id; seq: Seq; unread: number }
export interface UserPresence { user: Id; status: PresenceStatus; last_seen?: Millis }
export interface Goodbye { type: "goodbye"; code: number; reason: string; reconnect: boolean; after_ms: number }
export interface ErrorFrame {
  type: "error";
  id?: number;
  code: ErrorCode;
  message: string;
  room?: Id;
  retry_after_ms?: number;
}

/** What the server says. */
export type ServerFrame =
  | Welcome | Opened | Closed | Entries | Gap | Reset | Heads | Ack | Refused | Page | ReadMark
  | { type: "typing"; room: Id; user: Id }
  | { type: "presence"; users: UserPresence[] }
  | { type: "status"; status: PresenceStatus }
  | { type: "refreshed"; id: number; expires_at: Millis }
  | { type: "pong"; id?: number; server_time: Millis }
  | Goodbye | ErrorFrame;
