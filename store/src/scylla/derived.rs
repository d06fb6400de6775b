//! The tables that follow from the log, written behind it: an append is acknowledged first, unless it changes the room or
//! its members. What fails is tried again, and of each room only the newest state is ever waiting.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{RoomId, Seq, entry::Visibility};
use scylla::{
    serialize::row::SerializeRow,
    statement::{
        batch::{Batch, BatchStatement, BatchType},
        prepared::PreparedStatement,
    },
};

use super::{
    Core, FAN_OUT,
    codec::{int, member_values},
    rooms::{directory_slot, index_slot},
};
use crate::{
    StoreError,
    backoff::Backoff,
    listing,
    log::{WriterMark, bucket_of},
    members::{Derived, MaskRecord, MemberRecord, RoomRecord},
    words::Named,
};

/// Upserts of one batch, all in one partition.
const BATCH_ROWS: usize = 100;

/// Rooms of which it is remembered how far their derived tables are. Beyond them it is forgotten, which costs their
/// owners one upsert that was made already.
const REMEMBERED: usize = 100_000;

/// What is written behind.
pub(super) struct Behind {
    core: Arc<Core>,
    rooms: Arc<Mutex<HashMap<RoomId, Room>>>,
}

/// A room's derived tables.
#[derive(Default)]
struct Room {
    /// They reflect the log up to here.
    upto: Seq,
    /// A task writes.
    is_writing: bool,
    /// What it writes next: everything that its owner knows not to be reflected.
    next: Option<(Seq, Derived)>,
}

impl Behind {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, rooms: Arc::default() }
    }

    /// As [`Self::follow`], but comes back when it is written; soon after, if the first try fails.
    pub(super) async fn lead(&self, room: RoomId, upto: Seq, derived: &Derived) -> Seq {
        match self.core.put_derived(room, derived).await {
            Ok(()) => upto,
            Err(_) => self.follow(room, upto, derived),
        }
    }

    /// Writes what follows from a log up to `upto`, soon: it holds all that earlier calls held and that was not told to
    /// be written. Gives how far the tables are by now, as far as is known here.
    pub(super) fn follow(&self, room: RoomId, upto: Seq, derived: &Derived) -> Seq {
        let mut rooms = lock(&self.rooms);
        if rooms.len() >= REMEMBERED {
            rooms.retain(|_, room| room.is_writing);
        }
        let known = rooms.entry(room).or_default();
        let before = known.upto;
        known.next = Some((upto, derived.clone()));
        if !known.is_writing {
            known.is_writing = true;
            tokio::spawn(write(self.core.clone(), self.rooms.clone(), room));
        }
        before
    }
}

impl Behind {
    /// Rooms whose tables are being written.
    pub(super) fn writing(&self) -> u64 {
        lock(&self.rooms).values().filter(|room| room.is_writing).count() as u64
    }
}

fn lock(rooms: &Mutex<HashMap<RoomId, Room>>) -> MutexGuard<'_, HashMap<RoomId, Room>> {
    rooms.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what waits, until nothing does.
async fn write(core: Arc<Core>, rooms: Arc<Mutex<HashMap<RoomId, Room>>>, room: RoomId) {
    let mut backoff = Backoff::new(room.as_u128());
    while let Some((upto, derived)) = next(&rooms, room) {
        match core.put_derived(room, &derived).await {
            Ok(()) => {
                backoff = Backoff::new(room.as_u128());
                if let Some(known) = lock(&rooms).get_mut(&room) {
                    known.upto = known.upto.max(upto);
                }
            }
            Err(error) => {
                if backoff.tries() == 0 {
                    tracing::warn!(%room, %error, "derived tables not written, trying again");
                }
                if let Some(known) = lock(&rooms).get_mut(&room) {
                    known.next.get_or_insert((upto, derived));
                }
                backoff.wait().await;
            }
        }
    }
}

