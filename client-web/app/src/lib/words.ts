/** Times and refusals in words. Pure, but for the reader's locale. */
import { Refusal } from "@rookery/sdk";

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const fullDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const clockTime = (at: number): string => time.format(at);
export const wholeMoment = (at: number): string => moment.format(at);

/** A name for the day, the same for all moments of it. */
export const dayOf = (at: number): string => new Date(at).toDateString();

export function dayName(at: number, now: number): string {
  if (dayOf(at) === dayOf(now)) return "Today";
  if (dayOf(at) === dayOf(now - 86_400_000)) return "Yesterday";
  return now - at < 300 * 86_400_000 ? weekday.format(at) : fullDay.format(at);
}

/** For the room list: the time of today, the day of what is older. */
export const shortMoment = (at: number, now: number): string => (dayOf(at) === dayOf(now) ? time.format(at) : shortDay.format(at));

const REASONS: Record<string, string> = {
  unreachable: "The server cannot be reached.",
  unauthenticated: "Name or password is wrong.",
  forbidden: "You are not allowed to do that.",
  not_found: "There is no such thing here.",
  not_a_member: "You are not a member of this room.",
  banned: "You are banned from this room.",
  muted: "You are muted in this room.",
  blocked: "You cannot write to this person.",
  disabled: "This account is disabled.",
  taken: "This name is taken.",
  too_large: "That is too long.",
  too_many: "That is more than the limit allows.",
  invite_invalid: "This invitation has expired or is used up.",
  rate_limited: "Too fast. Try again in a moment.",
  overloaded: "The server is busy. Try again in a moment.",
  unavailable: "The server is not ready. Try again in a moment.",
};

/** Why something did not work, for people. */
export function reason(error: unknown): string {
  if (!(error instanceof Refusal)) return "Something went wrong.";
  return REASONS[error.code] ?? error.message;
}

/** The same for a code alone. */
export const reasonOf = (code: string | undefined): string => REASONS[code ?? ""] ?? "It was refused.";
