//! Rooms, members and invitations: tables derived from the log, never the other way round.
//!
//! Each row carries the sequence number of the entry that made it, so an upsert of an older state never overwrites a
//! newer one, and a reader can tell how far behind the tables are ([`RoomRecord::applied_seq`]).

use async_trait::async_trait;
use protocol::{
    InviteId, Millis, RoomId, Seq, UserId,
    entry::{Durability, HistoryAccess, Membership, MembershipChange, Role, RoomChange, Visibility},
};
use serde::{Deserialize, Serialize};

use crate::{Listing, StoreError, log::WriterMark, retention::Policy};

/// A room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// Its id.
    pub room: RoomId,
    /// Who finds it.
    pub visibility: Visibility,
    /// Whether what is said in it is kept.
    pub durability: Durability,
    /// How far back members read.
    pub history: HistoryAccess,
    /// Shown name; empty in direct rooms.
    pub name: String,
    /// What it is about.
    pub topic: String,
    /// Least seconds between two sends of one member; 0 is off.
    pub slow_mode_s: u32,
    /// When.
    pub created_at: Millis,
    /// By whom.
    pub created_by: UserId,
    /// Members that have joined, as of `applied_seq`.
    pub joined: u64,
    /// It was deleted: nobody reads or sends any more.
    pub deleted: bool,
    /// Every membership and room entry up to here is reflected in this room's derived rows.
    pub applied_seq: Seq,
}

impl RoomRecord {
    /// The room after a room entry.
    pub fn apply(&mut self, change: &RoomChange) {
        if let Some(name) = &change.name {
            self.name.clone_from(name);
        }
        if let Some(topic) = &change.topic {
            self.topic.clone_from(topic);
        }
        self.visibility = change.visibility.unwrap_or(self.visibility);
        self.history = change.history.unwrap_or(self.history);
        self.slow_mode_s = change.slow_mode_s.unwrap_or(self.slow_mode_s);
        self.deleted |= change.deleted;
    }
}

/// Where somebody stands in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// In.
    Joined,
    /// May come in.
    Invited,
    /// Went.
    Left,
    /// Was put out, may come back.
    Kicked,
    /// Was put out for good.
    Banned,
}

/// Somebody's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRecord {
    /// Who.
    pub user: UserId,
    /// Where they stand.
    pub state: MemberState,
    /// What they may do, once joined.
    pub role: Role,
    /// May not send before; `Millis::MAX` is for good.
    pub muted_until: Option<Millis>,
    /// In a direct room: the other one does not want to hear them.
    pub blocked: bool,
    /// The entry of their last joining; 0 if they never did.
    pub joined_seq: Seq,
    /// The entry that made this state.
    pub changed_seq: Seq,
    /// The invitation by which they last joined.
    pub invite: Option<InviteId>,
}

impl MemberRecord {
    /// Somebody of whom the log says nothing.
    pub const fn stranger(user: UserId) -> Self {
        Self {
            user,
            state: MemberState::Left,
            role: Role::Member,
            muted_until: None,
            blocked: false,
            joined_seq: 0,
            changed_seq: 0,
            invite: None,
        }
    }

    /// Whether they are in.
    pub fn is_joined(&self) -> bool {
        self.state == MemberState::Joined
    }

    /// The membership after the entry `seq`.
    pub fn apply(&mut self, change: &MembershipChange, seq: Seq) {
        self.changed_seq = seq;
        match change.change {
            Membership::Joined => {
                self.state = MemberState::Joined;
                self.joined_seq = seq;
                self.invite = change.invite;
            }
            Membership::Invited => self.state = MemberState::Invited,
            Membership::Left => self.state = MemberState::Left,
            Membership::Unbanned => self.state = MemberState::Kicked,
            Membership::Kicked => self.state = MemberState::Kicked,
            Membership::Banned => self.state = MemberState::Banned,
            Membership::Muted => self.muted_until = Some(change.until.unwrap_or(Millis::MAX)),
            Membership::Unmuted => self.muted_until = None,
            Membership::Blocked => self.blocked = true,
            Membership::Unblocked => self.blocked = false,
            Membership::Role => {}
        }
        if !matches!(self.state, MemberState::Joined) {
            self.role = Role::Member;
        }
        if let Some(role) = change.role {
            self.role = role;
        }
    }
}

/// What one append means for the derived tables. All upserts, idempotent by sequence number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Derived {
    /// The room, if it changed; always present when `members` is not empty, with its new `applied_seq`.
    pub room: Option<RoomRecord>,
    /// Members that changed.
    pub members: Vec<MemberRecord>,
    /// Entries that are masked from now on.
    pub masks: Vec<MaskRecord>,
    /// Invitations that were used: their count of uses as of this append.
    pub invites: Vec<(InviteId, u32)>,
    /// Writers' new high-water marks.
    pub marks: Vec<WriterMark>,
}

impl Derived {
    /// Takes in what follows from later rows: of each thing only its newest state stays.
    pub fn absorb(&mut self, later: &Self) {
        if later.room.is_some() {
            self.room.clone_from(&later.room);
        }
        replace_by_key(&mut self.members, &later.members, |member| member.user);
        replace_by_key(&mut self.masks, &later.masks, |mask| mask.target);
        replace_by_key(&mut self.invites, &later.invites, |(invite, _)| *invite);
        replace_by_key(&mut self.marks, &later.marks, |mark| mark.writer);
    }

