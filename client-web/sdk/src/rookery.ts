/** The client as a whole: what an application talks to. The parts do the work; this file wires them. */
import { Auth, type LiveSession, type Registration, type SignedOutReason } from "./auth.js";
import { Connection, type ConnectionState } from "./connection.js";
import { Emitter } from "./emitter.js";
import { People } from "./people.js";
import type { Pending } from "./pending.js";
import { detectPlatform, type Platform } from "./platform.js";
import { Requests } from "./requests.js";
import { Rest, type MyRoom } from "./rest.js";
import { applyEntries, applyHeads, applyOpened, applyRead, applyReadMark, dropRoom, inOrder, listRoom, withoutLine, type ListedRoom, type RoomMap } from "./roomlist.js";
import { Sender } from "./sender.js";
import { lastSeq, type Timeline } from "./timeline.js";
import { Timelines } from "./timelines.js";
import { RESUME_ROOMS, type Body, type Entry, type ErrorCode, type Id, type Kind, type PresenceStatus, type Resume, type Seq, type ServerFrame } from "./wire.js";

/** Sent at most this often while the user types; the others forget it after five seconds. */
const TYPING_EVERY_MS = 3_000;

/** Who reads along in a lively room moves the mark with every line; the server hears of it this often. */
const READS_EVERY_MS = 300;
/** Between two readings of last lines: five a second are far below what a server allows. */
const LAST_LINE_EVERY_MS = 200;
/** More rooms than this without a line are no concern of the first screen. */
const LAST_LINES_AT_START = 30;
/** Entries looked through for a last line; joins and leaves may lie above it. */
const LAST_LINE_ENTRIES = 10;

export interface RookeryOptions {
  /** Origin of the server, such as `https://chat.example.org`. Without it: the page's own. */
  server?: string;
  /** `web` (the default in browsers) keeps the refresh token in a cookie; anything else keeps it in this object. */
  client?: string;
  /** Shown in the user's list of sign-ins. */
  deviceLabel?: string;
  /** For Node: the refresh token of an earlier run. */
  refreshToken?: string;
  /** Replaces parts of the surroundings; for tests. */
  platform?: Partial<Platform>;
}

export interface RookeryEvents {
  state: { state: ConnectionState; retryAt?: number; reason?: string };
  session: LiveSession;
  signed_out: { reason: SignedOutReason };
  /** The list of rooms is another one now. */
  rooms: ListedRoom[];
  timeline: { room: Id; timeline: Timeline };
  /** The messages of a room that are not in its timeline yet. */
  pending: { room: Id; pending: PendingMessage[] };
  sent: { local: string; room: Id; seq?: Seq };
  closed: { room: Id; code: ErrorCode };
  reset: { room: Id };
  /** A hole was too large to fill. What is in it can be paged. */
  skipped: { room: Id; after: Seq; upto: Seq };
  status: { status: PresenceStatus };
  /** A fault of the server's or of this client's; for logs. */
  fault: { what: string; detail: unknown };
}

/** A message on its way. `delivered`: acknowledged, and about to appear in the timeline. */
export type PendingMessage = Omit<Pending, "state"> & { state: Pending["state"] | "delivered"; seq?: Seq };

/** See the file's head. */
export class Rookery extends Emitter<RookeryEvents> {
  readonly auth: Auth;
  readonly rest: Rest;
  readonly people: People;
  readonly connection: Connection;
  readonly timelines: Timelines;
  #platform: Platform;
  #requests: Requests;
  #sender: Sender | null = null;
  #rooms: RoomMap = new Map();
  #echoes: PendingMessage[] = [];
  /** Messages under way whose entry the stream has brought already; the acknowledgement comes behind it. */
  #shown = new Set<string>();
  /** Rooms whose last line is to be read. */
  #stale = new Set<Id>();
  #reads = new Map<Id, Seq>();
  #typedAt = new Map<Id, number>();
  #status: PresenceStatus = "online";
  #started: Promise<void> | null = null;
  #connectedBefore = false;
  /** Rooms learned of since the list was last asked for. */
  #learned = new Set<Id>();
  /** Whose things are kept in the store. */
  #user: Id = "";

