import { describe, expect, test } from "vitest";
import { applyEntries, applyHeads, applyOpened, applyRead, applyReadMark, inOrder, listRoom, withoutLine, type RoomMap } from "../src/roomlist.js";
import type { MyRoom } from "../src/rest.js";
import type { Entry } from "../src/wire.js";

const [me, bob, id, other] = ["a", "b", "c", "d"].map((letter) => letter.repeat(32)) as [string, string, string, string];
const room = (more: Partial<MyRoom> = {}): MyRoom => ({
  id, name: "Engines", visibility: "public", durability: "durable", history: "all", slow_mode_s: 0, created_at: 5, created_by: me,
  role: "member", state: "joined", head: 3, unread: 1, read_seq: 2, ...more,
});
const entry = (seq: number, more: Partial<Entry> = {}): Entry => ({ seq, at: seq * 10, from: bob, kind: "message", body: { text: `m${seq}` }, ...more });
const list = (...rooms: MyRoom[]): RoomMap => rooms.reduce(listRoom, new Map() as RoomMap);

describe("the list of rooms", () => {
  test("takes heads and unread counts of rooms that it has", () => {
    const rooms = applyHeads(list(room()), [{ room: id, head: 9, unread: 7 }, { room: other, head: 1, unread: 1 }]);
    expect([...rooms.keys()]).toEqual([id]);
    expect(rooms.get(id)).toMatchObject({ head: 9, unread: 7 });
  });

  test("counts the live stream of an open room itself, and nothing of old pages", () => {
    expect(applyEntries(list(room()), id, [entry(4), entry(5)], me, true).get(id)).toMatchObject({ head: 5, unread: 3 });
    expect(applyEntries(list(room()), id, [entry(1)], me, false).get(id)).toMatchObject({ head: 3, unread: 1 });
  });

  test("an answer that was on its way does not turn back what is known by now", () => {
    const known = applyRead(applyEntries(list(room()), id, [entry(4)], me, true), id, 4);
    expect(listRoom(known, room()).get(id)).toMatchObject({ head: 4, read_seq: 4, unread: 0 });
  });

  test("a read mark of another device only moves forward", () => {
    const rooms = applyReadMark(list(room()), { room: id, seq: 3, unread: 0 });
    expect(applyReadMark(rooms, { room: id, seq: 1, unread: 2 }).get(id)).toMatchObject({ read_seq: 3, unread: 0 });
  });

  test("the last line is something said; a deletion masks it", () => {
    const joined = entry(5, { kind: "membership", body: { user: bob, change: "joined" } });
    const rooms = applyEntries(list(room()), id, [entry(4), joined], me, true);
    expect(rooms.get(id)!.last).toMatchObject({ seq: 4 });
    const deleted = applyEntries(rooms, id, [entry(6, { kind: "deletion", target: 4, body: {} })], me, true);
    expect(deleted.get(id)!.last).toMatchObject({ seq: 4, masked: "deleted" });
    expect(deleted.get(id)!.last!.body).toBeUndefined();
    expect(withoutLine(list(room({ last: joined })))).toEqual([id]);
  });

  test("names and the own role follow the live stream; a page of old entries changes neither", () => {
    const renamed = [entry(4, { kind: "room", body: { name: "Looms" } }), entry(5, { kind: "membership", body: { user: me, change: "role", role: "admin" } })];
    expect(applyEntries(list(room()), id, renamed, me, true).get(id)).toMatchObject({ name: "Looms", role: "admin" });
    expect(applyEntries(list(room()), id, renamed, me, false).get(id)).toMatchObject({ name: "Engines", role: "member" });
    expect(applyOpened(list(room()), id, "owner").get(id)!.role).toBe("owner");
  });

  test("a topic that an answer leaves out is gone", () => {
    expect(listRoom(list(room({ topic: "old" })), room()).get(id)!.topic).toBeNull();
  });

  test("rooms stand in the order of their last lines", () => {
    const rooms = list(room({ last: entry(3) }), room({ id: other, created_at: 31 }));
    expect(inOrder(rooms).map((one) => one.id)).toEqual([other, id]);
  });
});
