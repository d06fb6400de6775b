import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { decodeClient, decodeServer } from "@rookery/sdk";
import { ERROR_CODES, TRANSIENT_CODES } from "../src/wire.js";
import { comeBack } from "../src/close.js";
import { CLIENT_SHAPES, SERVER_SHAPES } from "../src/decode.js";

const folder = new URL("../../../protocol/fixtures/", import.meta.url);
const read = (side: string) =>
  readdirSync(new URL(`${side}/`, folder)).filter((name) => name.endsWith(".json"))
    .map((name) => [name, readFileSync(new URL(`${side}/${name}`, folder), "utf8")] as const);

for (const [side, decode, shapes] of [["client", decodeClient, CLIENT_SHAPES], ["server", decodeServer, SERVER_SHAPES]] as const) {
  describe(`the ${side}'s fixtures`, () => {
    const fixtures = read(side);

    test.each(fixtures)("%s is read as it is written", (_name, text) => {
      expect(decode(text)).toEqual(JSON.parse(text));
    });

    test("show every kind of frame, and no other", () => {
      const kinds = new Set(fixtures.map(([, text]) => (JSON.parse(text) as { type: string }).type));
      expect([...kinds].sort()).toEqual(Object.keys(shapes).sort());
    });
  });
}

test("an unknown kind, a wrong field and a fractional counter are refused", () => {
  expect(() => decodeServer('{"type":"dance"}')).toThrow("unknown frame type");
  expect(() => decodeServer('{"type":"toString"}')).toThrow("unknown frame type");
  expect(() => decodeServer('{"type":"pong"}')).toThrow("pong.server_time");
  expect(() => decodeServer('{"type":"pong","server_time":1.5}')).toThrow("whole number");
  expect(() => decodeServer("[]")).toThrow();
  expect(() => decodeServer("{")).toThrow("not JSON");
});

test("unknown fields are ignored", () => {
  expect(decodeServer('{"type":"pong","server_time":1,"mood":"good"}')).toMatchObject({ type: "pong" });
});

test("the error codes are those of the server's crate", () => {
  const { errors } = JSON.parse(readFileSync(new URL("codes.json", folder), "utf8")) as { errors: Record<string, { transient: boolean }> };
  expect([...ERROR_CODES].sort()).toEqual(Object.keys(errors).sort());
  const transient = Object.keys(errors).filter((code) => errors[code]!.transient);
  expect([...TRANSIENT_CODES].sort()).toEqual(transient.sort());
});

test("the close codes say what the server's crate says", () => {
  const { closes } = JSON.parse(readFileSync(new URL("codes.json", folder), "utf8")) as { closes: Record<string, { code: number; come_back: string }> };
  for (const [name, { code, come_back }] of Object.entries(closes)) expect([name, comeBack(code)]).toEqual([name, come_back]);
  expect([1006, 4000, 4099, 4100, 4199, 4200].map(comeBack)).toEqual(["resume", "resume", "resume", "reauthenticate", "reauthenticate", "no"]);
});
