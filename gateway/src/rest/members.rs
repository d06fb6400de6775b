//! Members: coming and going, and what administrators do to others.

use std::collections::HashMap;

use actors::rooms::Command;
use axum::{Json as Answer, extract::State};
use http::StatusCode;
use protocol::{Millis, RoomId, UserId, entry::Role};
use serde::Deserialize;
use store::members::{InviteRecord, MemberState};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::rest::{
    Rest,
    audit::Act,
    extract::{Address, Json, MaybeJson, Path, Query, SignedIn},
    invites::valid_invite,
    problem::Problem,
    rooms::{blocked, show_room},
    schema,
    views::{Items, MemberView, MyRoom, Profile, Standing, page_size},
};

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Rest> {
    OpenApiRouter::new()
        .routes(routes!(join))
        .routes(routes!(leave))
        .routes(routes!(list))
        .routes(routes!(invite))
        .routes(routes!(kick))
        .routes(routes!(ban))
        .routes(routes!(unban))
        .routes(routes!(mute))
        .routes(routes!(unmute))
        .routes(routes!(set_role))
}

/// How to come in.
#[derive(Default, Deserialize, ToSchema)]
struct Join {
    /// The secret of an invitation's link.
    invite_secret: Option<String>,
}

/// How long somebody is silent.
#[derive(Default, Deserialize, ToSchema)]
struct Mute {
    /// Until when; for good without.
    until: Option<Millis>,
}

/// A role.
#[derive(Deserialize, ToSchema)]
struct NewRole {
    #[schema(value_type = schema::Role)]
    role: Role,
}

/// Which members.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// `joined` without; `invited` and `banned` are for administrators.
    #[param(value_type = Option<String>)]
    state: Option<Listed>,
    /// Most items; 1 to 100, 50 without.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// States that are listed.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Listed {
    Joined,
    Invited,
    Banned,
}

/// Come in: into a public room, as invited, or by a link.
#[utoipa::path(post, path = "/v1/rooms/{room}/join", tag = "members", params(("room" = String, Path)),
    request_body = Option<Join>, responses((status = 200, body = MyRoom)))]
async fn join(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
    MaybeJson(wish): MaybeJson<Join>,
) -> Result<Answer<MyRoom>, Problem> {
    let invite: Option<InviteRecord> = match wish.invite_secret {
        Some(secret) => Some(valid_invite(&rest, room, &secret).await?),
        None => None,
    };
    rest.rooms.command(room, who.user, Command::Join { invite }).await?;
    show_room(&rest, room, who.user).await.map(Answer)
}

/// Go.
#[utoipa::path(post, path = "/v1/rooms/{room}/leave", tag = "members", params(("room" = String, Path)),
    responses((status = 204)))]
async fn leave(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
) -> Result<StatusCode, Problem> {
    rest.rooms.command(room, who.user, Command::Leave).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List members.
#[utoipa::path(get, path = "/v1/rooms/{room}/members", tag = "members",
    params(("room" = String, Path), Which), responses((status = 200, body = Items<MemberView>)))]
async fn list(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
    Query(which): Query<Which>,
) -> Result<Answer<Items<MemberView>>, Problem> {
    let access = rest.access(room, who.user).await?.may_read()?;
    let administers = access.member.is_joined() && access.member.role >= Role::Admin;
    let state = match which.state.unwrap_or(Listed::Joined) {
        Listed::Joined => MemberState::Joined,
        Listed::Invited => MemberState::Invited,
        Listed::Banned => MemberState::Banned,
    };
    if state != MemberState::Joined {
        access.may_administer()?;
    }
    let cursor = which.cursor.as_deref();
    let members = rest.store.members(room, Some(state), cursor, page_size(which.limit)).await?;
    let ids: Vec<UserId> = members.items.iter().map(|member| member.user).collect();
    let users = rest.store.users(&ids).await?;
    let mut profiles: HashMap<UserId, Profile> =
        users.into_iter().map(|user| (user.user, user.into())).collect();
    let now = rest.clock.now();
    let items = members.items.into_iter().filter_map(|member| {
        let told = administers || member.user == who.user;
        Some(MemberView {
            user: profiles.remove(&member.user)?,
            role: member.role,
            state: Standing::of(member.state),
            muted_until: member.muted_until.filter(|until| told && *until > now).map(exact),
            since_seq: member.changed_seq,
        })
    });
    Ok(Answer(Items { items: items.collect(), next: members.next }))
}

