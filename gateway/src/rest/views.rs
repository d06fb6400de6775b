//! What REST tells: the JSON of people, rooms and members.

use protocol::{
    DeviceId, Entry, InviteId, Millis, RoomId, Seq, UserId,
    entry::{Durability, HistoryAccess, Role, Visibility},
};
use serde::{Deserialize, Serialize};
use store::{
    accounts::{SignIn, UserRecord},
    members::{InviteRecord, RoomRecord},
};
use utoipa::{IntoParams, ToSchema};

use crate::rest::schema;

/// Items in a page when the request does not say.
const PAGE_DEFAULT: usize = 50;
/// Most items of a page.
const PAGE_MOST: usize = 100;

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Most items; 1 to 100, 50 without.
    pub(crate) limit: Option<usize>,
    /// `next` of the page before.
    pub(crate) cursor: Option<String>,
}

/// A page's size within bounds.
pub(crate) fn page_size(limit: Option<usize>) -> usize {
    limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MOST)
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Items<T> {
    /// In the list's order.
    pub(crate) items: Vec<T>,
    /// What to ask for the next part; null at the end.
    pub(crate) next: Option<String>,
}

/// A whole list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct All<T> {
    /// In the list's order.
    pub(crate) items: Vec<T>,
}

/// What others see of a person.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Profile {
    /// Who.
    #[schema(value_type = String)]
    pub(crate) id: UserId,
    /// The name to sign in with.
    pub(crate) name: String,
    /// The name to show.
    pub(crate) display_name: String,
    /// Colour of their avatar, `#rrggbb`.
    pub(crate) colour: String,
}

impl From<UserRecord> for Profile {
    fn from(user: UserRecord) -> Self {
        Self { id: user.user, name: user.name, display_name: user.display_name, colour: user.colour }
    }
}

/// What people see of themselves.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct OwnProfile {
    #[serde(flatten)]
    profile: Profile,
    /// Their full name.
    #[serde(skip_serializing_if = "Option::is_none")]
    full_name: Option<String>,
    /// Their address.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// When.
    created_at: Millis,
}

impl From<UserRecord> for OwnProfile {
    fn from(mut user: UserRecord) -> Self {
        let (full_name, email) = (user.full_name.take(), user.email.take());
        let created_at = user.created_at;
        Self { profile: user.into(), full_name, email, created_at }
    }
}

/// One device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceView {
    /// Its id.
    #[schema(value_type = String)]
    device: DeviceId,
    /// What it is called.
    label: String,
    /// When it signed in.
    created_at: Millis,
    /// Its last refresh.
    last_used_at: Millis,
    /// Whether it is the one that asks.
    current: bool,
}

impl DeviceView {
    /// The device, seen from `current`.
    pub(crate) fn new(sign_in: SignIn, current: DeviceId) -> Self {
        Self {
            device: sign_in.device,
            label: sign_in.label,
            created_at: sign_in.created_at,
            last_used_at: sign_in.last_used_at,
            current: sign_in.device == current,
        }
    }
}

/// A room.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Room)]
pub(crate) struct RoomView {
    /// Its id.
    #[schema(value_type = String)]
    id: RoomId,
    /// Shown name; absent in direct rooms.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    name: String,
    /// What it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    topic: String,
    #[schema(value_type = schema::Visibility)]
    visibility: Visibility,
    #[schema(value_type = schema::Durability)]
    durability: Durability,
    #[schema(value_type = schema::HistoryAccess)]
    history: HistoryAccess,
    /// Least seconds between two sends of a member; 0 is off.
    slow_mode_s: u32,
    /// When.
    created_at: Millis,
    /// By whom.
    #[schema(value_type = String)]
    created_by: UserId,
    /// Members.
    member_count: u64,
}

impl From<RoomRecord> for RoomView {
    fn from(room: RoomRecord) -> Self {
        Self {
            id: room.room,
            name: room.name,
            topic: room.topic,
            visibility: room.visibility,
            durability: room.durability,
            history: room.history,
            slow_mode_s: room.slow_mode_s,
            created_at: room.created_at,
            created_by: room.created_by,
            member_count: room.joined,
        }
    }
}

/// A room as somebody finds it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct MyRoom {
    #[serde(flatten)]
    pub(crate) room: RoomView,
    /// Their role; null for who is no member.
    #[schema(value_type = Option<schema::Role>)]
    pub(crate) role: Option<Role>,
    /// How they stand to it.
    pub(crate) state: Standing,
    /// Its newest entry; members only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<Seq>,
    /// Entries above the read mark; members only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unread: Option<u64>,
    /// The read mark; members only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_seq: Option<Seq>,
    /// The newest entry itself; in lists, members only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Entry>)]
    pub(crate) last: Option<Entry>,
    /// The other one of a direct room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<Profile>,
}

/// How somebody stands to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// In.
    Joined,
    /// May come in.
    Invited,
    /// Put out for good.
    Banned,
    /// Nothing of these.
    None,
}

/// Somebody's membership.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub(crate) struct MemberView {
    /// Who.
    pub(crate) user: Profile,
    #[schema(value_type = schema::Role)]
    pub(crate) role: Role,
    /// How they stand to the room.
    pub(crate) state: Standing,
    /// May not send before; told to administrators and to themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) muted_until: Option<Millis>,
    /// The entry that made this state.
    pub(crate) since_seq: Seq,
}

/// An invitation by link, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invite)]
pub(crate) struct InviteView {
    /// Its id.
    #[schema(value_type = String)]
    id: InviteId,
    /// By whom.
    #[schema(value_type = String)]
    created_by: UserId,
    /// When.
    created_at: Millis,
    /// Not valid from then on.
    expires_at: Millis,
    /// Most joins; absent without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_uses: Option<u32>,
    /// Joins so far.
    uses: u32,
}

impl From<&InviteRecord> for InviteView {
    fn from(invite: &InviteRecord) -> Self {
        Self {
            id: invite.invite,
            created_by: invite.created_by,
            created_at: invite.created_at,
            expires_at: invite.expires_at,
            max_uses: invite.max_uses,
            uses: invite.uses,
        }
    }
}
