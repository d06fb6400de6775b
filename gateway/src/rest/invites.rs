//! Invitations by link. Of the secret only its hash is kept; uses are counted by the room, in its log.

use axum::{Json as Answer, extract::State};
use http::StatusCode;
use protocol::{ErrorCode, InviteId, Millis, RoomId, entry::Visibility};
use serde::{Deserialize, Serialize};
use store::members::InviteRecord;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::secret::InviteSecret,
    rest::{
        Rest,
        extract::{Json, MaybeJson, Path, SignedIn},
        problem::Problem,
        validate::Rules,
        views::{All, InviteView},
    },
};

const DAY_S: u64 = 24 * 60 * 60;
/// How long an invitation is valid when the request does not say.
const DEFAULT_S: u64 = 7 * DAY_S;
/// Longest validity.
const MOST_S: u64 = 30 * DAY_S;
/// Most joins by one invitation, where they are limited.
const MOST_USES: u32 = 10_000;

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Rest> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke)).routes(routes!(preview))
}

/// An invitation to make.
#[derive(Default, Deserialize, ToSchema)]
struct Wish {
    /// Valid for so many seconds; 7 days without, at most 30 days.
    expires_in_s: Option<u64>,
    /// Most joins, 1 to 10,000; without limit if absent.
    max_uses: Option<u32>,
}

/// A new invitation: the only time that its secret is told.
#[derive(Serialize, ToSchema)]
struct NewInvite {
    #[serde(flatten)]
    invite: InviteView,
    /// What opens the door.
    secret: String,
    /// The link to send.
    url: String,
}

/// What a link says.
#[derive(Deserialize, ToSchema)]
struct Link {
    #[schema(value_type = String)]
    room: RoomId,
    secret: String,
}

/// Where a link leads.
#[derive(Serialize, ToSchema)]
struct Preview {
    room: PreviewRoom,
    /// Not valid from then on.
    expires_at: Millis,
}

/// A room, as far as the invited are told before they come in.
#[derive(Serialize, ToSchema)]
struct PreviewRoom {
    #[schema(value_type = String)]
    id: RoomId,
    name: String,
    topic: String,
    member_count: u64,
}

/// List the invitations that are valid.
#[utoipa::path(get, path = "/v1/rooms/{room}/invites", tag = "invites", params(("room" = String, Path)),
    responses((status = 200, body = All<InviteView>)))]
async fn list(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
) -> Result<Answer<All<InviteView>>, Problem> {
    rest.access(room, who.user).await?.may_administer()?;
    let invites = rest.store.invites(room, rest.clock.now()).await?;
    Ok(Answer(All { items: invites.iter().map(InviteView::from).collect() }))
}

/// Make an invitation.
#[utoipa::path(post, path = "/v1/rooms/{room}/invites", tag = "invites", params(("room" = String, Path)),
    request_body = Option<Wish>, responses((status = 201, body = NewInvite)))]
async fn create(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path(room): Path<RoomId>,
    MaybeJson(wish): MaybeJson<Wish>,
) -> Result<(StatusCode, Answer<NewInvite>), Problem> {
    let seconds = wish.expires_in_s.unwrap_or(DEFAULT_S);
    let mut rules = Rules::default();
    rules.require((1..=MOST_S).contains(&seconds), "expires_in_s", format!("1 to {MOST_S} seconds"));
    let uses = wish.max_uses.is_none_or(|uses| (1..=MOST_USES).contains(&uses));
    rules.require(uses, "max_uses", format!("1 to {MOST_USES}"));
    rules.done()?;
    let access = rest.access(room, who.user).await?.may_administer()?;
    if access.room.visibility == Visibility::Direct {
        return Err(Problem::new(ErrorCode::Forbidden, "nobody else comes into a direct room"));
    }
    let secret = InviteSecret::random(&*rest.chance);
    let now = rest.clock.now();
    let invite = InviteRecord {
        invite: InviteId::from_u128(rest.chance.bits()),
        room,
        secret_hash: secret.hash(),
        created_by: who.user,
        created_at: now,
        expires_at: now + seconds * 1000,
        max_uses: wish.max_uses,
        uses: 0,
        revoked: false,
    };
    rest.store.create_invite(&invite).await?;
    let secret = secret.text();
    let url = format!("{}/#/invite/{room}/{secret}", rest.settings.public_url.trim_end_matches('/'));
    Ok((StatusCode::CREATED, Answer(NewInvite { invite: InviteView::from(&invite), secret, url })))
}

/// Withdraw an invitation.
#[utoipa::path(delete, path = "/v1/rooms/{room}/invites/{invite}", tag = "invites",
    params(("room" = String, Path), ("invite" = String, Path)), responses((status = 204)))]
async fn revoke(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Path((room, invite)): Path<(RoomId, InviteId)>,
) -> Result<StatusCode, Problem> {
    rest.access(room, who.user).await?.may_administer()?;
    if !rest.store.revoke_invite(room, invite).await? {
        return Err(Problem::new(ErrorCode::NotFound, "no such invitation"));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// See where a link leads before coming in.
#[utoipa::path(post, path = "/v1/invites/preview", tag = "invites", request_body = Link,
    responses((status = 200, body = Preview)))]
async fn preview(State(rest): State<Rest>, Json(link): Json<Link>) -> Result<Answer<Preview>, Problem> {
    let invite = valid_invite(&rest, link.room, &link.secret).await?;
    let room = rest.store.room(link.room).await?.filter(|room| !room.deleted).ok_or_else(invalid)?;
    let room = PreviewRoom { id: room.room, name: room.name, topic: room.topic, member_count: room.joined };
    Ok(Answer(Preview { room, expires_at: invite.expires_at }))
}

/// The invitation with this secret, if it still opens the door. The room has the last word.
pub(crate) async fn valid_invite(rest: &Rest, room: RoomId, secret: &str) -> Result<InviteRecord, Problem> {
    let secret = InviteSecret::parse(secret).ok_or_else(invalid)?;
    let invite = rest.store.invite_by_secret(room, secret.hash()).await?.ok_or_else(invalid)?;
    let used_up = invite.max_uses.is_some_and(|most| invite.uses >= most);
    if invite.revoked || used_up || invite.expires_at <= rest.clock.now() {
        return Err(invalid());
    }
    Ok(invite)
}

fn invalid() -> Problem {
    Problem::new(ErrorCode::InviteInvalid, "the invitation does not exist, has expired or is used up")
}
