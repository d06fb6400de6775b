//! All routes, and who may use them. A route that is not in this list is refused by [`crate::rest::guard`], and the
//! authorisation test asks every route for everybody.

use http::Method;

/// Who may use a route. From [`May::See`] on, each line allows less than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Anyone, signed in or not.
    Anyone,
    /// Who shows a refresh token, or the right password, or makes an account: the handler decides.
    Proof,
    /// Anyone signed in.
    SignedIn,
    /// Who may come into the room: the invited, and in a public room anyone who is not banned.
    Enter,
    /// Anyone who is not banned from the room; nothing happens for who is not in it.
    Leave,
    /// Who may see the room: members, the invited, and in a public room anyone who is not banned.
    See,
    /// Who may read in the room: members, and in a public room anyone who is not banned.
    Read,
    /// Members.
    Member,
    /// Members who are not muted.
    Send,
    /// Administrators of the room.
    Admin,
    /// Owners of the room.
    Owner,
}

/// One route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, with names in braces.
    pub path: &'static str,
    /// Who may use it.
    pub may: May,
}

const fn route(method: Method, path: &'static str, may: May) -> Route {
    Route { method, path, may }
}

/// All routes, the web client's files and the socket aside.
pub const ROUTES: &[Route] = &[
    route(Method::GET, "/healthz/live", May::Anyone),
    route(Method::GET, "/healthz/ready", May::Anyone),
    route(Method::GET, "/healthz/started", May::Anyone),
    route(Method::GET, "/.well-known/jwks.json", May::Anyone),
    route(Method::GET, "/v1/openapi.json", May::Anyone),
    route(Method::GET, "/v1/asyncapi.yaml", May::Anyone),
    route(Method::POST, "/v1/accounts", May::Proof),
    route(Method::POST, "/v1/sessions", May::Proof),
    route(Method::POST, "/v1/sessions/refresh", May::Proof),
    route(Method::DELETE, "/v1/sessions/current", May::Proof),
    route(Method::GET, "/v1/sessions", May::SignedIn),
    route(Method::DELETE, "/v1/sessions", May::SignedIn),
    route(Method::DELETE, "/v1/sessions/{device}", May::SignedIn),
    route(Method::POST, "/v1/tickets", May::SignedIn),
    route(Method::GET, "/v1/me", May::SignedIn),
    route(Method::PATCH, "/v1/me", May::SignedIn),
    route(Method::PUT, "/v1/me/password", May::SignedIn),
    route(Method::GET, "/v1/me/blocks", May::SignedIn),
    route(Method::PUT, "/v1/me/blocks/{user}", May::SignedIn),
    route(Method::DELETE, "/v1/me/blocks/{user}", May::SignedIn),
    route(Method::GET, "/v1/users", May::SignedIn),
    route(Method::POST, "/v1/users/query", May::SignedIn),
    route(Method::GET, "/v1/users/{user}", May::SignedIn),
    route(Method::PUT, "/v1/direct/{user}", May::SignedIn),
    route(Method::GET, "/v1/rooms", May::SignedIn),
    route(Method::POST, "/v1/rooms", May::SignedIn),
    route(Method::GET, "/v1/rooms/public", May::SignedIn),
    route(Method::GET, "/v1/rooms/{room}", May::See),
    route(Method::PATCH, "/v1/rooms/{room}", May::Admin),
    route(Method::DELETE, "/v1/rooms/{room}", May::Owner),
    route(Method::POST, "/v1/rooms/{room}/join", May::Enter),
    route(Method::POST, "/v1/rooms/{room}/leave", May::Leave),
    route(Method::GET, "/v1/rooms/{room}/members", May::Read),
    route(Method::POST, "/v1/rooms/{room}/members/{user}/invite", May::Admin),
    route(Method::POST, "/v1/rooms/{room}/members/{user}/kick", May::Admin),
    route(Method::POST, "/v1/rooms/{room}/members/{user}/ban", May::Admin),
    route(Method::POST, "/v1/rooms/{room}/members/{user}/unban", May::Admin),
    route(Method::POST, "/v1/rooms/{room}/members/{user}/mute", May::Admin),
    route(Method::POST, "/v1/rooms/{room}/members/{user}/unmute", May::Admin),
    route(Method::PUT, "/v1/rooms/{room}/members/{user}/role", May::Owner),
    route(Method::GET, "/v1/rooms/{room}/entries", May::Read),
    route(Method::POST, "/v1/rooms/{room}/entries", May::Send),
    route(Method::PUT, "/v1/rooms/{room}/read", May::Member),
    route(Method::GET, "/v1/rooms/{room}/invites", May::Admin),
    route(Method::POST, "/v1/rooms/{room}/invites", May::Admin),
    route(Method::DELETE, "/v1/rooms/{room}/invites/{invite}", May::Admin),
    route(Method::POST, "/v1/invites/preview", May::SignedIn),
];

/// Who may use this route, if it is in the list. HEAD is GET without the body.
pub(crate) fn who_may(method: &Method, path: &str) -> Option<May> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    ROUTES.iter().find(|route| route.method == *method && route.path == path).map(|route| route.may)
}