/// "For good" as a number that every JSON reader holds exactly.
fn exact(at: Millis) -> Millis {
    at.min(protocol::limits::MAX_COUNTER)
}

/// Let somebody in.
#[utoipa::path(post, path = "/v1/rooms/{room}/members/{user}/invite", tag = "members",
    params(("room" = String, Path), ("user" = String, Path)), responses((status = 204)))]
async fn invite(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path((room, user)): Path<(RoomId, UserId)>,
) -> Result<StatusCode, Problem> {
    // Rights first: otherwise a stranger learns who has blocked them.
    rest.access(room, who.user).await?.may_administer()?;
    rest.person(user).await?;
    if rest.blocks(user, who.user).await? {
        return Err(blocked());
    }
    rest.rooms.command(room, who.user, Command::Invite(user)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Put somebody out.
#[utoipa::path(post, path = "/v1/rooms/{room}/members/{user}/kick", tag = "members",
    params(("room" = String, Path), ("user" = String, Path)), responses((status = 204)))]
async fn kick(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Address(address): Address,
    Path((room, user)): Path<(RoomId, UserId)>,
) -> Result<StatusCode, Problem> {
    rest.rooms.command(room, who.user, Command::Kick(user)).await?;
    rest.note(Act::by(who.user, "member.kicked").on(user).from(address).saying(room.to_string())).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Put somebody out for good.
#[utoipa::path(post, path = "/v1/rooms/{room}/members/{user}/ban", tag = "members",
    params(("room" = String, Path), ("user" = String, Path)), responses((status = 204)))]
async fn ban(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Address(address): Address,
    Path((room, user)): Path<(RoomId, UserId)>,
) -> Result<StatusCode, Problem> {
    rest.person(user).await?;
    rest.rooms.command(room, who.user, Command::Ban(user)).await?;
    rest.note(Act::by(who.user, "member.banned").on(user).from(address).saying(room.to_string())).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Let them come back.
#[utoipa::path(post, path = "/v1/rooms/{room}/members/{user}/unban", tag = "members",
    params(("room" = String, Path), ("user" = String, Path)), responses((status = 204)))]
async fn unban(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Address(address): Address,
    Path((room, user)): Path<(RoomId, UserId)>,
) -> Result<StatusCode, Problem> {
    rest.rooms.command(room, who.user, Command::Unban(user)).await?;
    rest.note(Act::by(who.user, "member.unbanned").on(user).from(address).saying(room.to_string())).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Silence somebody.
#[utoipa::path(post, path = "/v1/rooms/{room}/members/{user}/mute", tag = "members",
    params(("room" = String, Path), ("user" = String, Path)), request_body = Option<Mute>,
    responses((status = 204)))]
async fn mute(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path((room, user)): Path<(RoomId, UserId)>,
    MaybeJson(wish): MaybeJson<Mute>,
) -> Result<StatusCode, Problem> {
    if wish.until.is_some_and(|until| until <= rest.clock.now()) {
        return Err(Problem::field("until", "in the past"));
    }
    rest.rooms.command(room, who.user, Command::Mute { user, until: wish.until }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let them speak again.
#[utoipa::path(post, path = "/v1/rooms/{room}/members/{user}/unmute", tag = "members",
    params(("room" = String, Path), ("user" = String, Path)), responses((status = 204)))]
async fn unmute(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path((room, user)): Path<(RoomId, UserId)>,
) -> Result<StatusCode, Problem> {
    rest.rooms.command(room, who.user, Command::Unmute(user)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give somebody a role.
#[utoipa::path(put, path = "/v1/rooms/{room}/members/{user}/role", tag = "members",
    params(("room" = String, Path), ("user" = String, Path)), request_body = NewRole,
    responses((status = 204)))]
async fn set_role(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Address(address): Address,
    Path((room, user)): Path<(RoomId, UserId)>,
    Json(NewRole { role }): Json<NewRole>,
) -> Result<StatusCode, Problem> {
    rest.rooms.command(room, who.user, Command::SetRole { user, role }).await?;
    let detail = format!("{role:?} in {room}").to_lowercase();
    rest.note(Act::by(who.user, "member.role").on(user).from(address).saying(detail)).await;
    Ok(StatusCode::NO_CONTENT)
}
