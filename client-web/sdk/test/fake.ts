/** A world that tests decide: a clock that stands still, and a small server that obeys the protocol's rules for rooms. */
import { decodeClient, LocalLocks, MemoryStore, Rookery, type ClientFrame, type Entry, type Platform, type SendFrame, type ServerFrame, type Socket } from "@rookery/sdk";
import { DEFAULT_LIMITS } from "../src/wire.js";

export const id = (name: string): string => Array.from(name, (c) => c.charCodeAt(0).toString(16)).join("").padStart(32, "0").slice(-32);

/** Lets everything run that waits for nothing but promises. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

export class FakeClock {
  #now = 1_000_000;
  #timers = new Map<number, { at: number; run: () => void }>();
  #next = 1;

  now = (): number => this.#now;
  setTimeout = (run: () => void, ms: number): number => {
    this.#timers.set(this.#next, { at: this.#now + ms, run });
    return this.#next++;
  };
  clearTimeout = (timer: unknown): void => void this.#timers.delete(timer as number);

  /** Moves time on, running what falls due on the way. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = Math.max(this.#now, due[1].at);
      due[1].run();
      await settle();
    }
    this.#now = end;
  }

  /** Moves time on until `holds`; fails after ten minutes of this clock. */
  async until(holds: () => boolean, what = "the condition"): Promise<void> {
    for (let i = 0; i < 6_000; i++) {
      await settle();
      if (holds()) return;
      await this.advance(100);
    }
    throw new Error(`${what} did not come`);
  }
}

class FakeSocket implements Socket {
  readyState = 0;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  onerror: Socket["onerror"] = null;
  user = "";
  open = new Set<string>();

  constructor(private readonly server: FakeServer) {
    setImmediate(() => server.dialled(this));
  }

  send(text: string): void {
    if (this.readyState === 1) setImmediate(() => this.server.heard(this, decodeClient(text)));
  }

  close(code = 1005): void {
    this.closed(code);
  }

  closed(code: number, reason = ""): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.server.sockets.delete(this);
    setImmediate(() => this.onclose?.({ code, reason }));
  }

  tell(frame: ServerFrame): void {
    if (this.readyState === 1) setImmediate(() => this.readyState === 1 && this.onmessage?.({ data: JSON.stringify(frame) }));
  }
}

export class FakeRoom {
  incarnation = 1;
  log: (Entry & { writer: string; n: number })[] = [];
  next = new Map<string, number>();

  constructor(readonly id: string, readonly clock: FakeClock) {}

  get head(): number {
    return this.log.length;
  }

  append(from: string, text: string): void {
    this.put(from, { type: "send", room: this.id, writer: id("other"), n: this.head + 1, kind: "message", body: { text } });
  }

  put(from: string, frame: SendFrame): Entry {
    const { writer, n, kind, target, body } = frame;
    const entry = { seq: this.head + 1, at: this.clock.now(), from, kind, body, writer, n, ...(target !== undefined && { target }) };
    this.log.push(entry);
    return entry;
  }

  texts(): string[] {
    return this.log.map((entry) => String(entry.body?.["text"]));
  }
}

type Answer = "ack" | "store_silently" | "ignore" | Partial<Extract<ServerFrame, { type: "refused" }>>;

export class FakeServer {
  sockets = new Set<FakeSocket>();
  rooms = new Map<string, FakeRoom>();
  heardFrames: ClientFrame[] = [];
  refreshes = 0;
  /** Of the sign-ins from now on. */
  device = id("device");
  /** Access tokens that the socket takes; refreshing makes new ones. */
  good = new Set<string>();
  up = true;
  /** Decides about a send before the rules do. */
  decide: (frame: SendFrame) => Answer | undefined = () => undefined;
  /** Hides entries from the live stream. */
  hidden = (_seq: number): boolean => false;
  resumeEntries = 100;
  answersPings = true;
  heartbeat = 25_000;
  refreshAnswers: () => Response | null = () => null;

  constructor(readonly clock: FakeClock) {}

  room(name: string): FakeRoom {
    const key = id(name);
    if (!this.rooms.has(key)) this.rooms.set(key, new FakeRoom(key, this.clock));
    return this.rooms.get(key)!;
  }

  of<T extends ClientFrame["type"]>(type: T): Extract<ClientFrame, { type: T }>[] {
    return this.heardFrames.filter((frame) => frame.type === type) as Extract<ClientFrame, { type: T }>[];
  }

