/**
 * Rookery for TypeScript, in browsers and Node, without dependencies.
 *
 * In reading order: `wire` (the frames) and `decode` (their check) · `timeline` and `outbox` (the two state machines:
 * what is known of a room, what is still to be said) · `timelines` and `sender` (their shells) · `connection` and `auth`
 * (staying connected, staying signed in) · `rookery` (all of it together).
 */
export * from "./wire.js";
export { decodeServer, decodeClient, DecodeError } from "./decode.js";
export { Rookery, type RookeryOptions, type RookeryEvents, type PendingMessage } from "./rookery.js";
export { Auth, type Session, type LiveSession, type Registration, type SignedOutReason } from "./auth.js";
export { Connection, type ConnectionState } from "./connection.js";
export { People } from "./people.js";
export { Timelines } from "./timelines.js";
export { emptyTimeline, hasOlder, lastSeq, reduceTimeline, type Timeline, type Hole } from "./timeline.js";
export { Refusal, Rest } from "./rest.js";
export type {
  Device, Invite, InvitePreview, List, Member, MyRoom, NewInvite, OwnProfile, Profile, Room as RestRoom,
} from "./rest.js";
export type { ListedRoom } from "./roomlist.js";
export { LocalLocks, type Channel, type Clock, type Locks, type Platform, type Socket } from "./platform.js";
export { MemoryStore, type Store } from "./storage/store.js";
