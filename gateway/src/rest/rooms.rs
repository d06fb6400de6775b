//! Rooms: making, finding, showing and changing them.

use actors::rooms::{Command, NewRoom, direct_room};
use axum::{Json as Answer, extract::State};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use protocol::{
    ErrorCode, RoomId, UserId,
    entry::{Durability, HistoryAccess, Visibility},
};
use serde::Deserialize;
use store::members::{RoomRecord, UserRoom};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::rest::{
    Rest, Shared,
    access::Access,
    audit::Act,
    extract::{Address, Json, Path, Query, SignedIn},
    problem::Problem,
    schema,
    validate::Rules,
    views::{Items, MyRoom, PageQuery, Profile, RoomView, Standing, page_size},
};

/// Rooms of a list that are looked at together.
const AT_ONCE: usize = 8;

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Rest> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(public))
        .routes(routes!(direct))
        .routes(routes!(show, update, delete))
}

/// A room to make.
#[derive(Deserialize, ToSchema)]
struct Wish {
    /// 1 to 64 characters.
    name: String,
    /// At most 256 characters.
    topic: Option<String>,
    /// `public` or `private`.
    #[schema(value_type = schema::Visibility)]
    visibility: Visibility,
    /// `durable` without.
    #[schema(value_type = Option<schema::Durability>)]
    durability: Option<Durability>,
    /// `all` without.
    #[schema(value_type = Option<schema::HistoryAccess>)]
    history: Option<HistoryAccess>,
}

/// What changes; the rest stays.
#[derive(Deserialize, ToSchema)]
struct Update {
    /// 1 to 64 characters.
    name: Option<String>,
    /// At most 256 characters.
    topic: Option<String>,
    /// `public` or `private`.
    #[schema(value_type = Option<schema::Visibility>)]
    visibility: Option<Visibility>,
    #[schema(value_type = Option<schema::HistoryAccess>)]
    history: Option<HistoryAccess>,
    /// Least seconds between two sends of a member; 0 is off, at most six hours.
    slow_mode_s: Option<u32>,
}

/// What to find.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Search {
    /// A part of the name; all without.
    q: Option<String>,
    /// Most items; 1 to 100, 50 without.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Make a room.
#[utoipa::path(post, path = "/v1/rooms", tag = "rooms", request_body = Wish,
    responses((status = 201, body = RoomView)))]
async fn create(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Address(address): Address,
    Json(wish): Json<Wish>,
) -> Result<(StatusCode, Answer<RoomView>), Problem> {
    let mut rules = Rules::default();
    let name = rules.room_name(&wish.name);
    let topic = rules.topic(wish.topic.as_deref().unwrap_or_default());
    not_direct(&mut rules, Some(wish.visibility));
    rules.done()?;
    let new = NewRoom {
        room: RoomId::from_u128(rest.chance.bits()),
        by: who.user,
        peer: None,
        name,
        topic,
        visibility: wish.visibility,
        durability: wish.durability.unwrap_or(Durability::Durable),
        history: wish.history.unwrap_or(HistoryAccess::All),
    };
    let room = rest.rooms.create(new).await?;
    rest.note(Act::by(who.user, "room.created").on(room.room).from(address)).await;
    Ok((StatusCode::CREATED, Answer(room.into())))
}

fn not_direct(rules: &mut Rules, visibility: Option<Visibility>) {
    rules.require(visibility != Some(Visibility::Direct), "visibility", "public or private");
}

/// The one room with somebody; made if there is none.
#[utoipa::path(put, path = "/v1/direct/{user}", tag = "rooms", params(("user" = String, Path)),
    responses((status = 200, body = MyRoom)))]
async fn direct(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(peer): Path<UserId>,
) -> Result<Answer<MyRoom>, Problem> {
    if peer == who.user {
        return Err(Problem::new(ErrorCode::Invalid, "nobody has a direct room with themselves"));
    }
    let id = direct_room(who.user, peer);
    if rest.store.room(id).await?.is_none() {
        make_direct(&rest, who.user, peer).await?;
    }
    show_room(&rest, id, who.user).await.map(Answer)
}

async fn make_direct(rest: &Rest, by: UserId, peer: UserId) -> Result<(), Problem> {
    let other = rest.person(peer).await?;
    if other.disabled {
        return Err(Problem::new(ErrorCode::NotFound, "no such person"));
    }
    if rest.blocks(peer, by).await? {
        return Err(blocked());
    }
    let new = NewRoom {
        room: direct_room(by, peer),
        by,
        peer: Some(peer),
        name: String::new(),
        topic: String::new(),
        visibility: Visibility::Direct,
        durability: Durability::Durable,
        history: HistoryAccess::All,
    };
    let room = rest.rooms.create(new).await?;
    // Blocks that are older than the room, or were made while it was: it has to know of them.
    for (user, other) in [(by, peer), (peer, by)] {
        if rest.blocks(user, other).await? {
            rest.rooms.command(room.room, user, Command::Block).await?;
        }
    }
    Ok(())
}

pub(crate) fn blocked() -> Problem {
    Problem::new(ErrorCode::Blocked, "this person does not want to hear from you")
}

