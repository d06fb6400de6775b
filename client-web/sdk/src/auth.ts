/**
 * Signing in and staying signed in. The access token lives in memory and is shared with the other tabs; the refresh
 * token is in a cookie that no script sees (browsers) or in this object (Node). Tabs refresh one at a time.
 */
import { Emitter } from "./emitter.js";
import type { Channel, Platform } from "./platform.js";
import { Refusal, readAnswer, type OwnProfile } from "./rest.js";
import type { Id, Millis } from "./wire.js";

/** A token is renewed when less than this part of its life is left. */
const RENEW_PART = 0.2;
/** Until a message to the other tabs has arrived, with some to spare. If it has not, one refresh more does no harm. */
const HEARD_MS = 50;
/** A token that seems to live shorter than this comes from a clock that is wrong. */
const SHORTEST_LIFE_MS = 5_000;

/** A sign-in, as the server answers it. */
export interface Session {
  user: OwnProfile;
  device: Id;
  access_token: string;
  expires_at: Millis;
  /** Only for clients that are no browsers. */
  refresh_token?: string;
}

/** A session with the moments of its token by this machine's clock. */
export interface LiveSession extends Session {
  renewAt: number;
  endsAt: number;
}

export type SignedOutReason = "asked" | "ended" | "other_user";

export interface AuthEvents {
  /** A session, new or with a new token. */
  session: LiveSession;
  signed_out: { reason: SignedOutReason };
}

/** What is needed to register. */
export interface Registration {
  name: string;
  password: string;
  email?: string;
  full_name?: string;
}

export interface AuthOptions {
  /** Origin of the server; empty for the page's own. */
  server: string;
  /** Told to the server: `web` keeps the refresh token in a cookie. */
  client: string;
  deviceLabel?: string;
  /** For Node: the refresh token of an earlier run. */
  refreshToken?: string;
}

/** See the file's head. */
export class Auth extends Emitter<AuthEvents> {
  #session: LiveSession | null = null;
  #refreshToken: string | undefined;
  #leaving = false;
  #refreshing: Promise<LiveSession> | null = null;
  #channel: Channel;

  constructor(private readonly platform: Platform, private readonly options: AuthOptions) {
    super();
    this.#refreshToken = options.refreshToken;
    this.#channel = platform.channel("rookery-session");
    this.#channel.onmessage = (message) => this.#heard(message as TabMessage);
  }

  get session(): LiveSession | null {
    return this.#session;
  }

  register(account: Registration): Promise<LiveSession> {
    return this.#enter("/v1/accounts", account);
  }

  signIn(name: string, password: string): Promise<LiveSession> {
    return this.#enter("/v1/sessions", { name, password });
  }

