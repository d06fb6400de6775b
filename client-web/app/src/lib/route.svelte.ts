/** Where the user is, from the part of the address behind the hash. */
import type { Id } from "@rookery/sdk";

export type Route =
  | { page: "rooms" }
  | { page: "room"; room: Id }
  | { page: "invite"; room: Id; secret: string };

const ID = /^[0-9a-f]{32}$/;

/** The route of a hash; what means nothing is the list of rooms. */
export function parseRoute(hash: string): Route {
  const [page, room, secret] = hash.replace(/^#\/?/, "").split("/");
  if (page === "room" && room && ID.test(room)) return { page, room };
  if (page === "invite" && room && ID.test(room) && secret) return { page, room, secret: decodeURIComponent(secret) };
  return { page: "rooms" };
}

export const roomHref = (room: Id): string => `#/room/${room}`;

class Router {
  current = $state.raw<Route>(parseRoute(location.hash));

  constructor() {
    addEventListener("hashchange", () => (this.current = parseRoute(location.hash)));
  }

  go(hash: string): void {
    location.hash = hash;
  }
}

export const router = new Router();
