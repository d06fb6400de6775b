/** The client against a fake server in a world whose time the tests move. */
import { beforeEach, describe, expect, test } from "vitest";
import { lastSeq, type Rookery } from "@rookery/sdk";
import { id, settle, World, type FakeRoom } from "./fake.js";

let world: World;
let room: FakeRoom;

beforeEach(() => {
  world = new World();
  room = world.server.room("lounge");
});

const seqs = (rookery: Rookery) => rookery.timeline(room.id).entries.map((entry) => entry.seq);
const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);
const until = (holds: () => boolean, what: string) => world.clock.until(holds, what);

async function opened(): Promise<Rookery> {
  const rookery = await world.tab();
  rookery.open(room.id);
  await until(() => rookery.timeline(room.id).live, "the room");
  return rookery;
}

async function restart(rookery: Rookery, meanwhile: () => void = () => {}): Promise<void> {
  world.server.kill();
  await until(() => rookery.connection.state === "waiting", "the loss");
  meanwhile();
  world.server.up = true;
  await until(() => rookery.connection.state === "ready" && rookery.timeline(room.id).live, "the connection");
}

describe("sending", () => {
  test("a message is acknowledged, leaves the queue and appears once", async () => {
    const alice = await opened();
    alice.send(room.id, "hello");
    await until(() => alice.pending(room.id).length === 0, "the acknowledgement");
    expect(room.texts()).toEqual(["hello"]);
    expect(seqs(alice)).toEqual([1]);
    expect(await world.store.sends(id("alice"))).toEqual([]);
  });

  test("a hundred messages keep their order through the window of 32", async () => {
    const alice = await opened();
    let most = 0;
    world.server.decide = () => { most = Math.max(most, alice.pending(room.id).filter((item) => item.state === "sent").length); return undefined; };
    const texts = Array.from({ length: 100 }, (_, index) => `m${index}`);
    for (const text of texts) alice.send(room.id, text);
    await until(() => room.head === 100, "all of them");
    expect(room.texts()).toEqual(texts);
    expect(most).toBeLessThanOrEqual(32);
  });

  test("what was said without a connection goes out, in order, when it is back", async () => {
    const alice = await opened();
    await restart(alice, () => { for (const text of ["a", "b", "c"]) alice.send(room.id, text); });
    await until(() => alice.pending(room.id).length === 0, "the acknowledgements");
    expect(room.texts()).toEqual(["a", "b", "c"]);
  });

  test("a message whose acknowledgement is lost with the connection is stored once", async () => {
    const alice = await opened();
    world.server.decide = () => "store_silently";
    alice.send(room.id, "once");
    await until(() => room.head === 1, "the store");
    world.server.decide = () => undefined;
    await restart(alice);
    await until(() => alice.pending(room.id).length === 0, "the acknowledgement");
    expect(room.texts()).toEqual(["once"]);
    expect(seqs(alice)).toEqual([1]);
  });

  test("an own entry that a resume brings counts as its acknowledgement", async () => {
    const alice = await opened();
    world.server.decide = () => "store_silently";
    world.server.hidden = () => true;
    alice.send(room.id, "seen");
    await until(() => room.head === 1, "the store");
    const sends = world.server.of("send").length;
    await restart(alice);
    await until(() => alice.pending(room.id).length === 0, "the acknowledgement");
    // The resume's entries come before the repeat would: either way the message is in the log once.
    expect(world.server.of("send").length - sends).toBeLessThanOrEqual(1);
    expect(room.texts()).toEqual(["seen"]);
  });

  test("an unanswered message is sent again on the same connection", async () => {
    const alice = await opened();
    let swallowed = 0;
    world.server.decide = () => (swallowed++ === 0 ? "ignore" : undefined);
    alice.send(room.id, "again");
    await until(() => room.head === 1, "the repeat");
    expect(swallowed).toBe(2);
  });

  test("a definite refusal frees the number: what follows takes it", async () => {
    const alice = await opened();
    world.server.decide = (frame) => (frame.body["text"] === "bad" ? { code: "too_large", definite: true } : undefined);
    for (const text of ["a", "bad", "b", "c"]) alice.send(room.id, text);
    await until(() => room.head === 3, "the others");
    expect(room.texts()).toEqual(["a", "b", "c"]);
    expect(room.log.map((entry) => entry.n)).toEqual([1, 2, 3]);
    expect(alice.pending(room.id).map((item) => [item.body["text"], item.state, item.code])).toEqual([["bad", "failed", "too_large"]]);
  });

  test("a failed message can be retried and discarded", async () => {
    const alice = await opened();
    world.server.decide = () => ({ code: "muted", definite: true });
    const [first, second] = [alice.send(room.id, "one"), alice.send(room.id, "two")];
    await until(() => alice.pending(room.id).every((item) => item.state === "failed"), "the refusals");
    world.server.decide = () => undefined;
    alice.discard(second);
    alice.retry(first);
    await until(() => alice.pending(room.id).length === 0, "the acknowledgement");
    expect(room.texts()).toEqual(["one"]);
    expect(await world.store.sends(id("alice"))).toEqual([]);
  });

  test("a refusal that is not definite leaves number and content together, and asks the user", async () => {
    const alice = await opened();
    world.server.decide = (frame) => (frame.body["text"] === "doubt" ? { code: "muted", definite: false } : undefined);
    alice.send(room.id, "doubt");
    await until(() => alice.pending(room.id)[0]?.state === "unknown", "the doubt");
    const writer = world.server.of("send")[0]!.writer;
    alice.send(room.id, "next");
    await until(() => room.head === 1, "the next message");
    // The number in doubt is never given to other content: another writer speaks on.
    expect(world.server.of("send").filter((frame) => frame.body["text"] === "next").every((frame) => frame.writer !== writer)).toBe(true);
  });

  test("a refusal after a reconnect is not definite, whatever the frame says", async () => {
    const alice = await opened();
    world.server.decide = () => "ignore";
    alice.send(room.id, "doubt");
    await until(() => world.server.of("send").length === 1, "the send");
    world.server.decide = () => ({ code: "muted", definite: true });
    await restart(alice);
    await until(() => alice.pending(room.id)[0]?.state === "unknown", "the doubt");
  });

  test("too often: sent again after the time that the server names, and in order", async () => {
    const alice = await opened();
    let refused = 0;
    world.server.decide = () => (refused++ === 0 ? { code: "rate_limited", definite: true, retry_after_ms: 5_000 } : undefined);
    const begun = world.clock.now();
    for (const text of ["a", "b"]) alice.send(room.id, text);
    await until(() => room.head === 2, "both");
    expect(world.clock.now() - begun).toBeGreaterThanOrEqual(5_000);
    expect(room.texts()).toEqual(["a", "b"]);
  });

  test("a message too large for the server fails at once and takes no number", async () => {
    const alice = await opened();
    alice.send(room.id, "x".repeat(17_000));
    alice.send(room.id, "small");
    await until(() => room.head === 1, "the small one");
    expect(alice.pending(room.id).map((item) => [item.state, item.code])).toEqual([["failed", "too_large"]]);
    expect(room.log[0]!.n).toBe(1);
  });

  test("a server that has forgotten what it acknowledged gets a new writer", async () => {
    const alice = await opened();
    alice.send(room.id, "one");
    await until(() => alice.pending(room.id).length === 0, "the acknowledgement");
    const writer = room.log[0]!.writer;
    room.next.set(writer, 1);
    room.log[0]!.writer = id("gone");
    alice.send(room.id, "two");
    await until(() => room.head === 2, "the second");
    expect(room.log[1]!.writer).not.toBe(writer);
    expect(room.texts()).toEqual(["one", "two"]);
  });

  test("a conflict fails the message and retires the writer in that room", async () => {
    const alice = await opened();
    world.server.decide = () => ({ code: "conflict", definite: true });
    alice.send(room.id, "lost");
    await until(() => alice.pending(room.id)[0]?.state === "failed", "the conflict");
    const before = world.server.of("send")[0]!.writer;
    world.server.decide = () => undefined;
    alice.send(room.id, "on");
    await until(() => room.head === 1, "the next message");
    expect(room.log[0]!.writer).not.toBe(before);
  });

  test("`stored` is read back from the log before the message is forgotten", async () => {
    const alice = await opened();
    world.server.decide = (frame) => {
      room.put(id("alice"), frame);
      return { code: "stored", definite: false, seq: 1 };
    };
    alice.send(room.id, "there");
    await until(() => alice.pending(room.id)[0]?.state === "delivered", "the reading");
    expect(world.server.of("history").map((frame) => frame.from)).toEqual([{ around: 1 }]);
  });
});