/// One's rooms: joined, and invited to.
#[utoipa::path(get, path = "/v1/rooms", tag = "rooms", params(PageQuery),
    responses((status = 200, body = Items<MyRoom>)))]
async fn list(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Query(query): Query<PageQuery>,
) -> Result<Answer<Items<MyRoom>>, Problem> {
    let mine = rest.store.rooms_of(who.user, query.cursor.as_deref(), page_size(query.limit)).await?;
    let views = stream::iter(mine.items).map(|room| rest.my_room(who.user, room, true)).buffered(AT_ONCE);
    Ok(Answer(Items { items: views.try_collect().await?, next: mine.next }))
}

/// Find public rooms.
#[utoipa::path(get, path = "/v1/rooms/public", tag = "rooms", params(Search),
    responses((status = 200, body = Items<RoomView>)))]
async fn public(
    State(rest): State<Rest>,
    Query(query): Query<Search>,
) -> Result<Answer<Items<RoomView>>, Problem> {
    let text = query.q.unwrap_or_default();
    let found = rest.store.search_rooms(&text, query.cursor.as_deref(), page_size(query.limit)).await?;
    Ok(Answer(Items { items: found.items.into_iter().map(RoomView::from).collect(), next: found.next }))
}

/// Show a room.
#[utoipa::path(get, path = "/v1/rooms/{room}", tag = "rooms", params(("room" = String, Path)),
    responses((status = 200, body = MyRoom)))]
async fn show(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
) -> Result<Answer<MyRoom>, Problem> {
    show_room(&rest, room, who.user).await.map(Answer)
}

/// Change a room.
#[utoipa::path(patch, path = "/v1/rooms/{room}", tag = "rooms", params(("room" = String, Path)),
    request_body = Update, responses((status = 200, body = RoomView)))]
async fn update(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
    Json(wish): Json<Update>,
) -> Result<Answer<RoomView>, Problem> {
    let mut rules = Rules::default();
    let name = wish.name.map(|name| rules.room_name(&name));
    let topic = wish.topic.map(|topic| rules.topic(&topic));
    not_direct(&mut rules, wish.visibility);
    rules.slow_mode(wish.slow_mode_s.unwrap_or(0));
    rules.done()?;
    let (visibility, history, slow_mode_s) = (wish.visibility, wish.history, wish.slow_mode_s);
    let command = Command::Update { name, topic, visibility, history, slow_mode_s };
    Ok(Answer(rest.rooms.command(room, who.user, command).await?.into()))
}

/// Delete a room.
#[utoipa::path(delete, path = "/v1/rooms/{room}", tag = "rooms", params(("room" = String, Path)),
    responses((status = 204)))]
async fn delete(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Address(address): Address,
    Path(room): Path<RoomId>,
) -> Result<StatusCode, Problem> {
    rest.rooms.command(room, who.user, Command::Delete).await?;
    rest.note(Act::by(who.user, "room.deleted").on(room).from(address)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The room as somebody finds it who may see it.
pub(crate) async fn show_room(rest: &Rest, room: RoomId, user: UserId) -> Result<MyRoom, Problem> {
    let Access { room, member } = rest.access(room, user).await?.may_see()?;
    rest.my_room(user, UserRoom { room, member }, false).await
}

impl Shared {
    /// A room as `user` finds it, with its newest entry if `last` is wanted.
    pub(crate) async fn my_room(&self, user: UserId, mine: UserRoom, last: bool) -> Result<MyRoom, Problem> {
        let unread_after = mine.unread_after();
        let UserRoom { room, member } = mine;
        let id = room.room;
        let joined = member.is_joined();
        let mut view = MyRoom {
            role: joined.then_some(member.role),
            state: Standing::of(member.state),
            head: None,
            unread: None,
            read_seq: None,
            last: None,
            peer: self.peer(user, &room).await?,
            room: room.into(),
        };
        if joined {
            // The page knows the head as of now; a room that can't be read just now still has one in the list.
            let page = if last { self.rooms.page(user, id, None, 1).await.ok() } else { None };
            let head = match &page {
                Some(page) => page.head,
                None => self.store.heads(&[id]).await?.first().copied().unwrap_or(0),
            };
            let read = self.store.read_marks(user, &[id]).await?.first().copied().unwrap_or(0);
            let read = read.max(unread_after);
            view.head = Some(head);
            view.read_seq = Some(read);
            view.unread = Some(head.saturating_sub(read));
            view.last = page.and_then(|page| page.entries.into_iter().next_back());
        }
        Ok(view)
    }

    /// The other one of a direct room.
    async fn peer(&self, user: UserId, room: &RoomRecord) -> Result<Option<Profile>, Problem> {
        if room.visibility != Visibility::Direct {
            return Ok(None);
        }
        let members = self.store.members(room.room, None, None, 2).await?;
        let Some(other) = members.items.into_iter().map(|member| member.user).find(|other| *other != user)
        else {
            return Ok(None);
        };
        Ok(self.store.user(other).await?.map(Profile::from))
    }
}
