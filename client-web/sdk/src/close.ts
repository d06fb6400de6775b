/** What a close code asks of the client. */
export type ComeBack = "resume" | "reauthenticate" | "no";

/** A socket that another tab's sign-out, an administrator or the user ended. */
export const SIGNED_OUT = 4103;
/** The account is disabled. */
export const DISABLED = 4104;
/** The client's own: nothing was heard, not even the answer to a ping. In the range that applications may use. */
export const SILENT = 4900;

/**
 * 4000 to 4099: come back and resume; 4100 to 4199: refresh or sign in first; other codes of ours: coming back unchanged
 * will not help. What is not of ours (a lost network, a proxy's 1001 or 1006) is a reason to resume.
 */
export function comeBack(code: number): ComeBack {
  if (code >= 4100 && code < 4200) return "reauthenticate";
  if (code >= 4200 && code < 4300) return "no";
  return "resume";
}
