//! Every route for everybody: nobody, a stranger, a member, a muted one, a banned one, an administrator, an owner, and
//! somebody whose account is disabled; in a private and in a public room. The list of routes says what to expect; a
//! route without a request here fails the test.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod rest_support;

use std::time::Duration;

use http::Method;
use protocol::{InviteId, RoomId};
use rest_support::{Ask, PASSWORD, Person, Reply, Server, server};
use rookery_gateway::rest::routes::{May, ROUTES, Route};
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anonymous,
    Stranger,
    Member,
    Muted,
    Banned,
    Admin,
    Owner,
    Disabled,
}

const EVERYBODY: [Who; 8] = [
    Who::Anonymous,
    Who::Stranger,
    Who::Member,
    Who::Muted,
    Who::Banned,
    Who::Admin,
    Who::Owner,
    Who::Disabled,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Private,
    Public,
}

/// What a request may be answered: with success, or with one of these codes.
type Outcome = Result<(), &'static [&'static str]>;

/// The whole policy.
fn expected(may: May, who: Who, kind: Kind) -> Outcome {
    match (may, who) {
        (May::Anyone, _) => return Ok(()),
        (May::Proof, _) => unreachable!("expected by route"),
        (_, Who::Anonymous) => return Err(&["unauthenticated"]),
        (_, Who::Disabled) => return Err(&["disabled"]),
        (May::SignedIn, _) | (_, Who::Owner) => return Ok(()),
        // The users' handle does not tell the banned from others who are not in.
        (May::Member, Who::Banned) => return Err(&["banned", "not_a_member"]),
        (_, Who::Banned) => return Err(&["banned"]),
        _ => {}
    }
    let open = kind == Kind::Public;
    match (may, who) {
        (May::Leave, _) => Ok(()),
        (May::Enter | May::See | May::Read, Who::Stranger) if open => Ok(()),
        (May::Enter, Who::Stranger) => Err(&["forbidden"]),
        (_, Who::Stranger) => Err(&["not_a_member"]),
        (May::Enter | May::See | May::Read | May::Member, _) => Ok(()),
        (May::Send, Who::Muted) => Err(&["muted"]),
        (May::Send, _) => Ok(()),
        (May::Admin, Who::Admin) => Ok(()),
        (May::Admin | May::Owner, _) => Err(&["forbidden"]),
        (May::Anyone | May::Proof | May::SignedIn, _) => unreachable!("answered above"),
    }
}

/// Where the route itself judges what is shown.
fn expected_of_proof(path: &str, who: Who) -> Outcome {
    match (path, who) {
        ("/v1/accounts", _) => Ok(()),
        (_, Who::Anonymous) => Err(&["unauthenticated"]),
        ("/v1/sessions/current", Who::Disabled) => Err(&["unauthenticated"]),
        (_, Who::Disabled) => Err(&["disabled"]),
        _ => Ok(()),
    }
}

struct Scene {
    server: Server,
    room: RoomId,
    invite: InviteId,
    secret: String,
    asker: Option<Person>,
    elsewhere: Option<Person>,
    subject: Person,
    outsider: Person,
    outcast: Person,
}

/// A room with everybody in it, and who asks.
async fn scene(who: Who, kind: Kind) -> Scene {
    let server = server().await;
    let owner = server.sign_up("owner").await;
    let subject = server.sign_up("subject").await;
    let outsider = server.sign_up("outsider").await;
    let outcast = server.sign_up("outcast").await;
    let visibility = if kind == Kind::Public { "public" } else { "private" };
    let room = server.room(&owner, json!({ "name": "Room", "visibility": visibility })).await;
    let enter = async |person: &Person| {
        let path = format!("/v1/rooms/{room}/members/{}/invite", person.id);
        server.post(&path).by(&owner).send().await.expect(204);
        server.join(person, room).await;
    };
    enter(&subject).await;
    enter(&outcast).await;
    let act = async |person: &Person, act: &str| {
        let path = format!("/v1/rooms/{room}/members/{}/{act}", person.id);
        server.post(&path).by(&owner).send().await.expect(204);
    };
    act(&outcast, "ban").await;
    server.say(&owner, room, "hello").await;
    let path = format!("/v1/rooms/{room}/invites");
    let invite = server.post(&path).by(&owner).send().await.expect(201).json();
    let (asker, elsewhere) = match who {
        Who::Anonymous => (None, None),
        _ => {
            let asker = server.sign_up("asker").await;
            let elsewhere = server.sign_in("asker").await;
            (Some(asker), Some(elsewhere))
        }
    };
    if let Some(asker) = &asker {
        if !matches!(who, Who::Stranger) {
            enter(asker).await;
        }
        let role = match who {
            Who::Admin => Some("admin"),
            Who::Owner | Who::Disabled => Some("owner"),
            _ => None,
        };
        if let Some(role) = role {
            let path = format!("/v1/rooms/{room}/members/{}/role", asker.id);
            server.put(&path).by(&owner).json(json!({ "role": role })).send().await.expect(204);
        }
        match who {
            Who::Muted => act(asker, "mute").await,
            Who::Banned => act(asker, "ban").await,
            Who::Disabled => assert!(server.store.set_disabled(asker.id, true).await.unwrap()),
            _ => {}
        }
    }
    server.health.set_ready(true);
    server.health.set_started(true);
    Scene {
        invite: invite["id"].as_str().unwrap().parse().unwrap(),
        secret: invite["secret"].as_str().unwrap().to_owned(),
        server,
        room,
        asker,
        elsewhere,
        subject,
        outsider,
        outcast,
    }
}

