//! How far people have read, and when they were last there.

use async_trait::async_trait;
use protocol::{Millis, RoomId, Seq, UserId};

use crate::StoreError;

/// Read marks and last seen.
#[async_trait]
pub trait Marks: Send + Sync {
    /// Moves a read mark forward; one that lies behind is ignored. Returns where it stands now.
    async fn put_read_mark(&self, user: UserId, room: RoomId, seq: Seq) -> Result<Seq, StoreError>;

    /// A user's read marks in these rooms; 0 where there is none. In the order of `rooms`.
    async fn read_marks(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError>;

    /// Notes when a user was last there; never moves back.
    async fn put_last_seen(&self, user: UserId, at: Millis) -> Result<(), StoreError>;

    /// When these users were last there, if ever; in the order of `users`.
    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<Option<Millis>>, StoreError>;
}
