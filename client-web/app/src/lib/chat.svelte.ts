/** The application's state: what the SDK tells, as values that components react to. */
import {
  Rookery, type ConnectionState, type Id, type ListedRoom, type OwnProfile, type PendingMessage, type PresenceStatus,
  type Profile, type Refusal, type Seq, type Timeline,
} from "@rookery/sdk";
import { SvelteMap } from "svelte/reactivity";
import { router } from "./route.svelte.js";

/** Set while somebody is signed in here, so that a visitor is not asked to refresh what does not exist. */
const SIGNED_IN = "rookery.signed_in";
/** Invitations by name come without a sound: the list is read again this often while somebody looks. */
const LIST_EVERY_MS = 60_000;
/** A notice is shown this long. */
const NOTICE_MS = 6_000;

interface Link {
  state: ConnectionState;
  retryAt?: number;
  reason?: string;
}

class Chat {
  readonly rookery = new Rookery({ deviceLabel: deviceLabel() });
  phase = $state<"starting" | "signed_out" | "ready">("starting");
  /** Why the user has to sign in again, if there is a reason worth telling. */
  farewell = $state("");
  startError = $state.raw<unknown>(null);
  me = $state.raw<OwnProfile | null>(null);
  status = $state<PresenceStatus>("online");
  rooms = $state.raw<ListedRoom[]>([]);
  link = $state.raw<Link>({ state: "offline" });
  notice = $state("");
  readonly timelines = new SvelteMap<Id, Timeline>();
  readonly pending = new SvelteMap<Id, PendingMessage[]>();
  readonly profiles = new SvelteMap<Id, Profile>();
  readonly presence = new SvelteMap<Id, PresenceStatus>();
  readonly typing = new SvelteMap<Id, Id[]>();
  unread = $derived(this.rooms.reduce((sum, room) => sum + room.unread, 0));
  #noticeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    const { rookery } = this;
    rookery.on("session", (session) => this.#signedIn(session.user));
    rookery.on("signed_out", ({ reason }) => this.#signedOut(reason));
    rookery.on("state", (link) => (this.link = link));
    rookery.on("rooms", (rooms) => (this.rooms = rooms));
    rookery.on("timeline", ({ room, timeline }) => this.timelines.set(room, timeline));
    rookery.on("pending", ({ room, pending }) => this.pending.set(room, pending));
    rookery.on("status", ({ status }) => (this.status = status));
    rookery.on("closed", ({ room, code }) => this.#closed(room, code));
    rookery.on("skipped", () => this.tell("You were away for long: older messages load as you scroll up."));
    rookery.people.on("profiles", (profiles) => profiles.forEach((profile) => this.profiles.set(profile.id, profile)));
    rookery.people.on("presence", (users) => users.forEach((user) => this.presence.set(user.user, user.status)));
    setInterval(() => {
      if (document.visibilityState === "visible" && this.link.state === "ready") void rookery.loadRooms().catch(() => {});
    }, LIST_EVERY_MS);
    rookery.people.on("typing", ({ room, users }) => this.typing.set(room, users));
  }

  /** Takes up the session that this browser has, if it has one. */
  async begin(): Promise<void> {
    if (!localStorage.getItem(SIGNED_IN)) {
      this.phase = "signed_out";
      return;
    }
    await this.#start();
  }

  async signIn(name: string, password: string): Promise<void> {
    await this.rookery.signIn(name, password);
    await this.#start();
  }

  async register(name: string, password: string, email: string): Promise<void> {
    await this.rookery.register({ name, password, ...(email && { email }) });
    await this.#start();
  }

  async signOut(): Promise<void> {
    await this.rookery.signOut();
  }

  room(id: Id): ListedRoom | undefined {
    return this.rooms.find((room) => room.id === id);
  }

  name(user: Id): string {
    if (user === this.me?.id) return this.me.display_name;
    const profile = this.profiles.get(user);
    if (!profile) this.rookery.people.profile(user);
    return profile?.display_name ?? "…";
  }

  colour(user: Id): string {
    return (user === this.me?.id ? this.me.colour : this.profiles.get(user)?.colour) ?? "#7a7f85";
  }

  title(room: ListedRoom): string {
    if (room.visibility !== "direct") return room.name || "Unnamed room";
    return room.peer ? (this.profiles.get(room.peer.id) ?? room.peer).display_name : "Direct messages";
  }

  changeMe(profile: OwnProfile): void {
    this.rookery.auth.profileChanged(profile);
  }

  markRead(room: Id, seq: Seq): void {
    this.rookery.markRead(room, seq);
  }

  /** Says something to the user for a few seconds. */
  tell(notice: string): void {
    clearTimeout(this.#noticeTimer);
    this.notice = notice;
    this.#noticeTimer = setTimeout(() => (this.notice = ""), NOTICE_MS);
  }

  async #start(): Promise<void> {
    this.startError = null;
    try {
      await this.rookery.start();
      this.rooms = this.rookery.rooms;
      this.phase = "ready";
    } catch (error) {
      if ((error as Refusal).status === 401) this.#signedOut("ended");
      else this.startError = error;
    }
  }

  retryStart(): Promise<void> {
    return this.#start();
  }

  #signedIn(user: OwnProfile): void {
    localStorage.setItem(SIGNED_IN, "yes");
    this.me = user;
    this.farewell = "";
  }

  #signedOut(reason: string): void {
    localStorage.removeItem(SIGNED_IN);
    // Another user's sign-in in this browser: everything here belongs to the one before.
    if (reason === "other_user") localStorage.setItem(SIGNED_IN, "yes");
    const known = this.phase === "ready";
    if (known) {
      sessionStorage.clear();
      if (reason !== "asked") sessionStorage.setItem("rookery.farewell", reason);
      location.hash = "";
      location.reload();
      return;
    }
    this.phase = "signed_out";
  }

  #closed(room: Id, code: string): void {
    const here = router.current.page === "room" && router.current.room === room;
    if (!here || this.room(room)) return;
    this.tell(code === "banned" ? "You were banned from this room." : "You are no longer in this room.");
    router.go("#/");
  }
}

/** "Firefox on Linux", so that the user knows their sign-ins apart. */
function deviceLabel(): string {
  const agent = navigator.userAgent;
  const browser = ["Firefox", "Edg", "OPR", "Chrome", "Safari"].find((name) => agent.includes(name)) ?? "Browser";
  const system = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"].find((name) => agent.includes(name));
  const name = { Edg: "Edge", OPR: "Opera" }[browser] ?? browser;
  return system ? `${name} on ${system}` : name;
}

export const chat = new Chat();
const farewell = sessionStorage.getItem("rookery.farewell");
sessionStorage.removeItem("rookery.farewell");
if (farewell === "ended") chat.farewell = "You have been signed out.";