impl Scene {
    fn path(&self, route: &Route) -> String {
        let user = if route.path.ends_with("/unban") {
            self.outcast.id
        } else if route.path.ends_with("/invite") || !route.path.contains("{room}") {
            self.outsider.id
        } else {
            self.subject.id
        };
        let device = self.elsewhere.as_ref().map_or(self.subject.device, |elsewhere| elsewhere.device);
        route
            .path
            .replace("{room}", &self.room.to_string())
            .replace("{user}", &user.to_string())
            .replace("{device}", &device.to_string())
            .replace("{invite}", &self.invite.to_string())
    }

    /// A request that the right person is granted.
    fn body(&self, route: &Route) -> Option<Value> {
        let asker = self.asker.as_ref();
        let body = match (route.method.as_str(), route.path) {
            ("GET", _) | ("DELETE", _) => return None,
            ("POST", "/v1/accounts") => json!({ "name": "newcomer", "password": PASSWORD }),
            ("POST", "/v1/sessions") => match asker {
                Some(asker) => json!({ "name": asker.name, "password": PASSWORD }),
                None => json!({ "name": "owner", "password": "no idea of it" }),
            },
            ("POST", "/v1/sessions/refresh") => json!({ "refresh_token": asker.map(|asker| &asker.refresh) }),
            ("POST", "/v1/tickets") => return None,
            ("PATCH", "/v1/me") => json!({ "display_name": "Me" }),
            ("PUT", "/v1/me/password") => {
                json!({ "old_password": PASSWORD, "new_password": "another long one" })
            }
            ("PUT", "/v1/me/blocks/{user}") => return None,
            ("POST", "/v1/users/query") => json!({ "ids": [self.outsider.id] }),
            ("PUT", "/v1/direct/{user}") => return None,
            ("POST", "/v1/rooms") => json!({ "name": "Mine", "visibility": "private" }),
            ("PATCH", "/v1/rooms/{room}") => json!({ "topic": "news" }),
            ("POST", "/v1/rooms/{room}/join") | ("POST", "/v1/rooms/{room}/leave") => return None,
            ("POST", "/v1/rooms/{room}/members/{user}/invite")
            | ("POST", "/v1/rooms/{room}/members/{user}/kick")
            | ("POST", "/v1/rooms/{room}/members/{user}/ban")
            | ("POST", "/v1/rooms/{room}/members/{user}/unban")
            | ("POST", "/v1/rooms/{room}/members/{user}/mute")
            | ("POST", "/v1/rooms/{room}/members/{user}/unmute") => return None,
            ("PUT", "/v1/rooms/{room}/members/{user}/role") => json!({ "role": "admin" }),
            ("POST", "/v1/rooms/{room}/entries") => json!({ "kind": "message", "body": { "text": "hi" } }),
            ("PUT", "/v1/rooms/{room}/read") => json!({ "seq": 1 }),
            ("POST", "/v1/rooms/{room}/invites") => json!({}),
            ("POST", "/v1/invites/preview") => json!({ "room": self.room, "secret": self.secret }),
            (method, path) => panic!("{method} {path} needs a request here"),
        };
        Some(body)
    }

    async fn ask(&self, route: &Route) -> Reply {
        let path = self.path(route);
        let mut ask: Ask<'_> = self.server.ask(route.method.clone(), &path);
        if let Some(asker) = &self.asker {
            ask = ask.by(asker);
        }
        if let Some(body) = self.body(route) {
            ask = ask.json(body);
        }
        ask.send().await
    }
}

async fn judge(route: &Route, kind: Kind) -> Vec<String> {
    let mut wrong = Vec::new();
    for who in EVERYBODY {
        let scene = scene(who, kind).await;
        let reply = scene.ask(route).await;
        let expected = match route.may {
            May::Proof => expected_of_proof(route.path, who),
            may => expected(may, who, kind),
        };
        let as_expected = match expected {
            Ok(()) => reply.status.is_success(),
            Err(codes) => reply.status.is_client_error() && codes.contains(&reply.code().as_str()),
        };
        if !as_expected {
            wrong.push(format!(
                "{} {} by {who:?} in a {kind:?} room: expected {expected:?}, got {} {}",
                route.method, route.path, reply.status, reply.text
            ));
        }
        scene.server.actors.stop(Duration::ZERO).await;
    }
    wrong
}

async fn judge_all<'a>(routes: impl Iterator<Item = &'a Route>, kind: Kind) {
    let mut wrong = Vec::new();
    for route in routes {
        wrong.extend(judge(route, kind).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_about_a_room(route: &&Route) -> bool {
    route.path.contains("{room}")
}

#[tokio::test]
async fn every_route_outside_of_rooms_answers_everybody_as_the_list_says() {
    judge_all(ROUTES.iter().filter(|route| !is_about_a_room(route)), Kind::Private).await;
}

#[tokio::test]
async fn every_route_of_a_private_room_answers_everybody_as_the_list_says() {
    judge_all(ROUTES.iter().filter(is_about_a_room), Kind::Private).await;
}

#[tokio::test]
async fn every_route_of_a_public_room_answers_everybody_as_the_list_says() {
    judge_all(ROUTES.iter().filter(is_about_a_room), Kind::Public).await;
}

#[tokio::test]
async fn the_document_describes_exactly_the_routes_of_the_list() {
    let server = server().await;
    let api = server.get("/v1/openapi.json").send().await.expect(200).json();
    let mut described: Vec<(Method, String)> = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) {
                assert!(operation["responses"]["default"].is_object(), "{path} says how it refuses");
                described.push((method, path.clone()));
            }
        }
    }
    let mut listed: Vec<_> =
        ROUTES.iter().map(|route| (route.method.clone(), route.path.to_owned())).collect();
    let order = |one: &(Method, String)| (one.1.clone(), one.0.to_string());
    described.sort_by_key(order);
    listed.sort_by_key(order);
    assert_eq!(described, listed);
}
