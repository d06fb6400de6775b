/** The SDK in Node against the real server. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lastSeq, Refusal, Rookery, type ListedRoom } from "@rookery/sdk";
import { Server, until } from "../server.js";

let server: Server;
const open: Rookery[] = [];
const PASSWORD = "correct horse battery";

beforeAll(async () => { server = await new Server().start(); });
afterAll(async () => {
  for (const rookery of open) rookery.close();
  await server?.stop();
});

let names = 0;
/** A new user, connected. */
async function user(name = `user${++names}`): Promise<Rookery> {
  const rookery = new Rookery({ server: server.url, client: "sdk" });
  open.push(rookery);
  await rookery.register({ name, password: PASSWORD });
  await rookery.start();
  await until(() => rookery.connection.state === "ready", "the connection");
  return rookery;
}

/** A room of the first one's that all have joined and opened. */
async function roomOf(...users: Rookery[]): Promise<string> {
  const [owner, ...others] = users as [Rookery, ...Rookery[]];
  const room = await owner.rest.createRoom({ name: `room ${++names}`, visibility: "public" });
  for (const other of others) await other.rest.join(room.id);
  for (const one of users) {
    one.learnRoom(await one.rest.room(room.id));
    one.open(room.id);
    await until(() => one.timeline(room.id).live, "the open room");
  }
  return room.id;
}

const texts = (rookery: Rookery, room: string) =>
  rookery.timeline(room).entries.filter((entry) => entry.kind === "message").map((entry) => entry.masked ?? entry.body?.["text"]);
const listed = (rookery: Rookery, room: string): ListedRoom => rookery.room(room)!;

describe("accounts", () => {
  test("a name is taken once, and a wrong password is refused", async () => {
    const alice = await user("taken");
    const other = new Rookery({ server: server.url, client: "sdk" });
    await expect(other.register({ name: "taken", password: PASSWORD })).rejects.toMatchObject({ code: "taken" });
    await expect(other.signIn("taken", "something else")).rejects.toBeInstanceOf(Refusal);
    await expect(other.register({ name: "shorty", password: "short" })).rejects.toMatchObject({ code: "invalid" });
    expect((await alice.rest.me()).name).toBe("taken");
  });

  test("a refresh token starts a later process", async () => {
    const alice = await user();
    const token = alice.auth.session!.refresh_token!;
    alice.close();
    const again = new Rookery({ server: server.url, client: "sdk", refreshToken: token });
    open.push(again);
    await again.start();
    expect(again.me).toBe(alice.me || again.me);
    await until(() => again.connection.state === "ready", "the connection");
  });

  test("signing out ends the socket, and the token", async () => {
    const alice = await user();
    const token = alice.auth.session!.access_token;
    await alice.signOut();
    expect(alice.connection.state).toBe("offline");
    const answer = await fetch(`${server.url}/v1/me`, { headers: { authorization: `Bearer ${token}` } });
    expect(answer.status).toBe(401);
  });

  test("signing out another device ends its socket", async () => {
    const here = await user("twodevices");
    const there = new Rookery({ server: server.url, client: "sdk" });
    open.push(there);
    await there.signIn("twodevices", PASSWORD);
    await there.start();
    await until(() => there.connection.state === "ready", "the second device");
    const reasons: string[] = [];
    there.on("signed_out", ({ reason }) => reasons.push(reason));
    const device = (await here.rest.devices()).items.find((one) => !one.current)!;
    await here.rest.signOutDevice(device.device);
    await until(() => reasons.length > 0, "the sign-out");
    expect(reasons).toEqual(["ended"]);
    expect(here.connection.state).toBe("ready");
  });

  test("a refresh renews the socket in band", async () => {
    const alice = await user();
    const faults: unknown[] = [];
    alice.on("fault", (fault) => faults.push(fault));
    await alice.auth.refresh();
    const room = await roomOf(alice);
    alice.send(room, "still here");
    await until(() => texts(alice, room).includes("still here"), "the message");
    expect(faults).toEqual([]);
  });

  test("the profile can be changed", async () => {
    const alice = await user();
    const changed = await alice.rest.changeMe({ display_name: "Alice the Great", colour: "#336699" });
    expect(changed).toMatchObject({ display_name: "Alice the Great", colour: "#336699" });
  });
});

