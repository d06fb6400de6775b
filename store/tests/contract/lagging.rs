//! A store whose masks lag behind the log, as they may where they are written after it.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::{DeviceId, InviteId, Millis, RoomId, Seq, UserId, WriterId};
use rookery_store::{
    Accounts, Audit, Listing, Marks, Members, RoomLog, Store, StoreError,
    accounts::{NewUser, ProfileChange, SignIn, SigningKey, Ticket, TokenFamily, UserRecord},
    audit::AuditRecord,
    log::{Append, Appended, Cas, Kept, Row, Statics, WriterMark},
    members::{Derived, InviteRecord, Masks, MemberRecord, MemberState, RoomRecord, UserRoom},
    retention::Policy,
};

/// Knows masks of deletions up to `upto` only.
pub(crate) struct Lagging {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) upto: Seq,
}

/// Passes calls on to the store inside.
macro_rules! pass_on {
    ($to:ident: $(fn $call:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $to for Lagging {
            $(async fn $call(&self, $($argument: $kind),*) -> Result<$answer, StoreError> {
                pass_on!(@ $call self $($argument)*)
            })*
        }
    };
    (@ masks $self:ident $room:ident $from:ident $upto:ident) => {{
        let mut masks = $self.inner.masks($room, $from, $upto).await?;
        masks.masks.retain(|mask| mask.by <= $self.upto);
        Ok(Masks { applied_seq: $self.upto, ..masks })
    }};
    (@ $call:ident $self:ident $($argument:ident)*) => { $self.inner.$call($($argument),*).await };
}

pass_on! { RoomLog:
    fn bucket_hint(room: RoomId) -> u64;
    fn statics(room: RoomId, bucket: u64) -> Option<Statics>;
    fn create_bucket(room: RoomId, bucket: u64, statics: Statics) -> Cas;
    fn take_over(room: RoomId, bucket: u64, epoch: u64, last: Option<Seq>, new: u64, owner: u128) -> Cas;
    fn append(append: &Append) -> Cas<Appended>;
    fn rows_after(room: RoomId, after: Seq, upto: Seq, limit: usize) -> Vec<Row>;
    fn rows_before(room: RoomId, before: Seq, limit: usize) -> Vec<Row>;
    fn heads(rooms: &[RoomId]) -> Vec<Seq>;
    fn writer_mark(room: RoomId, writer: WriterId) -> Option<WriterMark>;
    fn writer_marks(room: RoomId, after: Option<WriterId>, limit: usize) -> Vec<WriterMark>;
    fn put_derived(room: RoomId, derived: &Derived) -> ();
    fn erase(room: RoomId, rows: &[Row]) -> bool;
    fn kept(room: RoomId) -> Kept;
    fn keep_from(room: RoomId, oldest: u64) -> ();
    fn empty_bucket(room: RoomId, bucket: u64, now: Millis) -> ();
}

pass_on! { Members:
    fn room(room: RoomId) -> Option<RoomRecord>;
    fn rooms(rooms: &[RoomId]) -> Vec<RoomRecord>;
    fn search_rooms(text: &str, cursor: Option<&str>, limit: usize) -> Listing<RoomRecord>;
    fn all_rooms(cursor: Option<&str>, limit: usize) -> Listing<RoomRecord>;
    fn retention(room: RoomId) -> Option<Policy>;
    fn set_retention(room: RoomId, policy: Option<Policy>) -> ();
    fn member(room: RoomId, user: UserId) -> Option<MemberRecord>;
    fn members(room: RoomId, state: Option<MemberState>, cursor: Option<&str>, limit: usize) -> Listing<MemberRecord>;
    fn rooms_of(user: UserId, cursor: Option<&str>, limit: usize) -> Listing<UserRoom>;
    fn rooms_ever_of(user: UserId, cursor: Option<&str>, limit: usize) -> Listing<RoomId>;
    fn sharing_a_room(user: UserId, others: &[UserId]) -> Vec<UserId>;
    fn masks(room: RoomId, from: Seq, upto: Seq) -> Masks;
    fn create_invite(invite: &InviteRecord) -> ();
    fn invite(room: RoomId, invite: InviteId) -> Option<InviteRecord>;
    fn invite_by_secret(room: RoomId, secret_hash: [u8; 32]) -> Option<InviteRecord>;
    fn invites(room: RoomId, now: Millis) -> Vec<InviteRecord>;
    fn revoke_invite(room: RoomId, invite: InviteId) -> bool;
}

pass_on! { Accounts:
    fn create_user(user: &UserRecord) -> NewUser;
    fn user(user: UserId) -> Option<UserRecord>;
    fn users(users: &[UserId]) -> Vec<UserRecord>;
    fn user_by_name(name: &str) -> Option<UserRecord>;
    fn users_by_prefix(prefix: &str, cursor: Option<&str>, limit: usize) -> Listing<UserRecord>;
    fn all_users(cursor: Option<&str>, limit: usize) -> Listing<UserRecord>;
    fn update_profile(user: UserId, change: &ProfileChange) -> Option<UserRecord>;
    fn set_password(user: UserId, password_hash: &str) -> bool;
    fn set_disabled(user: UserId, disabled: bool) -> bool;
    fn erase_profile(user: UserId) -> bool;
    fn block(user: UserId, other: UserId) -> ();
    fn unblock(user: UserId, other: UserId) -> ();
    fn blocked_by(user: UserId) -> Vec<UserId>;
    fn create_sign_in(sign_in: &SignIn) -> ();
    fn sign_in(device: DeviceId) -> Option<SignIn>;
    fn sign_ins(user: UserId) -> Vec<SignIn>;
    fn rotate_tokens(device: DeviceId, current: [u8; 32], next: TokenFamily, expires_at: Millis) -> bool;
    fn end_sign_in(device: DeviceId) -> bool;
    fn end_sign_ins(user: UserId, except: Option<DeviceId>) -> Vec<DeviceId>;
    fn put_ticket(hash: [u8; 32], ticket: Ticket) -> ();
    fn take_ticket(hash: [u8; 32], now: Millis) -> Option<Ticket>;
    fn signing_keys() -> Vec<SigningKey>;
    fn put_signing_key(key: &SigningKey) -> ();
    fn drop_signing_keys(before: Millis) -> ();
}

pass_on! { Marks:
    fn put_read_mark(user: UserId, room: RoomId, seq: Seq) -> Seq;
    fn read_marks(user: UserId, rooms: &[RoomId]) -> Vec<Seq>;
    fn put_last_seen(user: UserId, at: Millis) -> ();
    fn last_seen(users: &[UserId]) -> Vec<Option<Millis>>;
}

pass_on! { Audit:
    fn record(record: &AuditRecord) -> ();
    fn audit(cursor: Option<&str>, limit: usize) -> Listing<AuditRecord>;
}
