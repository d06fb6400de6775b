/**
 * What the SDK takes from its surroundings: time, chance, sockets, fetch, storage, locks, other tabs. All of it is an
 * argument, so that tests decide it and Node and browsers differ in one file.
 */
import { IndexedDbStore } from "./storage/indexeddb.js";
import { MemoryStore, type Store } from "./storage/store.js";

/** Time, as the SDK uses it. */
export interface Clock {
  now(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

/** The part of a browser's WebSocket that is used. */
export interface Socket {
  readonly readyState: number;
  onopen: ((event: unknown) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: unknown) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** Gives back a lock. */
export type Release = () => void;

/** Named locks that at most one live tab or process holds. */
export interface Locks {
  /** Takes the lock if it is free, else gives null at once. */
  tryHold(name: string): Promise<Release | null>;
  /** Runs `work` while holding the lock, waiting for it first. */
  within<T>(name: string, work: () => Promise<T>): Promise<T>;
}

/** The other tabs of this origin. */
export interface Channel {
  post(message: unknown): void;
  onmessage: ((message: unknown) => void) | null;
  close(): void;
}

/** Everything outside. */
export interface Platform {
  clock: Clock;
  /** In [0, 1). */
  random(): number;
  /** 128 random bits as 32 hexadecimal digits. */
  randomId(): string;
  socket(url: string, protocol: string): Socket;
  fetch(url: string, init: RequestInit): Promise<Response>;
  store: Store;
  locks: Locks;
  channel(name: string): Channel;
  /** Calls back when the network or the window comes back, so that nobody waits out a backoff in front of a live network. */
  onWake(wake: () => void): () => void;
}

/** Locks of one process, for Node and for browsers that have none; fine there because nothing is shared either. */
export class LocalLocks implements Locks {
  #held = new Map<string, Promise<void>>();

  async tryHold(name: string): Promise<Release | null> {
    return this.#held.has(name) ? null : this.#take(name);
  }

  async within<T>(name: string, work: () => Promise<T>): Promise<T> {
    for (let holder = this.#held.get(name); holder; holder = this.#held.get(name)) await holder;
    const release = this.#take(name);
    try {
      return await work();
    } finally {
      release();
    }
  }

  #take(name: string): Release {
    let done = () => {};
    this.#held.set(name, new Promise<void>((resolve) => (done = resolve)));
    return () => {
      this.#held.delete(name);
      done();
    };
  }
}

/** Web Locks: the browser frees them when the tab goes, however it goes. */
class BrowserLocks implements Locks {
  constructor(private readonly manager: LockManager) {}

  tryHold(name: string): Promise<Release | null> {
    return new Promise((resolve, reject) => {
      this.manager
        .request(name, { ifAvailable: true }, (lock) => {
          if (!lock) return resolve(null);
          return new Promise<void>((release) => resolve(release));
        })
        .catch(reject);
    });
  }

  async within<T>(name: string, work: () => Promise<T>): Promise<T> {
    return (await this.manager.request(name, work)) as T;
  }
}

function browserChannel(name: string): Channel {
  const inner = new BroadcastChannel(name);
  const channel: Channel = {
    post: (message) => inner.postMessage(message),
    onmessage: null,
    close: () => inner.close(),
  };
  inner.onmessage = (event) => channel.onmessage?.(event.data);
  return channel;
}

const noChannel = (): Channel => ({ post: () => {}, onmessage: null, close: () => {} });

function onBrowserWake(wake: () => void): () => void {
  const visible = () => document.visibilityState === "visible" && wake();
  addEventListener("online", wake);
  addEventListener("pageshow", wake);
  document.addEventListener("visibilitychange", visible);
  return () => {
    removeEventListener("online", wake);
    removeEventListener("pageshow", wake);
    document.removeEventListener("visibilitychange", visible);
  };
}

/** The surroundings as they are: a browser's where there is one, else Node's with a store in memory. */
export function detectPlatform(overrides: Partial<Platform> = {}): Platform {
  const browser = typeof document !== "undefined";
  const locks = browser && globalThis.navigator.locks ? new BrowserLocks(globalThis.navigator.locks) : new LocalLocks();
  // Without locks two tabs could take one writer; a store of their own keeps them apart.
  const shared = locks instanceof BrowserLocks && typeof indexedDB !== "undefined";
  return {
    clock: {
      now: () => Date.now(),
      setTimeout: (run, ms) => setTimeout(run, ms),
      clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
    },
    random: () => Math.random(),
    randomId,
    socket: openSocket,
    fetch: (url, init) => fetch(url, init),
    store: shared ? new IndexedDbStore() : new MemoryStore(),
    locks,
    channel: browser && typeof BroadcastChannel !== "undefined" ? browserChannel : noChannel,
    onWake: browser ? onBrowserWake : () => () => {},
    ...overrides,
  };
}

function openSocket(url: string, protocol: string): Socket {
  if (typeof WebSocket === "undefined") throw new Error("no WebSocket here: use Node 22 or newer, or give platform.socket (undici has one)");
  return new WebSocket(url, [protocol]) as unknown as Socket;
}

function randomId(): string {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
