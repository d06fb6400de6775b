//! Finding people, and not wanting to hear from some.

use actors::rooms::{Command, direct_room};
use axum::{Json as Answer, extract::State};
use http::StatusCode;
use protocol::{ErrorCode, UserId};
use serde::Deserialize;
use store::accounts::UserRecord;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::rest::{
    Rest, Shared,
    extract::{Json, Path, Query, SignedIn},
    problem::Problem,
    views::{All, Items, Profile, page_size},
};

/// Most people of one question.
const QUERY_IDS: usize = 100;

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Rest> {
    OpenApiRouter::new()
        .routes(routes!(find))
        .routes(routes!(query))
        .routes(routes!(show))
        .routes(routes!(blocks))
        .routes(routes!(block, unblock))
}

/// Whom to find.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Prefix {
    /// How the name begins; all without.
    prefix: Option<String>,
    /// Most items; 1 to 100, 50 without.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Whose profiles.
#[derive(Deserialize, ToSchema)]
struct Ids {
    /// At most 100.
    #[schema(value_type = Vec<String>)]
    ids: Vec<UserId>,
}

/// Find people by the beginning of their name.
#[utoipa::path(get, path = "/v1/users", tag = "users", params(Prefix),
    responses((status = 200, body = Items<Profile>)))]
async fn find(
    State(rest): State<Rest>,
    Query(query): Query<Prefix>,
) -> Result<Answer<Items<Profile>>, Problem> {
    let prefix = query.prefix.unwrap_or_default();
    let found = rest.store.users_by_prefix(&prefix, query.cursor.as_deref(), page_size(query.limit)).await?;
    Ok(Answer(Items { items: found.items.into_iter().map(Profile::from).collect(), next: found.next }))
}

/// Show many profiles at once; who does not exist is left out.
#[utoipa::path(post, path = "/v1/users/query", tag = "users", request_body = Ids,
    responses((status = 200, body = All<Profile>)))]
async fn query(State(rest): State<Rest>, Json(query): Json<Ids>) -> Result<Answer<All<Profile>>, Problem> {
    if query.ids.len() > QUERY_IDS {
        return Err(Problem::field("ids", "at most 100"));
    }
    let users = rest.store.users(&query.ids).await?;
    Ok(Answer(All { items: users.into_iter().map(Profile::from).collect() }))
}

/// Show a profile.
#[utoipa::path(get, path = "/v1/users/{user}", tag = "users", params(("user" = String, Path)),
    responses((status = 200, body = Profile)))]
async fn show(State(rest): State<Rest>, Path(user): Path<UserId>) -> Result<Answer<Profile>, Problem> {
    Ok(Answer(rest.person(user).await?.into()))
}

/// Whom one does not want to hear from.
#[utoipa::path(get, path = "/v1/me/blocks", tag = "users", responses((status = 200, body = All<Profile>)))]
async fn blocks(State(rest): State<Rest>, SignedIn(who): SignedIn) -> Result<Answer<All<Profile>>, Problem> {
    let blocked = rest.store.blocked_by(who.user).await?;
    let users = rest.store.users(&blocked).await?;
    Ok(Answer(All { items: users.into_iter().map(Profile::from).collect() }))
}

/// Do not want to hear from somebody.
#[utoipa::path(put, path = "/v1/me/blocks/{user}", tag = "users", params(("user" = String, Path)),
    responses((status = 204)))]
async fn block(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(other): Path<UserId>,
) -> Result<StatusCode, Problem> {
    if other == who.user {
        return Err(Problem::new(ErrorCode::Invalid, "nobody blocks themselves"));
    }
    rest.person(other).await?;
    rest.store.block(who.user, other).await?;
    rest.in_direct_room(who.user, other, Command::Block).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Want to hear from them again.
#[utoipa::path(delete, path = "/v1/me/blocks/{user}", tag = "users", params(("user" = String, Path)),
    responses((status = 204)))]
async fn unblock(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(other): Path<UserId>,
) -> Result<StatusCode, Problem> {
    rest.store.unblock(who.user, other).await?;
    rest.in_direct_room(who.user, other, Command::Unblock).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Shared {
    /// An account that there is.
    pub(crate) async fn person(&self, user: UserId) -> Result<UserRecord, Problem> {
        let found = self.store.user(user).await?;
        found.ok_or_else(|| Problem::new(ErrorCode::NotFound, "no such person"))
    }

    /// Whether `user` does not want to hear from `other`.
    pub(crate) async fn blocks(&self, user: UserId, other: UserId) -> Result<bool, Problem> {
        Ok(self.store.blocked_by(user).await?.contains(&other))
    }

    /// Does it in the direct room of the two, if there is one.
    pub(crate) async fn in_direct_room(
        &self,
        user: UserId,
        other: UserId,
        command: Command,
    ) -> Result<(), Problem> {
        let room = direct_room(user, other);
        if self.store.room(room).await?.is_some_and(|room| !room.deleted) {
            self.rooms.command(room, user, command).await?;
        }
        Ok(())
    }
}
