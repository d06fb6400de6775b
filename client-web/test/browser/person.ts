/** Somebody in front of a browser of their own. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type BrowserContext, type Locator, type Page } from "playwright-core";

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const results = fileURLToPath(new URL("../../test-results/", import.meta.url));
mkdirSync(results, { recursive: true });

export const PASSWORD = "correct horse battery";

/** What a browser says by itself when a server goes away; no fault of the page's. */
const NETWORK = /ERR_CONNECTION|ERR_SOCKET|ERR_EMPTY_RESPONSE|ERR_NETWORK|WebSocket connection to/;

export class Person {
  readonly complaints: string[] = [];
  /** Set where the test takes the network away. */
  networkMayFail = false;

  private constructor(readonly name: string, readonly url: string, readonly context: BrowserContext, readonly page: Page, private readonly folder: string) {
    context.on("page", (page) => this.#listen(page));
    this.#listen(page);
  }

  static async arrive(name: string, url: string, options: { phone?: boolean; dark?: boolean } = {}): Promise<Person> {
    const folder = mkdtempSync(join(tmpdir(), "rookery-browser-"));
    const context = await chromium.launchPersistentContext(folder, {
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      args: FLAGS,
      viewport: options.phone ? { width: 390, height: 780 } : { width: 1280, height: 800 },
      hasTouch: options.phone ?? false,
      isMobile: options.phone ?? false,
      colorScheme: options.dark ? "dark" : "light",
    });
    context.setDefaultTimeout(30_000);
    const page = context.pages()[0] ?? (await context.newPage());
    return new Person(name, url, context, page, folder);
  }

  #listen(page: Page): void {
    page.on("pageerror", (error) => this.complaints.push(`${error.name}: ${error.message}`));
    page.on("console", (message) => {
      if (!["error", "warning"].includes(message.type())) return;
      if (this.networkMayFail && NETWORK.test(message.text())) return;
      this.complaints.push(`${message.type()}: ${message.text()} ${message.location().url}`);
    });
  }

  async register(): Promise<this> {
    await this.page.goto(this.url);
    await this.page.getByRole("button", { name: "Create account" }).first().click();
    await this.page.getByLabel("Name", { exact: true }).fill(this.name);
    await this.page.getByLabel("Password", { exact: true }).fill(PASSWORD);
    await this.page.locator("form").getByRole("button", { name: "Create account" }).click();
    await this.ready();
    return this;
  }

  /** Waits until the page is connected. */
  async ready(page = this.page): Promise<void> {
    await page.locator('[data-connection="ready"]').first().waitFor({ state: "attached" });
  }

  async createRoom(name: string, visibility: "Public" | "Private" = "Public"): Promise<string> {
    await this.page.getByRole("button", { name: "Create a room" }).click();
    const dialog = this.page.getByRole("dialog");
    await dialog.getByLabel("Name").fill(name);
    await dialog.getByText(visibility, { exact: true }).click();
    await dialog.getByRole("button", { name: "Create" }).click();
    await this.page.getByRole("heading", { name, level: 1 }).waitFor();
    return new URL(this.page.url()).hash.split("/").at(-1)!;
  }

  async joinRoom(name: string): Promise<void> {
    await this.page.keyboard.press("Control+k");
    await this.page.getByRole("searchbox").fill(name);
    await this.page.getByRole("button", { name: `Join ${name}` }).click();
    await this.page.getByRole("heading", { name, level: 1 }).waitFor();
  }

  async writeTo(name: string): Promise<void> {
    await this.page.getByRole("button", { name: "Write to somebody" }).first().click();
    await this.page.getByRole("searchbox").fill(name);
    await this.page.getByRole("dialog").getByRole("button", { name: new RegExp(`^Write ${name}`) }).click();
    // By name: the field of the room before is there until the new one is.
    await this.page.getByRole("textbox", { name: `Message to ${name}` }).waitFor();
  }

  async say(text: string, page = this.page): Promise<void> {
    const box = page.getByRole("textbox", { name: /^Message to/ });
    await box.fill(text);
    await box.press("Enter");
  }

  /** The messages of the log that hold `text`; those still on their way are others. */
  stored(text: string | RegExp, page = this.page): Locator {
    return page.locator("article[data-seq]").filter({ hasText: text });
  }

  async hears(text: string | RegExp, page = this.page): Promise<void> {
    await this.stored(text, page).first().waitFor();
  }

  async shot(name: string, page = this.page): Promise<void> {
    await page.screenshot({ path: join(results, `${name}.png`) });
  }

  async leave(): Promise<void> {
    await this.context.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