/// What is to be written, or the end of writing.
fn next(rooms: &Mutex<HashMap<RoomId, Room>>, room: RoomId) -> Option<(Seq, Derived)> {
    match lock(rooms).entry(room) {
        Entry::Vacant(_) => None,
        Entry::Occupied(mut known) => {
            let next = known.get_mut().next.take();
            known.get_mut().is_writing = next.is_some();
            next
        }
    }
}

impl Core {
    /// Upserts that an older state never wins: their timestamps are sequence numbers.
    pub(super) async fn put_derived(&self, room: RoomId, derived: &Derived) -> Result<(), StoreError> {
        // The room's record tells how far the others are, so it comes last.
        self.put_members(room, &derived.members).await?;
        self.put_masks(room, &derived.masks).await?;
        self.put_marks(room, &derived.marks).await?;
        for (invite, uses) in &derived.invites {
            let values = (i64::from(*uses), i64::from(*uses), room.to_bytes(), invite.to_bytes());
            self.upsert(&self.statements.put_invite_uses, values).await?;
        }
        match &derived.room {
            Some(record) => self.put_room(record).await,
            None => Ok(()),
        }
    }

    async fn put_room(&self, record: &RoomRecord) -> Result<(), StoreError> {
        let id = record.room.to_bytes();
        self.upsert(&self.statements.put_index, (index_slot(record.room), id)).await?;
        let listed = record.visibility == Visibility::Public && !record.deleted;
        let directory =
            (directory_slot(record.room), id, listing::key(&record.name), listed, int(record.applied_seq));
        self.upsert(&self.statements.put_directory, directory).await?;
        let values = (
            id,
            record.visibility.word(),
            record.durability.word(),
            record.history.word(),
            &record.name,
            &record.topic,
            i64::from(record.slow_mode_s),
            int(record.created_at),
            record.created_by.to_bytes(),
            int(record.joined),
            record.deleted,
            int(record.applied_seq),
            int(record.applied_seq),
        );
        self.upsert(&self.statements.put_room, values).await
    }

    async fn put_members(&self, room: RoomId, members: &[MemberRecord]) -> Result<(), StoreError> {
        let values: Vec<_> = members.iter().map(|member| member_values(room, member)).collect();
        self.upsert_partition(&self.statements.put_member, &values).await?;
        stream::iter(members.to_vec())
            .map(|member| self.upsert(&self.statements.put_user_room, member_values(room, &member)))
            .buffer_unordered(FAN_OUT)
            .try_collect()
            .await
    }

    async fn put_masks(&self, room: RoomId, masks: &[MaskRecord]) -> Result<(), StoreError> {
        for masks in masks.chunk_by(|one, next| bucket_of(one.target.max(1)) == bucket_of(next.target.max(1)))
        {
            let values = masks.iter().map(|mask| {
                let bucket = int(bucket_of(mask.target.max(1)));
                (room.to_bytes(), bucket, int(mask.target), int(mask.by), int(mask.by))
            });
            self.upsert_partition(&self.statements.put_mask, &values.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    async fn put_marks(&self, room: RoomId, marks: &[WriterMark]) -> Result<(), StoreError> {
        let values = marks
            .iter()
            .map(|mark| (room.to_bytes(), mark.writer.to_bytes(), int(mark.n), int(mark.seq), int(mark.seq)));
        self.upsert_partition(&self.statements.put_mark, &values.collect::<Vec<_>>()).await
    }

    /// Upserts into one partition, many a request.
    async fn upsert_partition<V: SerializeRow>(
        &self,
        statement: &PreparedStatement,
        values: &[V],
    ) -> Result<(), StoreError> {
        for values in values.chunks(BATCH_ROWS) {
            if let [values] = values {
                self.upsert(statement, values).await?;
                continue;
            }
            let mut batch = Batch::new(BatchType::Unlogged);
            batch.set_execution_profile_handle(statement.get_execution_profile_handle().cloned());
            batch.set_is_idempotent(true);
            for _ in values {
                batch.append_statement(BatchStatement::PreparedStatement(statement.clone()));
            }
            self.upserted(self.session.batch(&batch, values).await)?;
        }
        Ok(())
    }
}
