/**
 * The little markup of messages: code blocks, code, bold, italic, struck out, links. Pure: text in, tree out. The tree is
 * rendered as elements and text nodes, so nothing that a user writes is ever read as HTML.
 */
export type Inline =
  | { type: "text"; text: string }
  | { type: "code"; text: string }
  | { type: "bold" | "italic" | "struck"; children: Inline[] }
  | { type: "link"; href: string; children: Inline[] };

export type Block = { type: "code"; text: string } | { type: "text"; children: Inline[] } | { type: "quote"; children: Inline[] };

/** Deeper nesting than this is text: a message of ten thousand stars must not cost more than one of ten. */
const DEPTH = 4;

/** A message in one line, without its markup. */
export function plain(text: string): string {
  const flat = (nodes: Inline[]): string => nodes.map((node) => ("children" in node ? flat(node.children) : node.text)).join("");
  return parseMarkup(text).map((block) => (block.type === "code" ? block.text : flat(block.children))).join(" ").replace(/\s+/g, " ");
}

const FENCE = /```[^\n`]*\n([\s\S]*?)\n?```|```([^\n]+?)```/g;

/** The blocks of a message. */
export function parseMarkup(text: string): Block[] {
  const blocks: Block[] = [];
  let from = 0;
  for (const fence of text.matchAll(FENCE)) {
    pushText(blocks, text.slice(from, fence.index));
    blocks.push({ type: "code", text: fence[1] ?? fence[2] ?? "" });
    from = fence.index + fence[0].length;
  }
  pushText(blocks, text.slice(from));
  return blocks;
}

function pushText(blocks: Block[], text: string): void {
  const trimmed = text.replace(/^\n+|\n+$/g, "");
  if (!trimmed) return;
  let lines: string[] = [];
  let quoted = false;
  const flush = () => {
    if (lines.length) blocks.push({ type: quoted ? "quote" : "text", children: inline(lines.join("\n"), 0) });
    lines = [];
  };
  for (const line of trimmed.split("\n")) {
    const quote = /^> ?/.test(line);
    if (quote !== quoted) flush();
    quoted = quote;
    lines.push(quote ? line.replace(/^> ?/, "") : line);
  }
  flush();
}

type Rule = [RegExp, (match: RegExpExecArray, depth: number) => Inline | null];

/** In the order of precedence; each expression stays within one line and looks ahead only so far. */
const RULES: Rule[] = [
  [/`([^`\n]+)`/y, (match) => ({ type: "code", text: match[1]! })],
  [/\*\*(?=\S)([^\n]{0,500}?\S)\*\*/y, (match, depth) => ({ type: "bold", children: inline(match[1]!, depth + 1) })],
  [/~~(?=\S)([^\n]{0,500}?\S)~~/y, (match, depth) => ({ type: "struck", children: inline(match[1]!, depth + 1) })],
  [/\*(?=[^\s*])([^\n*]*?[^\s*])\*(?!\*)/y, (match, depth) => ({ type: "italic", children: inline(match[1]!, depth + 1) })],
  [/_(?=[^\s_])([^\n_]*?[^\s_])_(?![\p{L}\p{N}_])/uy, (match, depth) => ({ type: "italic", children: inline(match[1]!, depth + 1) })],
  [/\[([^[\]\n]{1,200})\]\(([^\s)]+)\)/y, (match) => link(match[2]!, [{ type: "text", text: match[1]! }])],
  [/(?:https?:\/\/|mailto:)[^\s<>"`]+/iy, (match) => {
    const href = match[0].replace(/[.,;:!?'")\]}*_~]+$/, "");
    return link(href, [{ type: "text", text: href }]);
  }],
];

const STARTS = /[`*~_[hm]/gi;

function inline(text: string, depth: number): Inline[] {
  if (depth > DEPTH) return [{ type: "text", text }];
  const nodes: Inline[] = [];
  let plain = 0;
  for (let at = nextStart(text, 0); at < text.length; at = nextStart(text, at)) {
    const found = match(text, at, depth);
    if (!found) {
      at += 1;
      continue;
    }
    if (at > plain) nodes.push({ type: "text", text: text.slice(plain, at) });
    nodes.push(found.node);
    at += found.length;
    plain = at;
  }
  if (plain < text.length) nodes.push({ type: "text", text: text.slice(plain) });
  return nodes;
}

function nextStart(text: string, from: number): number {
  STARTS.lastIndex = from;
  return STARTS.exec(text)?.index ?? text.length;
}

function match(text: string, at: number, depth: number): { node: Inline; length: number } | null {
  // Inside a word an underscore and the beginning of an address are letters like any other.
  if (at > 0 && /[\p{L}\p{N}]/u.test(text[at - 1]!) && /[_hm]/i.test(text[at]!)) return null;
  for (const [rule, make] of RULES) {
    rule.lastIndex = at;
    const found = rule.exec(text);
    const node = found && make(found, depth);
    if (!node) continue;
    // An address may end before what the expression took: what was cut off is text again.
    const bare = node.type === "link" && !found[2] ? node.href.length : found[0].length;
    return { node, length: bare };
  }
  return null;
}

/** Only addresses that cannot run anything. */
function link(href: string, children: Inline[]): Inline | null {
  try {
    const { protocol } = new URL(href);
    return ["http:", "https:", "mailto:"].includes(protocol) ? { type: "link", href, children } : null;
  } catch {
    return null;
  }
}
