/** People in browsers, against the real server. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Rookery } from "@rookery/sdk";
import { Server, until } from "../server.js";
import { PASSWORD, Person } from "./person.js";

let server: Server;
let people: Person[] = [];

beforeAll(async () => {
  server = await new Server().start();
  const built = readFileSync(new URL("../../dist/index.html", import.meta.url), "utf8");
  // The application is part of the binary: an old one would pass or fail for reasons that are gone.
  if ((await (await fetch(server.url)).text()) !== built) throw new Error("the server holds another build of the page: build it again");
});
afterAll(async () => server.stop());
afterEach(async ({ task }) => {
  const leaving = people;
  if (task.result?.state === "fail") for (const person of leaving) await person.shot(`failed-${person.name}`);
  people = [];
  const complaints = leaving.flatMap((person) => person.complaints.map((complaint) => `${person.name}: ${complaint}`));
  for (const person of leaving) await person.leave();
  expect(complaints, "no page has anything to complain about").toEqual([]);
});

async function arrive(name: string, options: { phone?: boolean; dark?: boolean } = {}): Promise<Person> {
  const person = await Person.arrive(name, server.url, options);
  people.push(person);
  return person.register();
}

/** Somebody without a browser, to fill rooms quickly. Is closed by the test's end. */
async function bot(name: string): Promise<Rookery> {
  const rookery = new Rookery({ server: server.url, client: "sdk" });
  await rookery.register({ name, password: PASSWORD });
  return rookery;
}

async function accessible(person: Person, what: string): Promise<void> {
  const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  // Evaluated by the debugger, which the page's policy does not bind.
  await person.page.evaluate(axe);
  const found = await person.page.evaluate(async () => {
    const { violations } = await (window as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary?: string }[] }[] }> } }).axe.run();
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 160)} ${node.failureSummary ?? ""}`).join(" | ")}`);
  });
  expect(found, `${what} is accessible`).toEqual([]);
}

test("two users talk both ways, in a room and directly", async () => {
  const ada = await arrive("ada");
  const grace = await arrive("grace");
  await ada.createRoom("Engines");
  await grace.joinRoom("Engines");
  await ada.say("Hello **Grace**");
  await grace.hears("Hello Grace");
  await grace.say("Hello Ada, look: `code` and https://example.org/x");
  await ada.hears("Hello Ada");
  expect(await grace.page.locator("article strong", { hasText: /^Grace$/ }).count()).toBeGreaterThan(0);
  await grace.page.getByRole("textbox", { name: /^Message to/ }).pressSequentially("thinking");
  await ada.page.getByText("grace is typing…").first().waitFor();
  await ada.shot("room");

  await ada.writeTo("grace");
  await ada.say("Just between us");
  await grace.page.getByRole("navigation").getByText("Just between us").waitFor();
  await grace.shot("unread");
  await grace.page.getByRole("navigation").getByRole("link", { name: /ada/ }).first().click();
  await grace.hears("Just between us");
  await grace.say("Nobody will know");
  await ada.hears("Nobody will know");
  await ada.page.getByText("online", { exact: true }).first().waitFor();
  await ada.shot("direct");
});

test("a reload keeps the session, the room and the place in it", async () => {
  const ada = await arrive("reloader");
  await ada.createRoom("Steady");
  await ada.say("before the reload");
  await ada.hears("before the reload");
  await ada.page.reload();
  await ada.hears("before the reload");
  await ada.say("after the reload");
  await ada.hears("after the reload");
  expect(await ada.stored("the reload").count()).toBe(2);
});

test("two tabs of one user refresh at once and send at once", async () => {
  const ada = await arrive("tabs");
  await ada.createRoom("Twice");
  const second = await ada.context.newPage();
  await second.goto(ada.page.url());
  await ada.ready(second);
  for (let round = 0; round < 3; round++) {
    await Promise.all([ada.page.reload(), second.reload()]);
    await Promise.all([ada.ready(), ada.ready(second)]);
  }
  for (let i = 0; i < 5; i++) await Promise.all([ada.say(`left ${i}`), ada.say(`right ${i}`, second)]);
  for (const page of [ada.page, second]) {
    await until(async () => (await ada.stored(/^.*(left|right) \d/, page).count()) === 10, "all ten");
    for (let i = 0; i < 5; i++) expect(await ada.stored(`left ${i}`, page).count()).toBe(1);
  }
  const order = async (page: typeof second) => page.locator("article[data-seq] .text").allTextContents();
  expect(await order(ada.page)).toEqual(await order(second));
});

