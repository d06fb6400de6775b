/** Frame text → typed frame, checked. Unknown fields are ignored; unknown kinds and wrong fields are errors. */
import type { ClientFrame, ServerFrame } from "./wire.js";

/** A frame that can't be read. */
export class DecodeError extends Error {
  override name = "DecodeError";
}

type Check = (value: unknown, path: string) => void;

const fail = (path: string, wanted: string): never => {
  throw new DecodeError(`${path}: expected ${wanted}`);
};
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const text: Check = (value, path) => { if (typeof value !== "string") fail(path, "text"); };
const flag: Check = (value, path) => { if (typeof value !== "boolean") fail(path, "true or false"); };
/** A counter: whole, not negative, exact in a double. */
const count: Check = (value, path) => {
  if (!Number.isSafeInteger(value) || (value as number) < 0) fail(path, "a whole number below 2^53");
};
const id: Check = (value, path) => {
  if (typeof value !== "string" || !/^[0-9a-f]{32}$/.test(value)) fail(path, "32 hexadecimal digits");
};
const object: Check = (value, path) => { if (!isObject(value)) fail(path, "an object"); };
const oneOf = (...names: string[]): Check => (value, path) => {
  if (!names.includes(value as string)) fail(path, names.join(" or "));
};
const maybe = (check: Check): Check => (value, path) => { if (value !== undefined) check(value, path); };
const listOf = (check: Check): Check => (value, path) => {
  if (!Array.isArray(value)) return fail(path, "a list");
  value.forEach((item, index) => check(item, `${path}[${index}]`));
};
const fields = (shape: Record<string, Check>): Check => (value, path) => {
  if (!isObject(value)) return fail(path, "an object");
  for (const [name, check] of Object.entries(shape)) check(value[name], `${path}.${name}`);
};
const mapOf = (key: Check, check: Check): Check => (value, path) => {
  if (!isObject(value)) return fail(path, "an object");
  for (const [name, item] of Object.entries(value)) {
    key(name, `${path} key`);
    check(item, `${path}.${name}`);
  }
};

const role = oneOf("member", "admin", "owner");
const status = oneOf("online", "away", "dnd", "invisible", "offline");
const entry = fields({
  seq: count, at: count, from: id, kind: text, target: maybe(count), body: maybe(object),
  masked: maybe(oneOf("deleted", "erased")), writer: maybe(id), n: maybe(count),
});
const page = { room: id, incarnation: count, head: count, first: count, entries: listOf(entry) };
const limits = fields({
  frame_bytes: count, body_bytes: count, open_rooms: count, window_sends: count, window_bytes: count,
  page_entries: count, watched_users: count,
});
const historyFrom: Check = (value, path) => {
  if (!isObject(value)) return fail(path, "an object");
  const names = Object.keys(value);
  if (names.length !== 1 || !["before", "after", "around"].includes(names[0]!)) fail(path, "before, after or around");
  count(value[names[0]!], `${path}.${names[0]}`);
};

/** The client's frames by kind. */
export const CLIENT_SHAPES: Record<ClientFrame["type"], Check> = {
  identify: fields({
    id: maybe(count), token: maybe(text), ticket: maybe(text), client: maybe(text),
    resume: maybe(mapOf(id, fields({ after: count, open: maybe(flag), incarnation: maybe(count) }))),
  }),
  open: fields({ id: count, room: id, after: maybe(count), incarnation: maybe(count) }),
  close: fields({ id: count, room: id }),
  send: fields({
    room: id, writer: id, n: count, kind: text, target: maybe(count), body: object, traceparent: maybe(text),
  }),
  history: fields({ id: count, room: id, from: maybe(historyFrom), limit: maybe(count) }),
  read: fields({ room: id, seq: count }),
  typing: fields({ room: id }),
  watch: fields({ users: listOf(id) }),
  unwatch: fields({ users: listOf(id) }),
  status: fields({ status }),
  refresh: fields({ id: count, token: text }),
  ping: fields({ id: maybe(count) }),
};

/** The server's frames by kind. */
export const SERVER_SHAPES: Record<ServerFrame["type"], Check> = {
  welcome: fields({
    id: maybe(count), version: count, user: id, device: id, session: id, server_time: count, expires_at: count,
    heartbeat_ms: count, limits,
  }),
  opened: fields({
    id: maybe(count), room: id, incarnation: count, durability: oneOf("durable", "ephemeral"), head: count,
    after: count, role,
  }),
  closed: fields({ id: maybe(count), room: id, code: maybe(text) }),
  entries: fields({ room: id, incarnation: count, entries: listOf(entry) }),
  gap: fields({ room: id, after: count, upto: count }),
  reset: fields({ room: id, head: count, incarnation: count }),
  heads: fields({ rooms: listOf(fields({ room: id, head: count, unread: count })) }),
  ack: fields({ room: id, writer: id, n: count, seq: count, at: count }),
  refused: fields({
    room: id, writer: id, n: count, code: text, message: text, definite: flag, expected: maybe(count),
    seq: maybe(count), retry_after_ms: maybe(count),
  }),
  page: fields({ id: maybe(count), ...page }),
  read_mark: fields({ room: id, seq: count, unread: count }),
  typing: fields({ room: id, user: id }),
  presence: fields({ users: listOf(fields({ user: id, status, last_seen: maybe(count) })) }),
  status: fields({ status }),
  refreshed: fields({ id: count, expires_at: count }),
  pong: fields({ id: maybe(count), server_time: count }),
  goodbye: fields({ code: count, reason: text, reconnect: flag, after_ms: count }),
  error: fields({ id: maybe(count), code: text, message: text, room: maybe(id), retry_after_ms: maybe(count) }),
};

function decode<T>(raw: string, shapes: Record<string, Check>): T {
  let value: unknown;
  try {
    value = JSON.parse(raw);
  } catch {
    throw new DecodeError("not JSON");
  }
  const kind = isObject(value) ? value["type"] : undefined;
  if (typeof kind !== "string" || !Object.hasOwn(shapes, kind)) throw new DecodeError(`unknown frame type ${String(kind)}`);
  shapes[kind]!(value, kind);
  return value as T;
}

/** Reads a frame of the server's. */
export const decodeServer = (raw: string): ServerFrame => decode<ServerFrame>(raw, SERVER_SHAPES);
/** Reads a frame of a client's; for tests and fake servers. */
export const decodeClient = (raw: string): ClientFrame => decode<ClientFrame>(raw, CLIENT_SHAPES);
/** Checks a page of the log that came by REST. */
export const checkPage: Check = fields(page);