describe("after a reload", () => {
  test("unsent messages go out under the same writer and number", async () => {
    const alice = await opened();
    world.server.decide = () => "store_silently";
    alice.send(room.id, "survivor");
    await until(() => room.head === 1, "the store");
    alice.close();
    world.server.decide = () => undefined;
    const again = await world.tab();
    await until(() => again.pending(room.id).length === 0, "the acknowledgement");
    expect(room.texts()).toEqual(["survivor"]);
    expect(new Set(world.server.of("send").map((frame) => `${frame.writer} ${frame.n}`)).size).toBe(1);
  });

  test("the writer counts on where it stopped", async () => {
    const alice = await opened();
    alice.send(room.id, "one");
    await until(() => alice.pending(room.id).length === 0, "the acknowledgement");
    alice.close();
    const again = await world.tab();
    again.send(room.id, "two");
    await until(() => room.head === 2, "the second");
    expect(room.log.map(({ writer, n }) => [writer, n])).toEqual([[room.log[0]!.writer, 1], [room.log[0]!.writer, 2]]);
  });

  test("two live tabs speak under two writers", async () => {
    const tabs = [await world.tab(), await world.tab()];
    for (const [index, tab] of tabs.entries()) for (const n of [1, 2, 3]) tab.send(room.id, `${index}-${n}`);
    await until(() => room.head === 6, "all six");
    expect(new Set(room.log.map((entry) => entry.writer)).size).toBe(2);
  });

  test("a live tab takes over what a closed one left, and lets its writer go again", async () => {
    const closing = await world.tab();
    const staying = await world.tab();
    world.server.decide = () => "ignore";
    closing.send(room.id, "left behind");
    await until(() => world.server.of("send").length > 0, "the send");
    closing.close();
    world.server.decide = () => undefined;
    await until(() => room.head === 1 && staying.pending(room.id).length === 0, "the adoption");
    const writer = room.log[0]!.writer;
    await until(() => world.locks.tryHold(`rookery-writer-${writer}`) !== null, "the release");
  });

  test("lost storage means a new writer", async () => {
    const alice = await opened();
    alice.send(room.id, "one");
    await until(() => alice.pending(room.id).length === 0, "the acknowledgement");
    alice.close();
    await world.store.clear(id("alice"));
    const again = await world.tab();
    again.send(room.id, "two");
    await until(() => room.head === 2, "the second");
    expect(new Set(room.log.map((entry) => entry.writer)).size).toBe(2);
  });

  test("without storage sending works under a writer of the page's own", async () => {
    const broken = { writers: () => Promise.reject(new Error("denied")) } as never;
    const alice = await world.tab({ store: broken });
    alice.send(room.id, "still");
    await until(() => room.head === 1, "the message");
  });
});