test("what was being said when the server was killed arrives exactly once", async () => {
  const ada = await arrive("survivor");
  const grace = await arrive("witness");
  await ada.createRoom("Storm");
  await grace.joinRoom("Storm");
  for (const person of [ada, grace]) person.networkMayFail = true;
  for (let round = 0; round < 3; round++) {
    await ada.say(`round ${round} before`);
    await ada.page.getByRole("textbox", { name: /^Message to/ }).pressSequentially("half a th");
    const killed = server.kill();
    await ada.say(`round ${round} during`);
    await killed;
    await ada.say(`round ${round} after`);
    await ada.page.locator("[data-pending]").first().waitFor();
    if (round === 0) {
      await ada.page.getByText("Waiting for the connection").first().waitFor();
      await ada.shot("pending");
    }
    await server.start();
    await grace.hears(`round ${round} after`);
    await ada.hears(`round ${round} after`);
  }
  await until(async () => (await ada.page.locator("[data-pending]").count()) === 0, "the acknowledgements");
  for (const person of [ada, grace]) {
    const said = await person.page.locator("article[data-seq] .text").allTextContents();
    expect(said.map((text) => text.trim())).toEqual([0, 1, 2].flatMap((round) => ["before", "during", "after"].map((when) => `round ${round} ${when}`)));
  }
});

test("an unsent message survives the closing of its tab", async () => {
  const ada = await arrive("closer");
  const room = await ada.createRoom("Later");
  ada.networkMayFail = true;
  await server.kill();
  await ada.say("sent from the grave");
  await ada.page.locator('[data-pending="queued"]').waitFor();
  const page = await ada.context.newPage();
  await ada.page.close();
  await server.start();
  await page.goto(`${server.url}/#/room/${room}`);
  await ada.hears("sent from the grave", page);
  expect(await ada.stored("sent from the grave", page).count()).toBe(1);
});

test("older messages load while scrolling up, and the page keeps its place", async () => {
  const writer = await bot("historian");
  const room = await writer.rest.createRoom({ name: "Archive", visibility: "public" });
  await writer.start();
  writer.learnRoom(await writer.rest.room(room.id));
  writer.open(room.id);
  for (let i = 1; i <= 300; i++) writer.send(room.id, `line ${i} of the archive`);
  await until(() => writer.pending(room.id).length === 0, "the archive", 90_000);

  const ada = await arrive("scroller");
  await ada.joinRoom("Archive");
  await ada.hears("line 300 of");
  const list = ada.page.getByRole("log");
  for (let i = 0; (await ada.stored("line 1 of the archive").count()) === 0 && i < 60; i++) {
    const top = ada.page.locator("article[data-seq]").first();
    const seq = await top.getAttribute("data-seq");
    await list.evaluate((box) => box.scrollTo({ top: 200 }));
    await until(async () => (await ada.page.locator("article[data-seq]").first().getAttribute("data-seq")) !== seq || (await ada.stored("line 1 of the archive").count()) > 0, "an older page");
    if (i === 0) await ada.shot("history");
  }
  const seqs = await ada.page.locator("article[data-seq]").evaluateAll((all) => all.map((one) => Number(one.getAttribute("data-seq"))));
  expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, i) => seqs[0]! + i));
  expect(seqs).toHaveLength(300);

  // In the middle: what comes at the end does not move the page.
  await list.evaluate((box) => box.scrollTo({ top: box.scrollHeight / 2 }));
  const visible = () => list.evaluate((box) => {
    const edge = box.getBoundingClientRect().top;
    const first = [...box.querySelectorAll("[data-seq]")].find((one) => one.getBoundingClientRect().bottom > edge)!;
    return `${first.getAttribute("data-seq")} ${Math.round(first.getBoundingClientRect().top - edge)}`;
  });
  await until(async () => (await visible()) === (await visible()), "rest");
  const before = await visible();
  writer.send(room.id, "something new");
  await ada.page.getByRole("button", { name: /1 new/ }).waitFor();
  expect(await visible()).toBe(before);
  await ada.page.getByRole("button", { name: /1 new/ }).click();
  await ada.hears("something new");
  await until(async () => (await ada.page.getByRole("button", { name: /To the newest|new$/ }).count()) === 0, "the end");
  writer.close();
});

test("a message is deleted for everybody, and edited, and answered", async () => {
  const ada = await arrive("editor");
  const grace = await arrive("reader");
  await ada.createRoom("Changes");
  await grace.joinRoom("Changes");
  await ada.say("to be regretted");
  await grace.hears("to be regretted");
  await ada.stored("to be regretted").hover();
  await ada.stored("to be regretted").getByRole("button", { name: "Delete" }).click();
  await ada.page.getByRole("group", { name: "Delete this message?" }).getByRole("button", { name: "Delete" }).click();
  await grace.hears("message deleted");
  expect(await grace.page.getByText("to be regretted").count()).toBe(0);
  await ada.say("tpyo");
  await ada.hears("tpyo");
  await ada.page.keyboard.press("ArrowUp");
  await ada.page.getByText("Editing your message").waitFor();
  await ada.say("typo");
  await grace.hears(/typo\s*\(edited\)/);
  await grace.stored("typo").hover();
  await grace.stored("typo").getByRole("button", { name: "Reply" }).click();
  await grace.say("no worries");
  await ada.hears("no worries");
  await ada.stored("no worries").hover();
  await ada.stored("no worries").getByRole("button", { name: "React", exact: true }).click();
  await ada.stored("no worries").getByRole("button", { name: "React with 🎉" }).click();
  await grace.stored("no worries").getByRole("button", { name: /🎉 1/ }).waitFor();
});