  /** All sockets break without a word, and none can be opened until `up` again. */
  kill(): void {
    this.up = false;
    this.closeAll(1006);
  }

  closeAll(code: number): void {
    for (const socket of [...this.sockets]) socket.closed(code);
  }

  tellAll(frame: ServerFrame): void {
    for (const socket of this.sockets) socket.tell(frame);
  }

  say(room: FakeRoom, text: string): void {
    room.append(id("bob"), text);
    this.#broadcast(room, room.log.at(-1)!);
  }

  dialled(socket: FakeSocket): void {
    if (!this.up) return socket.closed(1006);
    socket.readyState = 1;
    this.sockets.add(socket);
    socket.onopen?.({});
  }

  heard(socket: FakeSocket, frame: ClientFrame): void {
    this.heardFrames.push(frame);
    switch (frame.type) {
      case "identify": return this.#identify(socket, frame);
      case "open": return this.#open(socket, frame.room, frame.after, frame.incarnation, frame.id);
      case "close":
        socket.open.delete(frame.room);
        return socket.tell({ type: "closed", id: frame.id, room: frame.room });
      case "send": return this.#send(socket, frame);
      case "history": return this.#history(socket, frame);
      case "ping": return this.answersPings ? socket.tell({ type: "pong", ...(frame.id && { id: frame.id }), server_time: 0 }) : undefined;
      case "refresh": return socket.tell({ type: "refreshed", id: frame.id, expires_at: 0 });
    }
  }

  fetch = async (url: string, init: RequestInit): Promise<Response> => {
    await settle();
    if (!this.up) throw new TypeError("failed to fetch");
    const json = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status });
    const path = url.replace(/^https?:\/\/[^/]+/, "");
    if (path === "/v1/sessions/current") return new Response(null, { status: 204 });
    if (path.startsWith("/v1/sessions")) {
      const refused = path.endsWith("refresh") ? (this.refreshes++, this.refreshAnswers()) : null;
      return refused ?? json(this.#session());
    }
    if (path.startsWith("/v1/rooms?")) {
      const rooms = [...this.rooms.values()].map((room) => ({
        id: room.id, name: "room", visibility: "public", durability: "durable", history: "all", slow_mode_s: 0,
        created_at: 0, created_by: id("bob"), role: "member", head: room.head, unread: 0, read_seq: room.head, last: null,
      }));
      return json({ items: rooms, next: null });
    }
    return json({ code: "not_found", detail: `${init.method} ${path}` }, 404);
  };

  #tokens = 0;
  #devices = new Map<string, string>();
  #session(): object {
    const token = `token-${++this.#tokens}`;
    this.good.add(token);
    this.#devices.set(token, this.device);
    const user = { id: id("alice"), name: "alice", display_name: "Alice", colour: "#336699", created_at: 0 };
    return { user, device: this.device, access_token: token, expires_at: this.clock.now() + 600_000, refresh_token: `r${token}` };
  }

  #identify(socket: FakeSocket, frame: ClientFrame & { type: "identify" }): void {
    if (!this.good.has(frame.token ?? "")) return socket.closed(4101);
    socket.user = id("alice");
    socket.tell({
      type: "welcome", id: frame.id!, version: 1, user: socket.user, device: this.#devices.get(frame.token!)!, session: id("session"),
      server_time: this.clock.now(), expires_at: this.clock.now() + 600_000, heartbeat_ms: this.heartbeat, limits: DEFAULT_LIMITS,
    });
    for (const [room, { after, open, incarnation }] of Object.entries(frame.resume ?? {})) {
      if (open) this.#open(socket, room, after, incarnation);
    }
  }

  #open(socket: FakeSocket, name: string, after?: number, incarnation?: number, request?: number): void {
    const room = this.rooms.get(name);
    if (!room) return socket.tell({ type: "error", ...(request && { id: request }), code: "not_found", message: "", room: name });
    if (request && socket.open.has(name)) return socket.tell({ type: "error", id: request, code: "conflict", message: "", room: name });
    socket.open.add(name);
    const void_ = after !== undefined && (incarnation !== undefined && incarnation !== room.incarnation || after > room.head);
    if (void_) socket.tell({ type: "reset", room: name, head: room.head, incarnation: room.incarnation });
    const from = void_ ? room.head : (after ?? Math.max(0, room.head - this.resumeEntries));
    socket.tell({
      type: "opened", ...(request && { id: request }), room: name, incarnation: room.incarnation, durability: "durable",
      head: room.head, after: from, role: "member",
    });
    const start = Math.max(from, room.head - this.resumeEntries);
    if (start > from) socket.tell({ type: "gap", room: name, after: from, upto: start });
    const entries = room.log.slice(start).map((entry) => this.#shown(entry, socket.user));
    if (entries.length) socket.tell({ type: "entries", room: name, incarnation: room.incarnation, entries });
  }

  #shown({ writer, n, ...entry }: FakeRoom["log"][number], reader: string): Entry {
    return entry.from === reader ? { ...entry, writer, n } : entry;
  }

  #send(socket: FakeSocket, frame: SendFrame): void {
    const room = this.rooms.get(frame.room)!;
    const known = room.log.find((entry) => entry.writer === frame.writer && entry.n === frame.n);
    const refuse = (refusal: Partial<Extract<ServerFrame, { type: "refused" }>>) =>
      socket.tell({ type: "refused", room: frame.room, writer: frame.writer, n: frame.n, code: "internal", message: "", definite: true, ...refusal });
    if (known && JSON.stringify(known.body) !== JSON.stringify(frame.body)) return refuse({ code: "conflict" });
    if (known) return socket.tell({ type: "ack", room: room.id, writer: frame.writer, n: frame.n, seq: known.seq, at: known.at });
    const expected = room.next.get(frame.writer) ?? 1;
    if (frame.n !== expected) return refuse({ code: "out_of_order", expected });
    const answer = this.decide(frame) ?? "ack";
    if (answer === "ignore") return;
    if (typeof answer === "object") return refuse(answer);
    const entry = room.put(socket.user, frame);
    room.next.set(frame.writer, frame.n + 1);
    this.#broadcast(room, entry);
    if (answer === "ack") socket.tell({ type: "ack", room: room.id, writer: frame.writer, n: frame.n, seq: entry.seq, at: entry.at });
  }

  #broadcast(room: FakeRoom, entry: Entry): void {
    const { writer: _w, n: _n, ...live } = entry;
    if (this.hidden(entry.seq)) return;
    for (const socket of this.sockets) {
      if (socket.open.has(room.id)) socket.tell({ type: "entries", room: room.id, incarnation: room.incarnation, entries: [live] });
    }
  }

  #history(socket: FakeSocket, frame: ClientFrame & { type: "history" }): void {
    const room = this.rooms.get(frame.room)!;
    const limit = frame.limit ?? 50;
    const from = frame.from ?? { before: room.head + 1 };
    const start = "before" in from ? Math.max(0, from.before - 1 - limit)
      : "after" in from ? from.after : Math.max(0, from.around - 1 - Math.floor(limit / 2));
    const end = "before" in from ? from.before - 1 : start + limit;
    const entries = room.log.slice(start, end).map((entry) => this.#shown(entry, socket.user));
    socket.tell({ type: "page", id: frame.id, room: room.id, incarnation: room.incarnation, head: room.head, first: 1, entries });
  }
}

