//! A room's log: reading a page, saying something, and how far one has read.

use actors::rooms::Draft;
use axum::{Json as Answer, extract::State};
use http::{HeaderMap, StatusCode};
use protocol::{
    Body, ErrorCode, Kind, Millis, RoomId, Seq, WriterId, client::HistoryFrom, limits, server::Page,
};
use serde::{Deserialize, Serialize};
use telemetry::TraceContext;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::rest::{
    Rest,
    extract::{Json, Path, Query, SignedIn},
    problem::Problem,
    schema,
};

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Rest> {
    OpenApiRouter::new().routes(routes!(page, post)).routes(routes!(read))
}

/// Which page; at most one of `before`, `after` and `around`, the newest entries without.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct From {
    /// The newest entries below this one.
    before: Option<Seq>,
    /// The oldest entries above this one.
    after: Option<Seq>,
    /// Half below, this one and the rest above.
    around: Option<Seq>,
    /// Most entries; 1 to 200, 50 without.
    limit: Option<usize>,
}

/// Something to say.
#[derive(Deserialize, ToSchema)]
struct Post {
    /// `message`, `reply`, `edit`, `deletion` or `reaction`.
    #[schema(value_type = String, example = "message")]
    kind: Kind,
    /// The entry that it speaks of; all kinds but `message` need one.
    target: Option<Seq>,
    /// The content: an object of at most 16 KiB.
    #[schema(value_type = Object)]
    body: Body,
    /// Who counts, with `n`. The same writer and `n` again get the same answer. Without both, each request says it
    /// anew.
    #[schema(value_type = Option<String>)]
    writer: Option<WriterId>,
    /// 1, 2, 3, … per room and writer.
    n: Option<u64>,
}

/// Where it is.
#[derive(Serialize, ToSchema)]
struct Posted {
    /// Its place in the room.
    seq: Seq,
    /// When the server ordered it.
    at: Millis,
}

/// How far one has read.
#[derive(Deserialize, ToSchema)]
struct Read {
    /// Everything up to here.
    seq: Seq,
}

/// Read a page of the log.
#[utoipa::path(get, path = "/v1/rooms/{room}/entries", tag = "entries", params(("room" = String, Path), From),
    responses((status = 200, body = schema::Page)))]
async fn page(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
    Query(query): Query<From>,
) -> Result<Answer<Page>, Problem> {
    let from = match (query.before, query.after, query.around) {
        (None, None, None) => None,
        (Some(seq), None, None) => Some(HistoryFrom::Before(seq)),
        (None, Some(seq), None) => Some(HistoryFrom::After(seq)),
        (None, None, Some(seq)) => Some(HistoryFrom::Around(seq)),
        _ => return Err(Problem::new(ErrorCode::Invalid, "at most one of before, after and around")),
    };
    let limit = query.limit.unwrap_or(limits::PAGE_DEFAULT).clamp(1, limits::PAGE_ENTRIES);
    Ok(Answer(rest.rooms.page(who.user, room, from, limit).await?))
}

/// Say something.
#[utoipa::path(post, path = "/v1/rooms/{room}/entries", tag = "entries", params(("room" = String, Path)),
    request_body = Post, responses((status = 201, body = Posted)))]
async fn post(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
    headers: HeaderMap,
    Json(post): Json<Post>,
) -> Result<(StatusCode, Answer<Posted>), Problem> {
    if !post.kind.is_sendable() {
        return Err(Problem::new(ErrorCode::Unsupported, "no kind that clients send"));
    }
    if post.kind.needs_target() != post.target.is_some() {
        return Err(Problem::field("target", "needed by all kinds but message"));
    }
    let (writer, n) = match (post.writer, post.n) {
        (Some(writer), Some(n)) if (1..=limits::MAX_COUNTER).contains(&n) => (writer, n),
        (None, None) => (WriterId::from_u128(rest.chance.bits()), 1),
        _ => return Err(Problem::field("n", "a counter from 1, together with writer, or neither")),
    };
    let trace = headers.get("traceparent").and_then(|header| header.to_str().ok());
    let draft = Draft {
        user: who.user,
        writer,
        n,
        kind: post.kind,
        target: post.target,
        body: post.body,
        trace: trace.and_then(TraceContext::parse).unwrap_or_default(),
    };
    let (seq, at) = rest.rooms.post(room, draft).await?;
    Ok((StatusCode::CREATED, Answer(Posted { seq, at })))
}

/// Move one's read mark forward.
#[utoipa::path(put, path = "/v1/rooms/{room}/read", tag = "entries", params(("room" = String, Path)),
    request_body = Read, responses((status = 204)))]
async fn read(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
    Json(Read { seq }): Json<Read>,
) -> Result<StatusCode, Problem> {
    if seq > limits::MAX_COUNTER {
        return Err(Problem::field("seq", "no such entry"));
    }
    rest.users.read(who.user, room, seq).await?;
    Ok(StatusCode::NO_CONTENT)
}