  /** An access token that is good for a while. Renews it first where needed. */
  async token(): Promise<string> {
    const session = this.#session;
    if (session && this.platform.clock.now() < session.renewAt) return session.access_token;
    try {
      return (await this.refresh(session?.access_token)).access_token;
    } catch (error) {
      // The server is away for a moment: the old token may do until it really ends.
      if (session && this.#session && this.platform.clock.now() < session.endsAt) return session.access_token;
      throw error;
    }
  }

  /** A new token. `stale` is the one that is no good: if another tab has replaced it meanwhile, that one is taken. */
  refresh(stale: string | undefined = this.#session?.access_token): Promise<LiveSession> {
    this.#refreshing ??= new Promise<LiveSession>((resolve, reject) => {
      const inTurn = async () => {
        await this.#refreshInTurn(stale).then(resolve, reject);
        // The next tab in the queue shall hear of the new token before it has its turn.
        await new Promise<void>((heard) => this.platform.clock.setTimeout(heard, HEARD_MS));
      };
      this.platform.locks.within("rookery-refresh", inTurn).catch(reject);
    }).finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  /** Ends this sign-in, here and on the server. */
  async signOut(): Promise<void> {
    const token = this.#session?.access_token;
    const refresh = this.#refreshToken;
    // The server ends the sockets before it answers; that is not somebody else's doing.
    this.#leaving = true;
    try {
      await this.#call("DELETE", "/v1/sessions/current", refresh ? { refresh_token: refresh } : {}, token);
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 401) throw error;
    } finally {
      this.#leaving = false;
    }
    this.#ended("asked", true);
  }

  /** The server has ended the sign-in of this device; what is here is void, unless there is a new one already. */
  ended(device = this.#session?.device): void {
    if (!this.#leaving && this.#session?.device === device) this.#ended("ended", true);
  }

  /** Takes a changed profile of the user's into the session. */
  profileChanged(user: OwnProfile): void {
    if (this.#session) this.#adopt({ ...this.#session, user }, true);
  }

  close(): void {
    this.#channel.close();
  }

  /** One request; the answer's JSON. Throws a {@link Refusal}. */
  async request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const token = await this.token();
    try {
      return await this.#call<T>(method, path, body, token);
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 401) throw error;
      return this.#call<T>(method, path, body, (await this.refresh(token)).access_token);
    }
  }

  async #enter(path: string, body: object): Promise<LiveSession> {
    const { client, deviceLabel } = this.options;
    const answer = await this.#call<Session>("POST", path, { ...body, client, ...(deviceLabel && { device_label: deviceLabel }) });
    return this.#adopt(this.#timed(answer), true);
  }

  async #refreshInTurn(stale: string | undefined): Promise<LiveSession> {
    const current = this.#session;
    if (current && current.access_token !== stale && this.platform.clock.now() < current.renewAt) return current;
    const token = this.#refreshToken;
    try {
      const answer = await this.#call<Session>("POST", "/v1/sessions/refresh", {
        client: this.options.client, ...(token && { refresh_token: token }),
      });
      if (current && answer.user.id !== current.user.id) {
        this.#ended("other_user", false);
        throw new Refusal("unauthenticated", "another user has signed in", 401);
      }
      return this.#adopt(this.#timed(answer), true);
    } catch (error) {
      if (error instanceof Refusal && (error.status === 401 || error.status === 403) && this.#session === current) this.#ended("ended", true);
      throw error;
    }
  }

  /** The token's life by this clock: the server's times are only compared with each other. */
  #timed(session: Session): LiveSession {
    const now = this.platform.clock.now();
    const life = Math.max(SHORTEST_LIFE_MS, tokenLife(session.access_token) ?? session.expires_at - now);
    return { ...session, renewAt: now + life * (1 - RENEW_PART), endsAt: now + life };
  }

  #adopt(session: LiveSession, tell: boolean): LiveSession {
    this.#refreshToken = session.refresh_token ?? this.#refreshToken;
    this.#session = session;
    if (tell) this.#channel.post({ type: "session", session } satisfies TabMessage);
    this.emit("session", session);
    return session;
  }

  #ended(reason: SignedOutReason, tell: boolean): void {
    const had = this.#session;
    this.#session = null;
    this.#refreshToken = undefined;
    if (tell && had) this.#channel.post({ type: "signed_out", device: had.device, reason } satisfies TabMessage);
    this.emit("signed_out", { reason });
  }

  #heard(message: TabMessage): void {
    const mine = this.#session;
    if (!mine) return;
    if (message.type === "signed_out") {
      if (message.device === mine.device && !this.#leaving) this.#ended(message.reason, false);
    } else if (message.session.user.id === mine.user.id) this.#adopt(message.session, false);
    // The cookie is one for all tabs: from now on it speaks for somebody else.
    else this.#ended("other_user", false);
  }

  async #call<T>(method: string, path: string, body?: unknown, token?: string): Promise<T> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers["content-type"] = "application/json";
    if (token) headers["authorization"] = `Bearer ${token}`;
    const init: RequestInit = { method, headers, credentials: "same-origin", ...(body !== undefined && { body: JSON.stringify(body) }) };
    let response: Response;
    try {
      response = await this.platform.fetch(this.options.server + path, init);
    } catch {
      throw new Refusal("unreachable", "the server cannot be reached", 0);
    }
    return readAnswer<T>(response);
  }
}

type TabMessage = { type: "session"; session: LiveSession } | { type: "signed_out"; device: Id; reason: SignedOutReason };

/** How long the token lives, from its own claims: both are the server's times. */
function tokenLife(token: string): number | null {
  try {
    const payload = token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    const { iat, exp } = JSON.parse(atob(payload)) as { iat?: number; exp?: number };
    return iat !== undefined && exp !== undefined ? (exp - iat) * 1000 : null;
  } catch {
    return null;
  }
}