/** What tabs of one browser share. */
export class World {
  clock = new FakeClock();
  server = new FakeServer(this.clock);
  store = new MemoryStore();
  locks = new LocalLocks();
  #channels = new Map<string, Set<{ onmessage: ((message: unknown) => void) | null }>>();
  #ids = 0;

  platform(overrides: Partial<Platform> = {}): Partial<Platform> {
    return {
      clock: this.clock,
      random: () => 0.5,
      randomId: () => (++this.#ids).toString(16).padStart(32, "0"),
      socket: () => new FakeSocket(this.server),
      fetch: this.server.fetch,
      store: this.store,
      locks: this.locks,
      channel: (name) => this.#channel(name),
      onWake: () => () => {},
      ...overrides,
    };
  }

  /** A signed-in tab that has connected. */
  async tab(overrides: Partial<Platform> = {}): Promise<Rookery> {
    const rookery = new Rookery({ server: "http://test", client: "sdk", platform: this.platform(overrides) });
    await rookery.signIn("alice", "password");
    await rookery.start();
    await this.clock.until(() => rookery.connection.state === "ready", "the connection");
    return rookery;
  }

  #channel(name: string): ReturnType<Platform["channel"]> {
    const all = this.#channels.get(name) ?? new Set();
    this.#channels.set(name, all);
    const channel: ReturnType<Platform["channel"]> = {
      post: (message) => {
        const others = [...all].filter((other) => other !== channel);
        setImmediate(() => others.forEach((other) => other.onmessage?.(structuredClone(message))));
      },
      onmessage: null,
      close: () => void all.delete(channel),
    };
    all.add(channel);
    return channel;
  }
}