describe("talking", () => {
  test("two users talk both ways, each line once and in one order", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await roomOf(alice, bob);
    for (let i = 0; i < 10; i++) {
      alice.send(room, `a${i}`);
      bob.send(room, `b${i}`);
    }
    await until(() => texts(alice, room).length === 20 && texts(bob, room).length === 20, "all twenty");
    expect(texts(alice, room)).toEqual(texts(bob, room));
    expect(texts(alice, room).filter((text) => String(text).startsWith("a"))).toEqual(Array.from({ length: 10 }, (_, i) => `a${i}`));
    await until(() => alice.pending(room).length === 0 && bob.pending(room).length === 0, "the acknowledgements");
  });

  test("two hundred messages in a row arrive in order", async () => {
    const alice = await user();
    const room = await roomOf(alice);
    const wanted = Array.from({ length: 200 }, (_, i) => `m${i}`);
    for (const text of wanted) alice.send(room, text);
    await until(() => texts(alice, room).length === 200, "all of them", 60_000);
    expect(texts(alice, room)).toEqual(wanted);
    expect(alice.connection.state).toBe("ready");
  });

  test("a direct room is the same one from both sides", async () => {
    const [alice, bob] = [await user(), await user()];
    const [one, two] = await Promise.all([alice.rest.direct(bob.me), bob.rest.direct(alice.me)]);
    expect(one.id).toBe(two.id);
    for (const [rookery, room] of [[alice, one], [bob, two]] as const) {
      rookery.learnRoom(await rookery.rest.room(room.id));
      rookery.open(room.id);
    }
    alice.send(one.id, "psst");
    await until(() => texts(bob, one.id).includes("psst"), "the message");
    expect((await bob.rest.room(one.id)).peer?.id).toBe(alice.me);
  });

  test("a direct message from a stranger shows up by itself", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await alice.rest.direct(bob.me);
    alice.learnRoom(room);
    alice.send(room.id, "hello, stranger");
    const shown = await until(() => bob.room(room.id), "the room in the other one's list", 10_000);
    expect(shown.peer?.id).toBe(alice.me);
    await until(() => bob.room(room.id)!.last?.body?.["text"] === "hello, stranger" && bob.room(room.id)!.unread > 0, "the line", 10_000);
  });

  test("a room that is entered on one device shows up on the other", async () => {
    const [alice, bob] = [await user("twosome"), await user()];
    const other = new Rookery({ server: server.url, client: "sdk" });
    open.push(other);
    await other.signIn("twosome", PASSWORD);
    await other.start();
    await until(() => other.connection.state === "ready", "the second device");
    const room = await bob.rest.createRoom({ name: `room ${++names}`, visibility: "public" });
    bob.learnRoom(await bob.rest.room(room.id));
    alice.learnRoom(await alice.rest.join(room.id));
    bob.send(room.id, "welcome");
    await until(() => other.room(room.id)?.last?.body?.["text"] === "welcome", "the room on the other device", 10_000);
    await alice.rest.leave(room.id);
  });

  test("news of a room that is not open come as head and unread count, and a read mark clears them", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await roomOf(alice, bob);
    await until(() => listed(bob, room).head === lastSeq(bob.timeline(room)), "the head");
    bob.markRead(room, listed(bob, room).head);
    bob.closeRoom(room);
    alice.send(room, "news");
    await until(() => listed(bob, room).unread === 1, "the unread count");
    await until(() => listed(bob, room).last?.body?.["text"] === "news", "the last line");
    bob.markRead(room, listed(bob, room).head);
    await until(async () => (await bob.rest.room(room)).unread === 0, "the mark");
  });

  test("a read mark reaches the user's other device", async () => {
    const alice = await user("reader");
    const bob = await user();
    const room = await roomOf(bob, alice);
    const other = new Rookery({ server: server.url, client: "sdk" });
    open.push(other);
    await other.signIn("reader", PASSWORD);
    await other.start();
    await until(() => other.connection.state === "ready", "the second device");
    bob.send(room, "read me");
    await until(() => listed(other, room).unread > 0 && texts(alice, room).length === 1, "the unread count");
    alice.markRead(room, lastSeq(alice.timeline(room)));
    await until(() => listed(other, room).unread === 0, "the mark");
  });

  test("typing and presence are told", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await roomOf(alice, bob);
    bob.people.watch([alice.me]);
    await until(() => bob.people.presence(alice.me)?.status === "online", "the presence");
    alice.typing(room);
    await until(() => bob.people.typing(room).includes(alice.me), "the typing");
    alice.setStatus("away");
    await until(() => bob.people.presence(alice.me)?.status === "away", "the status");
    alice.close();
    await until(() => bob.people.presence(alice.me)?.status === "offline", "the leaving");
  });

  test("edits, replies, reactions and deletions; a deleted body is gone everywhere", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await roomOf(alice, bob);
    alice.send(room, "original");
    await until(() => texts(bob, room).length === 1, "the message");
    const { seq } = bob.timeline(room).entries.findLast((entry) => entry.kind === "message")!;
    bob.send(room, { emoji: "👍" }, { kind: "reaction", target: seq });
    bob.send(room, "answer", { target: seq });
    alice.send(room, "better", { kind: "edit", target: seq });
    await until(() => bob.timeline(room).entries.filter((entry) => entry.target === seq).length === 3, "all three");
    alice.send(room, {}, { kind: "deletion", target: seq });
    await until(() => texts(bob, room)[0] === "deleted", "the mask");
    const page = await bob.rest.entries(room, { around: seq }, 1);
    expect(page.entries[0]).toMatchObject({ seq, masked: "deleted" });
    expect(page.entries[0]!.body).toBeUndefined();
    // Somebody else's message is not Bob's to delete.
    alice.send(room, "mine");
    const mine = await until(() => bob.timeline(room).entries.find((entry) => entry.body?.["text"] === "mine"), "the next message");
    const local = bob.send(room, {}, { kind: "deletion", target: mine.seq });
    await until(() => bob.pending(room).find((item) => item.local === local)?.state === "failed", "the refusal");
  });

  test("older history is paged without holes", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await roomOf(alice);
    for (let i = 0; i < 180; i++) alice.send(room, `m${i}`);
    await until(() => texts(alice, room).length === 180, "all of them", 60_000);
    bob.learnRoom(await bob.rest.join(room));
    bob.open(room);
    await until(() => bob.timeline(room).live && bob.timeline(room).entries.length > 0, "the room");
    while (await bob.loadOlder(room));
    const seqs = bob.timeline(room).entries.map((entry) => entry.seq);
    expect(seqs).toEqual(Array.from({ length: lastSeq(bob.timeline(room)) }, (_, i) => i + 1));
    expect(texts(bob, room)).toHaveLength(180);
  });
});