  constructor(options: RookeryOptions = {}) {
    super();
    this.#platform = detectPlatform(options.platform);
    const server = (options.server ?? "").replace(/\/$/, "");
    const client = options.client ?? (typeof document === "undefined" ? "sdk" : "web");
    this.auth = new Auth(this.#platform, {
      server, client, ...(options.deviceLabel && { deviceLabel: options.deviceLabel }),
      ...(options.refreshToken && { refreshToken: options.refreshToken }),
    });
    this.rest = new Rest((method, path, body) => this.auth.request(method, path, body));
    this.connection = new Connection(this.#platform, this.auth, {
      url: socketUrl(server), client: `rookery-sdk/${client}`, resume: () => this.#resume(),
    });
    this.#requests = new Requests(this.#platform.clock, this.connection);
    this.timelines = new Timelines(this.#platform, this.connection, this.#requests);
    this.people = new People(this.#platform, this.connection, this.rest);
    this.#wire();
  }

  register = (account: Registration): Promise<LiveSession> => this.auth.register(account);
  signIn = (name: string, password: string): Promise<LiveSession> => this.auth.signIn(name, password);

  /** Loads the rooms, takes up what was left unsent, connects. Needs a sign-in, or a refresh token or cookie to make one. */
  start(): Promise<void> {
    this.#started ??= this.#start().catch((error) => {
      this.stop();
      throw error;
    });
    return this.#started;
  }

  /** Disconnects. What is unsent stays where it is kept. */
  stop(): void {
    this.connection.stop();
    this.#sender?.stop();
    this.#sender = null;
    this.#started = null;
    this.#connectedBefore = false;
  }

  /** Stops for good, when the page or process is done with this object. */
  close(): void {
    this.stop();
    this.auth.close();
  }

  /** Ends the sign-in and forgets what was kept for this user here. */
  async signOut(): Promise<void> {
    const connected = this.connection.state !== "offline";
    this.connection.stop();
    try {
      await this.auth.signOut();
    } catch (error) {
      if (connected) this.connection.start();
      throw error;
    }
  }

  get me(): Id {
    return this.auth.session?.user.id ?? "";
  }

  get rooms(): ListedRoom[] {
    return inOrder(this.#rooms);
  }

  room(room: Id): ListedRoom | undefined {
    return this.#rooms.get(room);
  }

  /** Takes a room that a REST call answered into the list. */
  learnRoom(room: MyRoom): void {
    if (room.peer) this.people.learn([room.peer]);
    this.#learned.add(room.id);
    if (room.role || room.state === "invited") this.#setRooms(listRoom(this.#rooms, room));
    else this.forgetRoom(room.id);
  }

  forgetRoom(room: Id): void {
    this.timelines.forget(room);
    this.#setRooms(dropRoom(this.#rooms, room));
  }

  /** Reads the list of rooms again. */
  async loadRooms(): Promise<void> {
    const learned = new Set<Id>();
    this.#learned = learned;
    let rooms: RoomMap = new Map();
    let cursor: string | null | undefined;
    do {
      const page = await this.rest.rooms(cursor);
      for (const room of page.items) {
        const known = this.#rooms.get(room.id);
        rooms = listRoom(known ? new Map(rooms).set(room.id, known) : rooms, room);
      }
      this.people.learn(page.items.flatMap((room) => room.peer ?? []));
      cursor = page.next;
    } while (cursor);
    // A room that was entered while the list was on its way is not in it.
    const entered = [...learned].flatMap((id) => this.#rooms.get(id) ?? []).filter((room) => !rooms.has(room.id));
    this.#setRooms(new Map([...rooms, ...entered.map((room) => [room.id, room] as const)]));
  }

  open(room: Id): void {
    this.timelines.open(room);
  }

  closeRoom(room: Id): void {
    this.timelines.close(room);
  }

  timeline(room: Id): Timeline {
    return this.timelines.get(room);
  }

  /** Loads older entries into the timeline. Says whether there may be more. */
  loadOlder(room: Id): Promise<boolean> {
    return this.timelines.older(room);
  }

  /** Queues a message; it is sent when it can be, exactly once. Gives the name under which `pending` lists it. */
  send(room: Id, body: Body | string, options: { kind?: Kind; target?: Seq } = {}): string {
    if (!this.#sender) throw new Error("start() comes before send()");
    const local = this.#platform.randomId();
    this.#sender.enqueue({
      local, room, kind: options.kind ?? (options.target === undefined ? "message" : "reply"),
      body: typeof body === "string" ? { text: body } : body, ...(options.target !== undefined && { target: options.target }),
    });
    this.#typedAt.delete(room);
    return local;
  }

  /** Queues a message again that failed or whose fate is unknown. */
  retry(local: string): void {
    this.#sender?.retry(local);
  }

  /** Forgets a message that failed or whose fate is unknown. */
  discard(local: string): void {
    this.#sender?.discard(local);
  }

  /** The messages of a room that are not in its timeline yet, oldest first. */
  pending(room: Id): PendingMessage[] {
    const all = this.#sender?.outbox.pending(room) ?? [];
    const queued = all.filter((item) => item.state !== "sent" || !this.#shown.has(item.local));
    return [...this.#echoes.filter((echo) => echo.room === room), ...queued];
  }

  /** Everything up to `seq` is read. Kept until the server can be told. */
  markRead(room: Id, seq: Seq): void {
    if (seq <= Math.max(this.#reads.get(room) ?? 0, this.#rooms.get(room)?.read_seq ?? 0)) return;
    this.#setRooms(applyRead(this.#rooms, room, seq));
    if (this.#reads.size === 0) this.#platform.clock.setTimeout(() => this.#tellReads(), READS_EVERY_MS);
    this.#reads.set(room, seq);
  }

  /** The user is typing. May be called at every key. */
  typing(room: Id): void {
    const now = this.#platform.clock.now();
    if (now - (this.#typedAt.get(room) ?? 0) < TYPING_EVERY_MS) return;
    if (this.connection.send({ type: "typing", room })) this.#typedAt.set(room, now);
  }

  /** What others shall see of this user. */
  setStatus(status: PresenceStatus): void {
    this.#status = status;
    this.connection.send({ type: "status", status });
  }

  async #start(): Promise<void> {
    await this.auth.token();
    this.#user = this.me;
    const sender = new Sender(this.#platform, this.me, {
      send: (frame) => void this.connection.send(frame),
      read: (room, around) => this.#requests.history(room, around === undefined ? undefined : { around }, around === undefined ? 200 : 1),
    });
    sender.on("changed", ({ room }) => this.#pendingChanged(room));
    sender.on("acked", ({ pending, seq }) => this.#acked(pending, seq));
    this.#sender = sender;
    await sender.start();
    await this.loadRooms();
    this.connection.start();
  }

  #tellReads(): void {
    for (const [room, seq] of this.#reads) if (this.connection.send({ type: "read", room, seq })) this.#reads.delete(room);
  }

  #wire(): void {
    this.auth.on("session", (session) => this.emit("session", session));
    this.auth.on("signed_out", ({ reason }) => void this.#signedOut(reason));
    this.connection.on("state", (state) => this.emit("state", state));
    this.connection.on("ready", (welcome) => this.#ready(welcome.limits));
    this.connection.on("down", () => {
      this.#shown.clear();
      this.#stale.clear();
      this.#sender?.disconnected();
    });
    this.connection.on("frame", (frame) => this.#heard(frame));
    this.connection.on("unreadable", ({ error }) => this.emit("fault", { what: "unreadable frame", detail: error }));
    this.timelines.on("timeline", (event) => {
      this.#dropEchoes(event.room);
      this.emit("timeline", event);
    });
    this.timelines.on("entries", ({ room, entries, live }) => {
      if (live) this.#recognise(room, entries);
      this.#sender?.seen(room, [...entries]);
      this.#setRooms(applyEntries(this.#rooms, room, entries, this.me, live));
    });
    this.timelines.on("closed", (event) => this.#closed(event.room, event.code));
    this.timelines.on("reset", (event) => this.emit("reset", event));
    this.timelines.on("skipped", (event) => this.emit("skipped", event));
    this.timelines.on("discontinuity", (detail) => this.emit("fault", { what: "discontinuity", detail }));
  }

  #ready(limits: Parameters<Sender["connected"]>[0]): void {
    this.#tellReads();
    // What the user joined or left elsewhere meanwhile is not in the stream.
    if (this.#connectedBefore) void this.loadRooms().catch(() => {});
    this.#connectedBefore = true;
    if (this.#status !== "online") this.connection.send({ type: "status", status: this.#status });
    this.#sender?.connected(limits);
    for (const room of withoutLine(this.#rooms).slice(0, LAST_LINES_AT_START)) this.#wantLastLine(room);
  }

  #heard(frame: ServerFrame): void {
    this.timelines.heard(frame);
    this.people.heard(frame);
    this.#requests.heard(frame);
    switch (frame.type) {
      case "opened": return this.#setRooms(applyOpened(this.#rooms, frame.room, frame.role));
      case "ack": return this.#sender?.ack(frame);
      case "refused": return this.#sender?.refused(frame);
      case "heads": return this.#heads(frame.rooms);
      case "read_mark": return this.#setRooms(applyReadMark(this.#rooms, frame));
      case "status":
        this.#status = frame.status;
        return this.emit("status", { status: frame.status });
      case "error":
        if (frame.id === undefined) this.emit("fault", { what: "error frame", detail: frame });
    }
  }

  #heads(heads: { room: Id; head: Seq; unread: number }[]): void {
    const before = this.#rooms;
    this.#setRooms(applyHeads(this.#rooms, heads));
    for (const { room, head } of heads) {
      if (!before.has(room)) void this.#learnOf(room);
      else if (head > before.get(room)!.head && !this.timelines.isOpen(room)) this.#wantLastLine(room);
    }
  }

  /** A room that somebody else has brought this user into, or that was entered on another device. */
  async #learnOf(room: Id): Promise<void> {
    const told = await this.rest.room(room).catch(() => null);
    if (!told) return;
    this.learnRoom(told);
    if (this.#rooms.has(room) && !told.last) this.#wantLastLine(room);
  }

  #wantLastLine(room: Id): void {
    if (this.#stale.size === 0) this.#platform.clock.setTimeout(() => void this.#readLastLine(), LAST_LINE_EVERY_MS);
    this.#stale.add(room);
  }

  /** The newest lines of a room that is not open, for the list. One room after the other, however many have news. */
  async #readLastLine(): Promise<void> {
    const [room] = this.#stale;
    if (room === undefined) return;
    this.#stale.delete(room);
    if (this.#stale.size) this.#platform.clock.setTimeout(() => void this.#readLastLine(), LAST_LINE_EVERY_MS);
    const page = await this.#requests.history(room, undefined, LAST_LINE_ENTRIES).catch(() => null);
    if (page) this.#setRooms(applyEntries(this.#rooms, room, page.entries, this.me, false));
  }

  #closed(room: Id, code: ErrorCode): void {
    if (code === "not_a_member" || code === "banned" || code === "not_found") this.forgetRoom(room);
    this.emit("closed", { room, code });
  }

  /** The stream brings an own entry without its number, before the acknowledgement: the same content is taken for it. */
  #recognise(room: Id, entries: readonly Entry[]): void {
    const sent = this.pending(room).filter((item) => item.state === "sent");
    for (const entry of entries) {
      if (entry.from !== this.me || entry.writer !== undefined || sent.length === 0) continue;
      const at = sent.findIndex((item) => item.kind === entry.kind && JSON.stringify(item.body) === JSON.stringify(entry.body));
      if (at >= 0) this.#shown.add(sent.splice(at, 1)[0]!.local);
    }
    this.#pendingChanged(room);
  }

  #acked(pending: Pending, seq?: Seq): void {
    this.#shown.delete(pending.local);
    const timeline = this.timeline(pending.room);
    // The stream brings the entry in a moment; until then it is shown from here, so that nothing blinks.
    if (seq !== undefined && timeline.live && seq > lastSeq(timeline)) {
      this.#echoes.push({ ...pending, state: "delivered", seq });
    }
    this.emit("sent", { local: pending.local, room: pending.room, ...(seq !== undefined && { seq }) });
    this.#pendingChanged(pending.room);
  }

  #dropEchoes(room: Id): void {
    const timeline = this.timeline(room);
    const left = this.#echoes.filter((echo) => echo.room !== room || (timeline.live && echo.seq! > lastSeq(timeline)));
    if (left.length === this.#echoes.length) return;
    this.#echoes = left;
    this.#pendingChanged(room);
  }

  #pendingChanged(room: Id): void {
    this.emit("pending", { room, pending: this.pending(room) });
  }

  #setRooms(rooms: RoomMap): void {
    if (rooms === this.#rooms) return;
    this.#rooms = rooms;
    this.emit("rooms", this.rooms);
  }

  /** Where every room stopped: the open ones by their timelines, the others by their heads. */
  #resume(): Record<Id, Resume> {
    const open = this.timelines.resume();
    const others = this.rooms.filter((room) => room.role && !this.timelines.isOpen(room.id));
    const rest = others.slice(0, RESUME_ROOMS - Object.keys(open).length);
    return { ...Object.fromEntries(rest.map((room) => [room.id, { after: room.head, open: false }])), ...open };
  }

  async #signedOut(reason: SignedOutReason): Promise<void> {
    const user = this.#user;
    this.stop();
    for (const room of this.#rooms.keys()) this.timelines.forget(room);
    this.#rooms = new Map();
    this.#echoes = [];
    // Whoever signs out leaves nothing behind; a sign-in that merely ended may be taken up again.
    if (reason === "asked" && user) await this.#platform.store.clear(user).catch(() => {});
    this.emit("signed_out", { reason });
  }
}

function socketUrl(server: string): string {
  const base = server || globalThis.location?.origin || "";
  return `${base.replace(/^http/, "ws")}/v1/socket`;
}
