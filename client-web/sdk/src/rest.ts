/** The REST side: everything that is not live. One method a route; refusals are thrown as {@link Refusal}. */
import { checkPage } from "./decode.js";
import type {
  Body, Durability, Entry, ErrorCode, HistoryAccess, HistoryFrom, Id, Kind, Millis, PageOfLog, Role, Seq, Visibility,
} from "./wire.js";

/** What others see of an account. */
export interface Profile {
  id: Id;
  name: string;
  display_name: string;
  colour: string;
}
/** What its owner sees of it. */
export interface OwnProfile extends Profile {
  full_name?: string;
  email?: string;
  created_at: Millis;
}
/** A sign-in, as it is listed. */
export interface Device {
  device: Id;
  label: string;
  created_at: Millis;
  last_used_at: Millis;
  current: boolean;
}
export interface Room {
  id: Id;
  name?: string | null;
  topic?: string | null;
  visibility: Visibility;
  durability: Durability;
  history: HistoryAccess;
  slow_mode_s: number;
  created_at: Millis;
  created_by: Id;
  member_count?: number | null;
}
/** A room with the reader's place in it. `role` is null for who is not a member. */
export interface MyRoom extends Room {
  role: Role | null;
  /** `invited`: may join, and is in the user's list until then. Absent in answers that are not about a membership. */
  state?: "joined" | "invited" | "banned" | "none";
  head?: Seq;
  unread?: number;
  read_seq?: Seq;
  last?: Entry | null;
  /** The other one, in a direct room. */
  peer?: Profile | null;
}
export interface Member {
  user: Profile;
  role: Role;
  state: "joined" | "invited" | "banned";
  /** Told to administrators, and to oneself. */
  muted_until?: Millis | null;
  /** The entry that made this state. */
  since_seq: Seq;
}
export interface Invite {
  id: Id;
  created_by: Id;
  created_at: Millis;
  expires_at: Millis;
  max_uses?: number | null;
  uses: number;
}
/** A fresh invitation; the only time that its secret is told. */
export interface NewInvite extends Invite {
  secret: string;
  url: string;
}
export interface InvitePreview {
  room: { id: Id; name?: string | null; topic?: string | null; member_count?: number | null };
  expires_at: Millis;
}
export interface List<T> {
  items: T[];
  next?: string | null;
}

/** The server said no, or could not be reached (`code` is then `unreachable`). */
export class Refusal extends Error {
  override name = "Refusal";
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly status: number,
    readonly retryAfterMs?: number,
    readonly fields: { field: string; message: string }[] = [],
  ) {
    super(message);
  }
}

/** Sends one request and gives the JSON of the answer. */
export type Ask = <T>(method: string, path: string, body?: unknown) => Promise<T>;

/** Reads an answer, or throws what the server said against it. */
export async function readAnswer<T>(response: Response): Promise<T> {
  if (response.ok) return (response.status === 204 ? undefined : await response.json()) as T;
  const problem = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  throw new Refusal(
    (problem["code"] as ErrorCode | undefined) ?? (response.status === 401 ? "unauthenticated" : "other"),
    String(problem["detail"] ?? problem["title"] ?? `HTTP ${response.status}`),
    response.status,
    problem["retry_after_ms"] as number | undefined,
    (problem["fields"] as { field: string; message: string }[] | undefined) ?? [],
  );
}

type Query = Record<string, string | number | undefined | null>;

function query(values: Query): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}

/** See the file's head. */
export class Rest {
  constructor(private readonly ask: Ask) {}

  me = () => this.ask<OwnProfile>("GET", "/v1/me");
  changeMe = (change: { display_name?: string; full_name?: string; colour?: string }) =>
    this.ask<OwnProfile>("PATCH", "/v1/me", change);
  changePassword = (old_password: string, new_password: string) =>
    this.ask<void>("PUT", "/v1/me/password", { old_password, new_password });
  devices = () => this.ask<List<Device>>("GET", "/v1/sessions");
  signOutDevice = (device: Id) => this.ask<void>("DELETE", `/v1/sessions/${device}`);
  signOutEverywhere = () => this.ask<void>("DELETE", "/v1/sessions");
  ticket = () => this.ask<{ ticket: string; expires_at: Millis }>("POST", "/v1/tickets", {});