describe("hearing", () => {
  test("a reconnect resumes all rooms in one frame and misses nothing", async () => {
    world.server.say(room, "before");
    const alice = await opened();
    const other = world.server.room("other");
    other.append(id("bob"), "x");
    await alice.loadRooms();
    await restart(alice, () => { for (const text of ["a", "b", "c"]) world.server.say(room, text); });
    await until(() => room.head === lastSeq(alice.timeline(room.id)), "the missed ones");
    expect(seqs(alice)).toEqual(upTo(4));
    const resume = world.server.of("identify").at(-1)!.resume;
    expect(resume).toEqual({ [room.id]: { after: 1, open: true, incarnation: 1 }, [other.id]: { after: 1, open: false } });
  });

  test("a named gap is filled through history before what follows is shown", async () => {
    world.server.resumeEntries = 5;
    world.server.say(room, "first");
    const alice = await opened();
    await restart(alice, () => { for (let i = 0; i < 450; i++) room.append(id("bob"), `m${i}`); });
    await until(() => lastSeq(alice.timeline(room.id)) === 451, "the fill");
    expect(seqs(alice)).toEqual(upTo(451));
    expect(alice.timeline(room.id).hole).toBeNull();
  });

  test("a gap too large to fill begins the timeline anew, and says so", async () => {
    world.server.resumeEntries = 5;
    world.server.say(room, "first");
    const alice = await opened();
    const skipped: unknown[] = [];
    alice.on("skipped", (event) => skipped.push(event));
    await restart(alice, () => { for (let i = 0; i < 3_000; i++) room.append(id("bob"), `m${i}`); });
    await until(() => lastSeq(alice.timeline(room.id)) === 3001, "the end");
    expect(skipped).toEqual([{ room: room.id, after: 1, upto: 2996 }]);
    await alice.loadOlder(room.id);
    expect(seqs(alice)[0]).toBe(2947);
  });

  test("an entry that the stream leaves out is noticed, told and fetched", async () => {
    const alice = await opened();
    const faults: string[] = [];
    alice.on("fault", (fault) => faults.push(fault.what));
    world.server.hidden = (seq) => seq === 2 || seq === 3;
    for (const text of ["a", "b", "c", "d"]) world.server.say(room, text);
    await until(() => lastSeq(alice.timeline(room.id)) === 4, "the fill");
    expect(seqs(alice)).toEqual(upTo(4));
    expect(faults).toEqual(["discontinuity"]);
  });

  test("another life of the room resets the timeline", async () => {
    for (const text of ["a", "b", "c"]) world.server.say(room, text);
    const alice = await opened();
    const resets: unknown[] = [];
    alice.on("reset", (event) => resets.push(event));
    await restart(alice, () => {
      room.incarnation = 2;
      room.log = [];
      room.append(id("bob"), "new life");
    });
    expect(resets).toHaveLength(1);
    world.server.say(room, "second");
    await until(() => lastSeq(alice.timeline(room.id)) === 2, "the new entry");
    await alice.loadOlder(room.id);
    expect(alice.timeline(room.id).entries.map((entry) => entry.body?.["text"])).toEqual(["new life", "second"]);
  });

  test("older pages join below, down to the first entry", async () => {
    for (let i = 0; i < 180; i++) room.append(id("bob"), `m${i}`);
    const alice = await opened();
    while (await alice.loadOlder(room.id));
    expect(seqs(alice)).toEqual(upTo(180));
  });

  test("a deletion masks its target", async () => {
    const alice = await opened();
    alice.send(room.id, "oops");
    await until(() => seqs(alice).length === 1, "the message");
    alice.send(room.id, {}, { kind: "deletion", target: 1 });
    await until(() => seqs(alice).length === 2, "the deletion");
    expect(alice.timeline(room.id).entries[0]).toMatchObject({ masked: "deleted" });
    expect(alice.timeline(room.id).entries[0]!.body).toBeUndefined();
  });

  test("a room that is left and entered again at once is opened again when it is closed", async () => {
    const alice = await opened();
    alice.closeRoom(room.id);
    alice.open(room.id);
    await until(() => alice.timeline(room.id).live, "the room");
    world.server.say(room, "again");
    await until(() => seqs(alice).length === 1, "the entry");
    expect(world.server.heardFrames.map((frame) => frame.type)).toEqual(["identify", "open", "close", "open"]);
  });

  test("a known room that is entered while the connection comes up is opened", async () => {
    const alice = await opened();
    alice.closeRoom(room.id);
    await settle();
    world.server.kill();
    await until(() => alice.connection.state === "waiting", "the loss");
    world.server.up = true;
    alice.connection.on("state", ({ state }) => { if (state === "ready") alice.open(room.id); });
    await until(() => alice.timeline(room.id).live, "the room");
  });

  test("read marks set without a connection are told afterwards", async () => {
    world.server.room("quiet");
    const alice = await opened();
    world.server.say(room, "a");
    await until(() => alice.room(room.id)?.unread === 1, "the unread one");
    await restart(alice, () => alice.markRead(room.id, 1));
    await until(() => world.server.of("read").length === 1, "the mark");
    expect(alice.room(room.id)?.unread).toBe(0);
  });
});