test("what users write is never read as HTML", async () => {
  const ada = await arrive("hacker");
  await ada.createRoom("<b>Bold</b> & <script>alert(1)</script>");
  await ada.say('<img src=x onerror="alert(1)"> [x](javascript:alert(1)) <style>*{display:none}</style>');
  await ada.hears("<img src=x");
  expect(await ada.page.locator("article img, article style, article script, article a").count()).toBe(0);
});

test("an invitation by link brings somebody new into a private room", async () => {
  const ada = await arrive("host");
  await ada.createRoom("Hideout", "Private");
  await ada.say("welcome in advance");
  await ada.hears("welcome in advance");
  await ada.page.getByRole("button", { name: "Invite people" }).first().click();
  await ada.page.getByRole("button", { name: "Make a link" }).click();
  const link = await ada.page.getByLabel("Invitation link").inputValue();
  await accessible(ada, "the invitation dialog");
  const guest = await Person.arrive("guest", link);
  people.push(guest);
  await guest.page.goto(link);
  await guest.page.getByText("You have been invited to a room").waitFor();
  await guest.register();
  await guest.page.getByRole("heading", { name: "Hideout" }).waitFor();
  await guest.shot("invitation");
  await guest.page.getByRole("button", { name: "Join the room" }).click();
  await guest.hears("welcome in advance");
  await ada.page.keyboard.press("Escape");
  await ada.page.getByText("guest joined").waitFor();
  await ada.page.getByRole("button", { name: "Members" }).click();
  await ada.page.getByRole("button", { name: "Actions for guest" }).click();
  await ada.shot("members");
  await accessible(ada, "the list of members");
  await ada.page.getByRole("button", { name: "Remove" }).click();
  await guest.page.getByText("You are no longer in this room.").waitFor();
});

test("profile, sign-ins and signing out", async () => {
  const ada = await arrive("profile");
  await ada.page.getByRole("button", { name: /profile and settings$/ }).click();
  await ada.page.getByLabel("Display name").fill("Ada Lovelace");
  await ada.page.getByLabel("Colour").fill("#ffd166");
  await ada.page.getByRole("button", { name: "Save" }).click();
  await ada.page.getByText("Saved.").waitFor();
  await ada.page.getByText("(this one)").waitFor();
  await accessible(ada, "the profile");
  await ada.shot("profile");
  const second = await ada.context.newPage();
  await second.goto(server.url);
  await ada.ready(second);
  await second.getByText("Ada Lovelace").first().waitFor();
  await ada.page.getByRole("button", { name: "Sign out", exact: true }).click();
  await ada.page.getByRole("heading", { name: "Welcome back" }).waitFor();
  await second.getByRole("heading", { name: "Welcome back" }).waitFor();
  await ada.page.getByLabel("Name", { exact: true }).fill("profile");
  await ada.page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await ada.page.locator("form").getByRole("button", { name: "Sign in" }).click();
  await ada.page.getByText("Ada Lovelace").first().waitFor();
});

test("on a phone there is one column at a time", async () => {
  const ada = await arrive("phone", { phone: true });
  await ada.shot("phone-empty");
  await ada.createRoom("Pocket");
  const box = ada.page.getByRole("textbox", { name: /^Message to/ });
  await box.fill("from the bus");
  await ada.page.getByRole("button", { name: "Send" }).click();
  await ada.hears("from the bus");
  expect(await ada.page.getByRole("navigation", { name: "Rooms" }).isVisible()).toBe(false);
  const overflow = await ada.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(overflow).toBeLessThanOrEqual(0);
  await ada.shot("phone-room");
  await accessible(ada, "the room on a phone");
  await ada.page.getByRole("link", { name: "Back to the rooms" }).click();
  await ada.page.getByRole("navigation", { name: "Rooms" }).waitFor();
  await ada.shot("phone-list");
});

test.each([false, true])("the pages are accessible (dark: %s)", async (dark) => {
  const visitor = await Person.arrive(`axe${Number(dark)}`, server.url, { dark });
  people.push(visitor);
  await visitor.page.goto(server.url);
  await visitor.page.getByRole("heading", { name: "Welcome back" }).waitFor();
  await accessible(visitor, "the sign-in page");
  await visitor.shot(`sign-in-${dark ? "dark" : "light"}`);
  await visitor.register();
  await accessible(visitor, "the empty shell");
  await visitor.createRoom(`Contrast ${Number(dark)}`);
  await visitor.say("**bold** `code`\n> quote\nhttps://example.org");
  await visitor.hears("bold");
  await visitor.say("```\nblock\n```");
  await visitor.hears("block");
  await accessible(visitor, "a room");
  await visitor.shot(`room-${dark ? "dark" : "light"}`);
  await visitor.page.getByRole("button", { name: "About this room" }).click();
  await accessible(visitor, "the room's settings");
  await visitor.page.keyboard.press("Escape");
  await visitor.page.keyboard.press("Control+k");
  await visitor.page.getByText(`Contrast ${Number(dark)}`).last().waitFor();
  await accessible(visitor, "the search");
});
