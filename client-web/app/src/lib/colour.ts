/** Avatars in a user's own colour, readable whatever it is. */
import type { Attachment } from "svelte/attachments";

const channel = (value: number): number => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);

/** Black or white, whichever is read better on `colour` (#rrggbb), by the contrast formula of WCAG. */
export function inkOn(colour: string): "#000000" | "#ffffff" {
  const [red, green, blue] = [1, 3, 5].map((at) => channel(parseInt(colour.slice(at, at + 2), 16) / 255)) as [number, number, number];
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) ? "#000000" : "#ffffff";
}

/** Paints an element. Through the object model: the page's policy allows no style attributes. */
export function painted(colour: string): Attachment<HTMLElement> {
  return (element) => {
    const valid = /^#[0-9a-f]{6}$/i.test(colour) ? colour : "#7a7f85";
    element.style.setProperty("background-color", valid);
    element.style.setProperty("color", inkOn(valid));
  };
}

/** Up to two letters for an avatar. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0]!, words.at(-1)!] : words;
  return letters.map((word) => [...word][0]!.toUpperCase()).join("") || "?";
}