describe("staying connected", () => {
  test("a silent server is asked, and left if it does not answer", async () => {
    const alice = await opened();
    await world.clock.advance(30_000);
    expect(world.server.of("ping").length).toBeGreaterThan(0);
    expect(alice.connection.state).toBe("ready");
    world.server.answersPings = false;
    const identified = world.server.of("identify").length;
    await until(() => world.server.of("identify").length > identified, "the reconnect");
  });

  test("waits grow, and are short again after a good connection", async () => {
    const alice = await opened();
    await world.clock.advance(10_000);
    const waits: number[] = [];
    alice.connection.on("state", ({ retryAt }) => { if (retryAt) waits.push(retryAt - world.clock.now()); });
    world.server.kill();
    await until(() => waits.length === 6, "six attempts");
    expect(waits).toEqual([300, 600, 1200, 2400, 4800, 9600]);
    world.server.up = true;
    await until(() => alice.connection.state === "ready", "the connection");
    await world.clock.advance(6_000);
    world.server.closeAll(1006);
    await until(() => waits.length === 7, "the next loss");
    expect(waits.at(-1)).toBe(300);
  });

  test("a goodbye is honoured: not before its time", async () => {
    const alice = await opened();
    world.server.tellAll({ type: "goodbye", code: 4000, reason: "drain", reconnect: true, after_ms: 7_000 });
    await settle();
    const begun = world.clock.now();
    world.server.closeAll(4000);
    await until(() => alice.connection.state === "waiting", "the loss");
    await until(() => alice.connection.state === "ready", "the return");
    expect(world.clock.now() - begun).toBeGreaterThanOrEqual(7_000);
  });

  test("a refused token is renewed before the next attempt", async () => {
    const alice = await opened();
    world.server.good.clear();
    world.server.closeAll(4102);
    await until(() => alice.connection.state === "waiting", "the loss");
    await until(() => alice.connection.state === "ready", "the return");
    expect(world.server.refreshes).toBe(1);
  });

  test("a code from 4200 on is not answered with another attempt", async () => {
    const alice = await opened();
    world.server.closeAll(4203);
    await until(() => alice.connection.state === "stopped", "the stop");
    await world.clock.advance(120_000);
    expect(world.server.of("identify")).toHaveLength(1);
  });

  test("an ended sign-in signs out", async () => {
    const alice = await opened();
    const reasons: string[] = [];
    alice.on("signed_out", ({ reason }) => reasons.push(reason));
    world.server.refreshAnswers = () => new Response("{}", { status: 401 });
    world.server.closeAll(4103);
    await until(() => reasons.length > 0, "the sign-out");
    expect(reasons).toEqual(["ended"]);
    expect(alice.connection.state).toBe("offline");
  });

  test("the token is renewed in band before it ends", async () => {
    const alice = await opened();
    await world.clock.advance(590_000);
    expect(world.server.of("refresh").map((frame) => frame.token)).toEqual(["token-2"]);
    expect(alice.connection.state).toBe("ready");
    expect(world.server.of("identify")).toHaveLength(1);
  });
});

