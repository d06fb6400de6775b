/** Names, presence and typing of others. */
import type { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";
import type { Platform } from "./platform.js";
import type { Profile, Rest } from "./rest.js";
import type { Id, ServerFrame, UserPresence } from "./wire.js";

/** Somebody who was typing is not any more after this long; the server says so no second time. */
export const TYPING_MS = 5_000;
/** Profiles asked for at once. */
const PROFILES_AT_ONCE = 100;

export interface PeopleEvents {
  profiles: Profile[];
  presence: UserPresence[];
  typing: { room: Id; users: Id[] };
}

/** See the file's head. */
export class People extends Emitter<PeopleEvents> {
  #profiles = new Map<Id, Profile>();
  #asked = new Set<Id>();
  #wished = new Set<Id>();
  #presence = new Map<Id, UserPresence>();
  #watched = new Map<Id, number>();
  #typing = new Map<string, { room: Id; user: Id; timer: unknown }>();

  constructor(private readonly platform: Platform, private readonly connection: Connection, private readonly rest: Rest) {
    super();
    connection.on("ready", () => this.#watchAll());
    // What is not heard live is not known.
    connection.on("down", () => this.#forgetLive());
  }

  /** What is known of a user; asks for it if nothing is, and `profiles` tells. */
  profile(user: Id): Profile | undefined {
    const known = this.#profiles.get(user);
    if (!known && !this.#asked.has(user)) this.#wish(user);
    return known;
  }

  /** Takes profiles that came with something else. */
  learn(profiles: Profile[]): void {
    for (const profile of profiles) this.#profiles.set(profile.id, profile);
    if (profiles.length) this.emit("profiles", profiles);
  }

  presence(user: Id): UserPresence | undefined {
    return this.#presence.get(user);
  }

  /** Hears about these users' presence until the returned function is called. */
  watch(users: Id[]): () => void {
    const fresh = users.filter((user) => !this.#watched.has(user));
    for (const user of users) this.#watched.set(user, (this.#watched.get(user) ?? 0) + 1);
    const room = Math.max(0, this.#most() - (this.#watched.size - fresh.length));
    if (fresh.length && room) this.connection.send({ type: "watch", users: fresh.slice(0, room) });
    let watching = true;
    return () => {
      if (watching) this.#unwatch(users);
      watching = false;
    };
  }

  typing(room: Id): Id[] {
    return [...this.#typing.values()].filter((one) => one.room === room).map((one) => one.user);
  }

  heard(frame: ServerFrame): void {
    if (frame.type === "presence") {
      for (const one of frame.users) this.#presence.set(one.user, one);
      this.emit("presence", frame.users);
    } else if (frame.type === "typing") this.#typed(frame.room, frame.user);
    // Who has spoken has stopped typing.
    else if (frame.type === "entries") for (const entry of frame.entries) this.#stopped(frame.room, entry.from);
  }

  #most(): number {
    return this.connection.welcome?.limits.watched_users ?? 500;
  }

  #watchAll(): void {
    const users = [...this.#watched.keys()].slice(0, this.#most());
    if (users.length) this.connection.send({ type: "watch", users });
  }

  #unwatch(users: Id[]): void {
    const gone: Id[] = [];
    for (const user of users) {
      const left = this.#watched.get(user)! - 1;
      if (left > 0) this.#watched.set(user, left);
      else if (this.#watched.delete(user)) gone.push(user);
    }
    if (gone.length) this.connection.send({ type: "unwatch", users: gone });
  }

  #forgetLive(): void {
    const seen = [...this.#presence.keys()].map((user): UserPresence => ({ user, status: "offline" }));
    this.#presence.clear();
    if (seen.length) this.emit("presence", seen);
    for (const { room, user } of [...this.#typing.values()]) this.#stopped(room, user);
  }

  #typed(room: Id, user: Id): void {
    const key = `${room} ${user}`;
    this.platform.clock.clearTimeout(this.#typing.get(key)?.timer);
    const timer = this.platform.clock.setTimeout(() => this.#stopped(room, user), TYPING_MS);
    this.#typing.set(key, { room, user, timer });
    this.emit("typing", { room, users: this.typing(room) });
  }

  #stopped(room: Id, user: Id): void {
    const key = `${room} ${user}`;
    this.platform.clock.clearTimeout(this.#typing.get(key)?.timer);
    if (this.#typing.delete(key)) this.emit("typing", { room, users: this.typing(room) });
  }

  #wish(user: Id): void {
    if (this.#wished.size === 0) this.platform.clock.setTimeout(() => void this.#askWished(), 0);
    this.#wished.add(user);
  }

  async #askWished(): Promise<void> {
    const ids = [...this.#wished].slice(0, PROFILES_AT_ONCE);
    this.#wished.clear();
    for (const id of ids) this.#asked.add(id);
    try {
      this.learn((await this.rest.users(ids)).items);
    } catch {
      // Asked again by the next one who wants to show the name.
      for (const id of ids) this.#asked.delete(id);
    }
  }
}
