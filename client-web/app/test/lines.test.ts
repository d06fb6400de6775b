import { describe, expect, test } from "vitest";
import { emptyTimeline, type Entry, type PendingMessage, type Timeline } from "@rookery/sdk";
import { buildLines, sentence, type MessageLine } from "../src/lib/lines.js";
import { inkOn, initials } from "../src/lib/colour.js";

const DAY = 86_400_000;
const [ada, bob] = ["a".repeat(32), "b".repeat(32)];
const entry = (seq: number, from: string, text: string, more: Partial<Entry> = {}): Entry => ({ seq, at: DAY + seq * 1000, from, kind: "message", body: { text }, ...more });
const timeline = (entries: Entry[], more: Partial<Timeline> = {}): Timeline => ({ ...emptyTimeline("r".repeat(32)), incarnation: 1, entries, ...more });
const build = (entries: Entry[], pending: PendingMessage[] = [], unread: { after: number; upto: number } | null = null, more: Partial<Timeline> = {}) =>
  buildLines(timeline(entries, more), pending, { me: ada, unread, direct: false, dayOf: (at) => String(Math.floor(at / DAY)) });
const messages = (lines: ReturnType<typeof build>) => lines.filter((line): line is MessageLine => line.type === "message");

describe("the lines of a room", () => {
  test("begin with the day, and messages of one author share a heading", () => {
    const lines = build([entry(1, ada, "a"), entry(2, ada, "b"), entry(3, bob, "c"), entry(4, bob, "d", { at: 2 * DAY })]);
    expect(lines.map((line) => line.type)).toEqual(["day", "message", "message", "message", "day", "message"]);
    expect(messages(lines).map((line) => line.heading)).toEqual([true, false, true, true]);
  });

  test("an edit by the author changes the text; one by somebody else does not", () => {
    const [line] = messages(build([entry(1, ada, "teh"), entry(2, bob, "evil", { kind: "edit", target: 1 }), entry(3, ada, "the", { kind: "edit", target: 1 })]));
    expect(line).toMatchObject({ text: "the", edited: true });
  });

  test("reactions are counted by person and can be taken back", () => {
    const react = (seq: number, from: string, emoji: string, remove = false) => entry(seq, from, "", { kind: "reaction", target: 1, body: { emoji, remove } });
    const [line] = messages(build([entry(1, ada, "x"), react(2, ada, "👍"), react(3, bob, "👍"), react(4, bob, "👍"), react(5, ada, "🎉"), react(6, ada, "🎉", true)]));
    expect(line!.reactions).toEqual([{ emoji: "👍", users: [ada, bob] }]);
  });

  test("a masked entry shows neither text nor edits nor reactions", () => {
    const { body: _, ...bare } = entry(1, ada, "x");
    const [line] = messages(build([{ ...bare, masked: "deleted" }, entry(2, ada, "y", { kind: "edit", target: 1 }), entry(3, bob, "", { kind: "reaction", target: 1, body: { emoji: "👍" } })]));
    expect(line).toMatchObject({ masked: "deleted", edited: false, reactions: [] });
  });

  test("a reply shows what it answers", () => {
    const [, reply] = messages(build([entry(1, bob, "question"), entry(2, ada, "answer", { kind: "reply", target: 1 })]));
    expect(reply!.replyTo).toEqual({ seq: 1, from: bob, text: "question", masked: false });
  });

  test("the line of new messages stands before the first one of somebody else", () => {
    const lines = build([entry(1, bob, "old"), entry(2, ada, "own"), entry(3, bob, "new")], [], { after: 1, upto: 3 });
    expect(lines.map((line) => line.type)).toEqual(["day", "message", "message", "new", "message"]);
  });

  test("what comes while somebody looks is not new", () => {
    const lines = build([entry(1, bob, "old"), entry(2, bob, "live")], [], { after: 1, upto: 1 });
    expect(lines.map((line) => line.type)).toEqual(["day", "message", "message"]);
  });

  test("a direct room does not tell that it was made", () => {
    const made = entry(1, bob, "", { kind: "room", body: { created: true } });
    const joined = entry(2, bob, "", { kind: "membership", body: { user: bob, change: "joined" } });
    const lines = buildLines(timeline([made, joined, entry(3, bob, "hi")]), [], { me: ada, unread: null, direct: true, dayOf: () => "" });
    expect(messages(lines)).toHaveLength(1);
    expect(lines.some((line) => line.type === "event")).toBe(false);
  });

  test("a hole is shown between what is known on both sides", () => {
    const lines = build([entry(1, bob, "a")], [], null, { hole: { after: 1, upto: 5 }, ahead: [entry(6, bob, "b")] });
    expect(lines.map((line) => line.type)).toEqual(["day", "message", "hole", "message"]);
  });

  test("pending messages come last; a reaction on its way is not one", () => {
    const pending = (local: string, kind: string) => ({ local, room: "", kind, body: { text: local }, createdAt: DAY, bytes: 1, state: "queued", wires: 0, attempts: 0, notBefore: 0, sentAt: 0 }) as PendingMessage;
    expect(build([entry(1, bob, "a")], [pending("p", "message"), pending("q", "reaction")]).map((line) => line.type)).toEqual(["day", "message", "pending"]);
  });
});

test("events are sentences", () => {
  const name = (user: string) => (user === ada ? "Ada" : "Bob");
  expect(sentence({ type: "membership", change: "joined", user: bob }, bob, name)).toBe("Bob joined");
  expect(sentence({ type: "membership", change: "kicked", user: bob }, ada, name)).toBe("Bob was removed by Ada");
  expect(sentence({ type: "membership", change: "role", user: bob, role: "admin" }, ada, name)).toBe("Bob is now an admin");
});

test("avatars are readable on any colour", () => {
  expect([inkOn("#ffffff"), inkOn("#000000"), inkOn("#ffe066"), inkOn("#1a3a5a")]).toEqual(["#000000", "#ffffff", "#000000", "#ffffff"]);
  expect([initials("Ada Lovelace"), initials("bob"), initials("  ")]).toEqual(["AL", "B", "?"]);
});