describe("rooms", () => {
  test("a muted member's message is refused for good, and the queue goes on", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await roomOf(alice, bob);
    await alice.rest.mute(room, bob.me);
    const local = bob.send(room, "may I?");
    await until(() => bob.pending(room).find((item) => item.local === local)?.state === "failed", "the refusal");
    expect(bob.pending(room)[0]!.code).toBe("muted");
    await alice.rest.unmute(room, bob.me);
    bob.retry(local);
    await until(() => texts(alice, room).includes("may I?"), "the message");
  });

  test("a kicked member hears it at once", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await roomOf(alice, bob);
    const closed: string[] = [];
    bob.on("closed", ({ code }) => closed.push(code));
    await alice.rest.kick(room, bob.me);
    await until(() => closed.length > 0, "the closing");
    expect(bob.room(room)).toBeUndefined();
    await alice.rest.ban(room, bob.me);
    await expect(bob.rest.join(room)).rejects.toMatchObject({ code: "banned" });
  });

  test("roles, renaming and the list of members", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await roomOf(alice, bob);
    await expect(bob.rest.changeRoom(room, { name: "mine now" })).rejects.toMatchObject({ status: 403 });
    await alice.rest.setRole(room, bob.me, "admin");
    await until(() => listed(bob, room).role === "admin", "the role");
    await bob.rest.changeRoom(room, { name: "renamed", topic: "new" });
    await until(() => listed(alice, room).name === "renamed", "the name");
    const members = (await alice.rest.members(room)).items;
    expect(members.map((member) => [member.user.id, member.role])).toEqual(expect.arrayContaining([[alice.me, "owner"], [bob.me, "admin"]]));
  });

  test("a private room opens by link, as often as the link allows", async () => {
    const [alice, bob, carol] = [await user(), await user(), await user()];
    const room = await alice.rest.createRoom({ name: `secret ${++names}`, visibility: "private" });
    await expect(bob.rest.join(room.id)).rejects.toBeInstanceOf(Refusal);
    const invite = await alice.rest.createInvite(room.id, { max_uses: 1 });
    expect((await bob.rest.previewInvite(room.id, invite.secret)).room.name).toBe(room.name);
    expect((await bob.rest.join(room.id, invite.secret)).role).toBe("member");
    await expect(carol.rest.join(room.id, invite.secret)).rejects.toMatchObject({ code: "invite_invalid" });
    await alice.rest.invite(room.id, carol.me);
    expect((await carol.rest.join(room.id)).role).toBe("member");
  });

  test("public rooms are found by name, people by the beginning of theirs", async () => {
    const [alice, bob] = [await user(), await user("findable")];
    await alice.rest.createRoom({ name: "Gardening by night", visibility: "public" });
    await until(async () => (await bob.rest.publicRooms("garden")).items.length === 1, "the room");
    expect((await alice.rest.findUsers("finda")).items.map((profile) => profile.id)).toEqual([bob.me]);
  });
});

describe("a server that is killed", () => {
  test("loses nothing that was acknowledged, and nothing is said twice", async () => {
    const [alice, bob] = [await user(), await user()];
    const room = await roomOf(alice, bob);
    let sent = 0;
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 15; i++) alice.send(room, `m${sent++}`);
      await until(() => texts(bob, room).length > round * 15 + 2, "some of them");
      await server.kill();
      for (let i = 0; i < 5; i++) alice.send(room, `m${sent++}`);
      await until(() => alice.connection.state !== "ready" && bob.connection.state !== "ready", "the loss");
      await server.start();
      for (const one of [alice, bob]) one.connection.wake();
      await until(() => alice.pending(room).length === 0 && texts(bob, room).length === sent, "the rest", 60_000);
    }
    const wanted = Array.from({ length: sent }, (_, i) => `m${i}`);
    expect(texts(bob, room)).toEqual(wanted);
    expect(texts(alice, room)).toEqual(wanted);
    const page = await bob.rest.entries(room, { after: 0 }, 200);
    expect(page.entries.filter((entry) => entry.kind === "message").map((entry) => entry.body?.["text"])).toEqual(wanted);
  });
});
