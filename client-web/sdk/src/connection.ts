/** One socket after another: connects, identifies, listens for life, comes back. Knows nothing of rooms. */
import type { Auth } from "./auth.js";
import { backoff } from "./backoff.js";
import { comeBack, DISABLED, SIGNED_OUT, SILENT } from "./close.js";
import { decodeServer } from "./decode.js";
import { Emitter } from "./emitter.js";
import type { Platform, Socket } from "./platform.js";
import { Refusal } from "./rest.js";
import { SUBPROTOCOL, type ClientFrame, type Goodbye, type Id, type Resume, type ServerFrame, type Welcome } from "./wire.js";

/** Between opening a socket and `welcome`. */
const CONNECT_MS = 15_000;
/** For the answer to a ping. */
const PONG_MS = 8_000;
/** A connection that stood this long was a good one: the next wait is short again. */
const STOOD_MS = 5_000;
/** Shortest wait between two renewals of a token, so that a failing one is not asked for in a loop. */
const RENEW_AGAIN_MS = 2_000;
/** Refused identifications in a row, each with a fresh token, before the user is asked to sign in again. */
const REFUSALS = 3;

/**
 * `offline`: not started, or signed out · `connecting` · `ready` · `waiting`: until the next attempt ·
 * `stopped`: the server does not want this client back without a change.
 */
export type ConnectionState = "offline" | "connecting" | "ready" | "waiting" | "stopped";

export interface ConnectionEvents {
  state: { state: ConnectionState; retryAt?: number; reason?: string };
  ready: Welcome;
  down: void;
  frame: ServerFrame;
  /** A frame that could not be read; it is skipped. */
  unreadable: { error: unknown };
}

export interface ConnectionOptions {
  /** ws:// or wss:// address of the socket. */
  url: string;
  /** Name and version, for the operator's eyes. */
  client: string;
  /** Where each room stopped; asked at every identification. */
  resume(): Record<Id, Resume>;
}

/** See the file's head. */
export class Connection extends Emitter<ConnectionEvents> {
  #state: ConnectionState = "offline";
  #socket: Socket | null = null;
  #welcome: Welcome | null = null;
  #readyAt = 0;
  #attempt = 0;
  #refused = 0;
  #goodbye: Goodbye | null = null;
  /** Waits for the next attempt, for `welcome`, or for a sign of life: never for two of them. */
  #timer: unknown = null;
  #renewal: unknown = null;
  #heardAt = 0;
  #identified = "";
  #requests = 0;
  #offs: (() => void)[] = [];

