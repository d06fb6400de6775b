import { describe, expect, test } from "vitest";
import { parseMarkup, plain, type Block, type Inline } from "../src/lib/markup.js";

/** A tree as a line of text, so that a test can be read. */
const show = (nodes: Inline[]): string =>
  nodes.map((node) => node.type === "text" ? node.text
    : node.type === "code" ? `<code ${node.text}>`
    : node.type === "link" ? `<link ${node.href}|${show(node.children)}>` : `<${node.type} ${show(node.children)}>`).join("");
const line = (text: string): string => parseMarkup(text).map((block: Block) => (block.type === "code" ? `[${block.text}]` : `${block.type === "quote" ? "> " : ""}${show(block.children)}`)).join("¶");

describe("markup", () => {
  test.each([
    ["plain", "plain"],
    ["a **bold** word", "a <bold bold> word"],
    ["*italic* and _italic_", "<italic italic> and <italic italic>"],
    ["**bold *both* bold**", "<bold bold <italic both> bold>"],
    ["~~gone~~", "<struck gone>"],
    ["`a * b * c`", "<code a * b * c>"],
    ["2 * 3 * 4", "2 * 3 * 4"],
    ["snake_case_name", "snake_case_name"],
    ["see https://example.org/a_b_c.", "see <link https://example.org/a_b_c|https://example.org/a_b_c>."],
    ["(https://example.org)", "(<link https://example.org|https://example.org>)"],
    ["[words](https://example.org)", "<link https://example.org|words>"],
    ["before\n```js\nlet a = **1**;\n```\nafter", "before¶[let a = **1**;]¶after"],
    ["```one line```", "[one line]"],
    ["> said\nanswered", "> said¶answered"],
    ["**unclosed", "**unclosed"],
    ["", ""],
  ])("%j is read as %j", (text, tree) => expect(line(text)).toBe(tree));

  test("in one line only the words are left", () => {
    expect(plain("**bold** `code`\n> quote\n```\nblock\n``` [x](https://example.org)")).toBe("bold code quote block x");
  });

  test("HTML stays text", () => {
    expect(line("<img src=x onerror=alert(1)> <script>1</script>")).toBe("<img src=x onerror=alert(1)> <script>1</script>");
  });

  test.each(["[x](javascript:alert(1))", "[x](data:text/html,1)", "javascript:alert(1)", "[x](/relative)"])("%s is no link", (text) => {
    expect(line(text)).not.toContain("<link");
  });

  test.each(["**a ".repeat(4_000), "[".repeat(16_000), "*_".repeat(8_000), "`".repeat(16_001), "~~x".repeat(5_000), "```\n".repeat(4_001)])(
    "a hostile message is read in well under a second (%#)",
    (text) => {
      const begun = performance.now();
      parseMarkup(text);
      expect(performance.now() - begun).toBeLessThan(500);
    },
  );
});
