/** First wait in milliseconds: a restarted server is back in about this time. */
export const BACKOFF_FIRST_MS = 400;
/** Longest wait. Half a minute keeps a thousand waiting clients at about 40 connects a second. */
export const BACKOFF_MAX_MS = 30_000;

/** How long to wait before attempt number `attempt` (0 is the first): doubling, with the upper half left to chance. */
export function backoff(attempt: number, random: () => number): number {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 16));
  return ceiling / 2 + (ceiling / 2) * random();
}
