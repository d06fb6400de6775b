/** A message between "the user pressed enter" and "it is in the log". */
import type { StoredSend } from "./storage/store.js";
import type { Body, Id, Kind, Millis, SendFrame, Seq } from "./wire.js";

/**
 * `saving`: not kept yet · `queued`: waits for its turn · `sent`: on the wire, unanswered · `locating`: the log has it,
 * its place is being read · `failed`: refused for good · `unknown`: nobody can say; never sent again by itself.
 */
export type PendingState = "saving" | "queued" | "sent" | "locating" | "failed" | "unknown";

/** See {@link PendingState}. */
export interface Pending {
  /** The client's own name for it. */
  readonly local: string;
  readonly room: Id;
  readonly kind: Kind;
  readonly target?: Seq;
  readonly body: Body;
  readonly createdAt: number;
  /** Length of the body as JSON. */
  readonly bytes: number;
  writer?: Id;
  n?: number;
  state: PendingState;
  /** How often this `n` may have been on a wire since it was last definitely refused. */
  wires: number;
  /** Failures that a later attempt may heal, in a row. */
  attempts: number;
  /** Not to be sent before this moment. */
  notBefore: number;
  sentAt: number;
  /** Why it failed. */
  code?: string;
}

/** What the caller wants to say. */
export interface Draft {
  local: string;
  room: Id;
  kind: Kind;
  target?: Seq;
  body: Body;
}

/** What the outbox asks of its shell. */
export type OutboxOutput =
  /** Keep this; then call `saved` with these names. Nothing of it is sent before. */
  | { type: "commit"; change: { lanes: LaneKey[]; sends: string[]; forget: string[] }; saved: string[] }
  | { type: "send"; frame: SendFrame }
  /** It is in the log. `seq` is absent if its place could not be read. */
  | { type: "acked"; pending: Pending; seq?: Seq; at?: Millis }
  /** Find the own entry in the log, then call `located`. */
  | { type: "locate"; pending: Pending; seq?: Seq }
  | { type: "changed"; room: Id }
  /** No writer may speak in this room: take a new one and call `addWriter`. */
  | { type: "writer_needed"; room: Id }
  /** Call `pump` at this moment. */
  | { type: "wake"; at: number };

/** Names a lane: one writer's counting in one room. */
export interface LaneKey {
  writer: Id;
  room: Id;
}

const encoder = new TextEncoder();

/** A new message from a draft. */
export function fromDraft(draft: Draft, now: number): Pending {
  return {
    ...draft, createdAt: now, bytes: encoder.encode(JSON.stringify(draft.body)).length, state: "saving", wires: 0,
    attempts: 0, notBefore: 0, sentAt: 0,
  };
}

/** A message as it was kept. It counts as having been on a wire: the page may have gone between sending and the answer. */
export function fromStored(stored: StoredSend): Pending {
  const { user: _, ...rest } = stored;
  const bytes = encoder.encode(JSON.stringify(stored.body)).length;
  return { ...rest, bytes, wires: stored.writer ? 1 : 0, attempts: 0, notBefore: 0, sentAt: 0 };
}

/** A message as it is to be kept. */
export function toStored(pending: Pending, user: Id): StoredSend {
  const { local, room, kind, body, createdAt } = pending;
  const settled = pending.state === "failed" || pending.state === "unknown";
  return {
    local, user, room, kind, body, createdAt, state: settled ? (pending.state as "failed" | "unknown") : "queued",
    ...(pending.target !== undefined && { target: pending.target }),
    ...(pending.writer !== undefined && { writer: pending.writer, n: pending.n! }),
    ...(pending.code !== undefined && { code: pending.code }),
  };
}

/** The frame that says it. */
export function toFrame(pending: Pending): SendFrame {
  return {
    type: "send", room: pending.room, writer: pending.writer!, n: pending.n!, kind: pending.kind,
    ...(pending.target !== undefined && { target: pending.target }), body: pending.body,
  };
}