    /// Lets go of what follows from rows up to `upto`.
    pub fn forget(&mut self, upto: Seq) {
        self.room.take_if(|room| room.applied_seq <= upto);
        self.members.retain(|member| member.changed_seq > upto);
        self.masks.retain(|mask| mask.by > upto);
        self.marks.retain(|mark| mark.seq > upto);
        if self.members.is_empty() {
            // Each use is somebody's joining.
            self.invites.clear();
        }
    }
}

fn replace_by_key<T: Clone, K: PartialEq>(kept: &mut Vec<T>, later: &[T], key: fn(&T) -> K) {
    kept.retain(|old| later.iter().all(|new| key(new) != key(old)));
    kept.extend_from_slice(later);
}

/// An entry that a later one deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskRecord {
    /// The deleted entry.
    pub target: Seq,
    /// The deletion.
    pub by: Seq,
}

/// Masks of a range, with how far they are complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masks {
    /// In the order of targets.
    pub masks: Vec<MaskRecord>,
    /// Deletions above this entry may be missing: look for them in the log.
    pub applied_seq: Seq,
}

/// An invitation by link. The secret itself is never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRecord {
    /// Its id.
    pub invite: InviteId,
    /// To which room.
    pub room: RoomId,
    /// BLAKE3 of the secret.
    pub secret_hash: [u8; 32],
    /// By whom.
    pub created_by: UserId,
    /// When.
    pub created_at: Millis,
    /// Not valid from then on.
    pub expires_at: Millis,
    /// Most joins; `None` is without limit.
    pub max_uses: Option<u32>,
    /// Joins so far, derived from the log.
    pub uses: u32,
    /// Withdrawn.
    pub revoked: bool,
}

/// A room of somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRoom {
    /// The room.
    pub room: RoomRecord,
    /// Their membership in it.
    pub member: MemberRecord,
}

impl UserRoom {
    /// Nobody has to read what was there before they came. (What an ephemeral room says has other numbers than its log.)
    pub fn unread_after(&self) -> Seq {
        match self.room.durability {
            Durability::Durable => self.member.joined_seq,
            Durability::Ephemeral => 0,
        }
    }
}

/// Rooms and members.
#[async_trait]
pub trait Members: Send + Sync {
    /// A room.
    async fn room(&self, room: RoomId) -> Result<Option<RoomRecord>, StoreError>;

    /// Several rooms; those that do not exist are left out.
    async fn rooms(&self, rooms: &[RoomId]) -> Result<Vec<RoomRecord>, StoreError>;

    /// Public, undeleted rooms whose name contains `text` (ignoring ASCII case), by name.
    async fn search_rooms(
        &self,
        text: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<RoomRecord>, StoreError>;

    /// All rooms by id, for operators.
    async fn all_rooms(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<RoomRecord>, StoreError>;

    /// What an operator has chosen to keep of this room; `None` where the server's default counts.
    async fn retention(&self, room: RoomId) -> Result<Option<Policy>, StoreError>;

    /// Keeps such a choice, or takes it back.
    async fn set_retention(&self, room: RoomId, policy: Option<Policy>) -> Result<(), StoreError>;

    /// A membership.
    async fn member(&self, room: RoomId, user: UserId) -> Result<Option<MemberRecord>, StoreError>;

    /// Memberships in a state, by user id; all states if `None`.
    async fn members(
        &self,
        room: RoomId,
        state: Option<MemberState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<MemberRecord>, StoreError>;

    /// The undeleted rooms that a user has joined or is invited to, by room id.
    async fn rooms_of(
        &self,
        user: UserId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<UserRoom>, StoreError>;

    /// Every room in which a user has a place or had one, in whatever state they or the room are, by room id.
    async fn rooms_ever_of(
        &self,
        user: UserId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<RoomId>, StoreError>;

    /// Of `others`, those who have joined a room that `user` has joined too.
    async fn sharing_a_room(&self, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, StoreError>;

    /// Masks whose targets lie in `from ..= upto`.
    async fn masks(&self, room: RoomId, from: Seq, upto: Seq) -> Result<Masks, StoreError>;

    /// Keeps a new invitation.
    async fn create_invite(&self, invite: &InviteRecord) -> Result<(), StoreError>;

    /// An invitation.
    async fn invite(&self, room: RoomId, invite: InviteId) -> Result<Option<InviteRecord>, StoreError>;

    /// The invitation with this secret.
    async fn invite_by_secret(
        &self,
        room: RoomId,
        secret_hash: [u8; 32],
    ) -> Result<Option<InviteRecord>, StoreError>;

    /// A room's invitations that are neither revoked nor expired at `now`, newest first; at most 1,000.
    async fn invites(&self, room: RoomId, now: Millis) -> Result<Vec<InviteRecord>, StoreError>;

    /// Withdraws an invitation; `false` if there is none.
    async fn revoke_invite(&self, room: RoomId, invite: InviteId) -> Result<bool, StoreError>;
}