describe("tabs", () => {
  test("two tabs that refresh at once ask the server once, and both have the new token", async () => {
    const [one, two] = [await world.tab(), await world.tab()];
    await settle();
    const before = world.server.refreshes;
    let done = 0;
    for (const tab of [one, two]) void tab.auth.refresh().then(() => done++);
    await until(() => done === 2, "both");
    expect(world.server.refreshes - before).toBe(1);
    expect(one.auth.session!.access_token).toBe(two.auth.session!.access_token);
  });

  test("signing out in one tab signs out the other, and forgets what was unsent", async () => {
    const [one, two] = [await world.tab(), await world.tab()];
    world.server.decide = () => "ignore";
    two.send(room.id, "secret");
    await until(() => world.server.of("send").length === 1, "the send");
    const reasons: string[] = [];
    for (const tab of [one, two]) tab.on("signed_out", ({ reason }) => reasons.push(reason));
    await one.signOut();
    await until(() => two.auth.session === null, "the other tab");
    await settle();
    expect(await world.store.sends(id("alice"))).toEqual([]);
    expect(reasons).toEqual(["asked", "asked"]);
  });

  test("a new sign-in stands when the sockets of the old one are closed", async () => {
    const alice = await opened();
    const reasons: string[] = [];
    alice.on("signed_out", ({ reason }) => reasons.push(reason));
    world.server.device = id("new device");
    await alice.signIn("alice", "password");
    world.server.closeAll(4103);
    await until(() => alice.connection.state === "waiting", "the loss");
    await until(() => alice.connection.state === "ready", "the return");
    expect(reasons).toEqual([]);
    expect(alice.connection.welcome!.device).toBe(id("new device"));
  });
});