  blocks = () => this.ask<List<Profile>>("GET", "/v1/me/blocks");
  block = (user: Id) => this.ask<void>("PUT", `/v1/me/blocks/${user}`);
  unblock = (user: Id) => this.ask<void>("DELETE", `/v1/me/blocks/${user}`);
  findUsers = (prefix: string, limit = 10) => this.ask<List<Profile>>("GET", `/v1/users${query({ prefix, limit })}`);
  user = (user: Id) => this.ask<Profile>("GET", `/v1/users/${user}`);
  users = (ids: Id[]) => this.ask<List<Profile>>("POST", "/v1/users/query", { ids });

  createRoom = (room: {
    name: string; topic?: string; visibility: "public" | "private"; durability?: Durability; history?: HistoryAccess;
  }) => this.ask<Room>("POST", "/v1/rooms", room);
  direct = (user: Id) => this.ask<MyRoom>("PUT", `/v1/direct/${user}`);
  rooms = (cursor?: string | null, limit = 100) => this.ask<List<MyRoom>>("GET", `/v1/rooms${query({ limit, cursor })}`);
  publicRooms = (q = "", cursor?: string | null, limit = 30) =>
    this.ask<List<Room>>("GET", `/v1/rooms/public${query({ q: q || undefined, limit, cursor })}`);
  room = (room: Id) => this.ask<MyRoom>("GET", `/v1/rooms/${room}`);
  changeRoom = (room: Id, change: {
    name?: string; topic?: string; visibility?: "public" | "private"; history?: HistoryAccess; slow_mode_s?: number;
  }) => this.ask<Room>("PATCH", `/v1/rooms/${room}`, change);
  deleteRoom = (room: Id) => this.ask<void>("DELETE", `/v1/rooms/${room}`);
  join = (room: Id, invite_secret?: string) =>
    this.ask<MyRoom>("POST", `/v1/rooms/${room}/join`, invite_secret ? { invite_secret } : {});
  leave = (room: Id) => this.ask<void>("POST", `/v1/rooms/${room}/leave`, {});

  members = (room: Id, cursor?: string | null, state?: "invited" | "banned", limit = 100) =>
    this.ask<List<Member>>("GET", `/v1/rooms/${room}/members${query({ limit, cursor, state })}`);
  invite = (room: Id, user: Id) => this.#member(room, user, "invite");
  kick = (room: Id, user: Id) => this.#member(room, user, "kick");
  ban = (room: Id, user: Id) => this.#member(room, user, "ban");
  unban = (room: Id, user: Id) => this.#member(room, user, "unban");
  mute = (room: Id, user: Id, until?: Millis) => this.#member(room, user, "mute", until === undefined ? {} : { until });
  unmute = (room: Id, user: Id) => this.#member(room, user, "unmute");
  setRole = (room: Id, user: Id, role: Role) => this.ask<void>("PUT", `/v1/rooms/${room}/members/${user}/role`, { role });

  /** A page of the log. */
  async entries(room: Id, from?: HistoryFrom, limit?: number): Promise<PageOfLog> {
    const page = await this.ask<PageOfLog>("GET", `/v1/rooms/${room}/entries${query({ ...(from as Query | undefined), limit })}`);
    checkPage(page, "page");
    return page;
  }
  /** For bots without a socket; idempotent only with a writer and counter of their own. */
  post = (room: Id, entry: { kind: Kind; target?: Seq; body: Body; writer?: Id; n?: number }) =>
    this.ask<{ seq: Seq; at: Millis }>("POST", `/v1/rooms/${room}/entries`, entry);
  markRead = (room: Id, seq: Seq) => this.ask<void>("PUT", `/v1/rooms/${room}/read`, { seq });

  createInvite = (room: Id, options: { expires_in_s?: number; max_uses?: number } = {}) =>
    this.ask<NewInvite>("POST", `/v1/rooms/${room}/invites`, options);
  invites = (room: Id) => this.ask<List<Invite>>("GET", `/v1/rooms/${room}/invites`);
  revokeInvite = (room: Id, invite: Id) => this.ask<void>("DELETE", `/v1/rooms/${room}/invites/${invite}`);
  previewInvite = (room: Id, secret: string) => this.ask<InvitePreview>("POST", "/v1/invites/preview", { room, secret });

  #member(room: Id, user: Id, act: string, body: object = {}): Promise<void> {
    return this.ask<void>("POST", `/v1/rooms/${room}/members/${user}/${act}`, body);
  }
}