  constructor(private readonly platform: Platform, private readonly auth: Auth, private readonly options: ConnectionOptions) {
    super();
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get welcome(): Welcome | null {
    return this.#welcome;
  }

  /** A number for the next request. */
  nextId(): number {
    return ++this.#requests;
  }

  start(): void {
    if (this.#state !== "offline" && this.#state !== "stopped") return;
    this.#attempt = 0;
    this.#offs.push(
      this.platform.onWake(() => this.wake()),
      this.auth.on("session", () => this.#renew()),
    );
    void this.#connect();
  }

  /** Closes for good, until `start`. */
  stop(): void {
    this.#halt("offline");
  }

  /** Tries now what was to be tried later. */
  wake(): void {
    if (this.#state === "waiting") void this.#connect();
    else if (this.#state === "ready") this.#probe();
  }

  /** Sends if the session stands; says whether it did. */
  send(frame: ClientFrame): boolean {
    if (this.#state !== "ready" || !this.#socket) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  async #connect(): Promise<void> {
    this.#become("connecting");
    this.#goodbye = null;
    let token: string;
    try {
      token = await this.auth.token();
    } catch (error) {
      if (this.#state !== "connecting") return;
      const signedOut = error instanceof Refusal && (error.status === 401 || error.status === 403);
      return signedOut ? this.#halt("offline") : this.#retry(backoff(this.#attempt++, this.platform.random));
    }
    if (this.#state === "connecting") this.#dial(token);
  }

  #dial(token: string): void {
    let socket: Socket;
    try {
      socket = this.platform.socket(this.options.url, SUBPROTOCOL);
    } catch (error) {
      // Not a lost network: there is no such thing as a socket here, or the address makes no sense.
      return this.#halt("stopped", String(error));
    }
    this.#socket = socket;
    this.#after(CONNECT_MS, () => this.#drop(SILENT));
    socket.onopen = () => {
      this.#identified = token;
      const resume = this.options.resume();
      const frame: ClientFrame = { type: "identify", id: this.nextId(), token, client: this.options.client, resume };
      socket.send(JSON.stringify(frame));
    };
    socket.onmessage = (event) => { if (socket === this.#socket) this.#heard(event.data); };
    socket.onclose = (event) => { if (socket === this.#socket) this.#closed(event.code, event.reason); };
    socket.onerror = () => {};
  }

  #heard(data: unknown): void {
    this.#heardAt = this.platform.clock.now();
    let frame: ServerFrame;
    try {
      frame = decodeServer(String(data));
    } catch (error) {
      return this.emit("unreadable", { error });
    }
    if (frame.type === "goodbye") this.#goodbye = frame;
    if (frame.type === "welcome") this.#stands(frame);
    else if (frame.type !== "pong") this.emit("frame", frame);
  }

  #stands(welcome: Welcome): void {
    this.#welcome = welcome;
    this.#readyAt = this.platform.clock.now();
    this.#refused = 0;
    this.#become("ready");
    this.#listen();
    this.emit("ready", welcome);
    this.#renew();
  }

  /** The server's own pings do not reach a script: after a silence this side asks. */
  #listen(): void {
    const silence = this.#welcome!.heartbeat_ms;
    const rest = this.#heardAt + silence - this.platform.clock.now();
    this.#after(Math.max(rest, 1), () => (this.platform.clock.now() - this.#heardAt >= silence ? this.#probe() : this.#listen()));
  }

  #probe(): void {
    const asked = this.platform.clock.now();
    this.send({ type: "ping", id: this.nextId() });
    this.#after(PONG_MS, () => (this.#heardAt >= asked ? this.#listen() : this.#drop(SILENT)));
  }

  /** Tells the server of a token that came after the one this socket stands on, and plans the next one. */
  #renew(): void {
    const session = this.auth.session;
    if (this.#state !== "ready" || !session) return;
    const { clock } = this.platform;
    clock.clearTimeout(this.#renewal);
    const wait = Math.max(session.renewAt - clock.now(), RENEW_AGAIN_MS);
    // A failure is not lost: the socket closes with the token's end, and the next attempt reports it.
    this.#renewal = clock.setTimeout(() => void this.auth.refresh(session.access_token).catch(() => this.#renew()), wait);
    if (session.access_token !== this.#identified) {
      this.#identified = session.access_token;
      this.send({ type: "refresh", id: this.nextId(), token: session.access_token });
    }
  }

  #drop(code: number): void {
    const socket = this.#socket;
    this.#closed(code, "");
    socket?.close(code, "");
  }

  #closed(code: number, reason: string): void {
    const stood = this.#state === "ready";
    const device = this.#welcome?.device;
    this.#socket = null;
    this.#welcome = null;
    this.platform.clock.clearTimeout(this.#timer);
    if (stood && this.platform.clock.now() - this.#readyAt >= STOOD_MS) this.#attempt = 0;
    const wait = Math.max(this.#goodbye?.after_ms ?? 0, backoff(this.#attempt++, this.platform.random));
    if (stood) this.emit("down", undefined);
    const way = this.#goodbye && !this.#goodbye.reconnect && comeBack(code) === "resume" ? "no" : comeBack(code);
    if (way === "no") return this.#halt("stopped", reason || this.#goodbye?.reason);
    if (code === SIGNED_OUT || code === DISABLED) this.auth.ended(device);
    if (this.#state === "offline") return;
    if (way === "reauthenticate") return void this.#reauthenticate(wait);
    this.#retry(wait);
  }

  async #reauthenticate(wait: number): Promise<void> {
    this.#refused += 1;
    if (this.#refused > REFUSALS) return this.auth.ended();
    this.#become("waiting");
    try {
      await this.auth.refresh();
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) return this.#halt("offline");
    }
    if (this.#state === "waiting") this.#retry(wait);
  }

  #retry(wait: number): void {
    this.#become("waiting", { retryAt: this.platform.clock.now() + wait });
    this.#after(wait, () => void this.#connect());
  }

  #halt(state: "offline" | "stopped", reason?: string): void {
    const socket = this.#socket;
    const stood = this.#state === "ready";
    this.#socket = null;
    this.#welcome = null;
    this.platform.clock.clearTimeout(this.#timer);
    this.platform.clock.clearTimeout(this.#renewal);
    for (const off of this.#offs.splice(0)) off();
    this.#become(state, reason === undefined ? {} : { reason });
    if (stood) this.emit("down", undefined);
    socket?.close(1000, "");
  }

  #after(ms: number, run: () => void): void {
    this.platform.clock.clearTimeout(this.#timer);
    this.#timer = this.platform.clock.setTimeout(run, ms);
  }

  #become(state: ConnectionState, more: { retryAt?: number; reason?: string } = {}): void {
    this.#state = state;
    this.emit("state", { state, ...more });
  }
}
