//! What a room has accepted and not yet made durable, in the order of its log, and how that is cut into groups.

use std::collections::VecDeque;

use protocol::{
    Body, Entry, ErrorCode, InviteId, Kind, Millis, Seq, UserId, WriterId,
    entry::{Durability, RoomChange},
};
use store::{
    log::{BUCKET_ROWS, GROUP_BYTES, GROUP_ROWS, Row, WriterMark},
    members::{Derived, MaskRecord, MemberRecord, RoomRecord},
};
use telemetry::TraceContext;

use super::{CommandReply, ReplyTo};
use crate::admission::Permit;

/// Answers that one send can be waiting for: two sockets that each tried a few times. Further ones replace the oldest.
const REPLIES: usize = 8;

/// An accepted entry on its way into the log.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Its place in the room's stream.
    pub(crate) seq: Seq,
    /// Its place in the room's log: the same, but for an ephemeral room.
    pub(crate) log_seq: Seq,
    pub(crate) at: Millis,
    pub(crate) from: UserId,
    pub(crate) writer: WriterId,
    pub(crate) n: u64,
    pub(crate) kind: Kind,
    pub(crate) target: Option<Seq>,
    pub(crate) body: Body,
    /// What it changes besides; `None` for what people say.
    pub(crate) change: Option<Change>,
    pub(crate) replies: Vec<ReplyTo>,
    pub(crate) commands: Vec<CommandReply>,
    pub(crate) trace: TraceContext,
    /// Holds the room's admission until the entry is durable.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(crate) permit: Option<Permit>,
}

/// What an entry does to room and members: their state right after it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) room: RoomRecord,
    pub(crate) member: Option<MemberRecord>,
    /// More members, in the entry that creates a room's second half.
    pub(crate) invite_uses: Option<(InviteId, u32)>,
    /// Somebody hears the room no more, and why.
    pub(crate) ends: Option<(UserId, ErrorCode)>,
    /// Everybody hears it no more.
    pub(crate) deleted: bool,
}

impl Change {
    /// Only the room changes.
    pub(crate) fn of_room(room: RoomRecord, change: &RoomChange) -> Self {
        Self { room, member: None, invite_uses: None, ends: None, deleted: change.deleted }
    }

    fn cuts(&self) -> bool {
        self.ends.is_some() || self.deleted
    }
}

impl Waiting {
    /// Somebody else waits for the same answer.
    pub(crate) fn also_tell(&mut self, reply: ReplyTo) {
        if let Some(earlier) = self.replies.iter_mut().find(|earlier| earlier.is_same_session(&reply)) {
            *earlier = reply;
            return;
        }
        if self.replies.len() == REPLIES {
            self.replies.remove(0);
        }
        self.replies.push(reply);
    }

    /// As the room's members see it.
    pub(crate) fn entry(&self) -> Entry {
        Entry {
            seq: self.seq,
            at: self.at,
            from: self.from,
            kind: self.kind.clone(),
            target: self.target,
            body: Some(self.body.clone()),
            masked: None,
            writer: None,
            n: None,
        }
    }

    fn row(&self, epoch: u64) -> Row {
        Row {
            seq: self.log_seq,
            epoch,
            writer: self.writer,
            n: self.n,
            from: self.from,
            at: self.at,
            kind: self.kind.clone(),
            target: self.target,
            body: Some(self.body.clone()),
        }
    }

    fn bytes(&self) -> usize {
        self.body.as_json().len()
    }
}

/// Takes the next group off the queue: what becomes durable, and then visible, together.
///
/// At most [`GROUP_ROWS`] entries and [`GROUP_BYTES`], all in one bucket of the log. The end of somebody's membership
/// ends its group, so that they hear nothing after it. In an ephemeral room a group is all log or all stream.
pub(crate) fn take_group(queue: &mut VecDeque<Waiting>, durability: Durability) -> Vec<Waiting> {
    let Some(first) = queue.front() else { return Vec::new() };
    let logged = |waiting: &Waiting| durability == Durability::Durable || waiting.change.is_some();
    let first_logged = logged(first);
    let free = usize::try_from(BUCKET_ROWS - (first.log_seq - 1) % BUCKET_ROWS).unwrap_or(GROUP_ROWS);
    let most = if first_logged { GROUP_ROWS.min(free) } else { GROUP_ROWS };
    let mut bytes = 0;
    let mut count = 0;
    for waiting in queue.iter().take(most) {
        bytes += waiting.bytes();
        if logged(waiting) != first_logged || (count > 0 && bytes > GROUP_BYTES) {
            break;
        }
        count += 1;
        if waiting.change.as_ref().is_some_and(Change::cuts) {
            break;
        }
    }
    queue.drain(..count).collect()
}

/// The rows of a group, and what follows from it for the derived tables.
pub(crate) fn rows_and_derived(group: &[Waiting], epoch: u64, durability: Durability) -> (Vec<Row>, Derived) {
    let rows = group.iter().map(|waiting| waiting.row(epoch)).collect();
    let mut derived = Derived::default();
    for waiting in group {
        if let Some(change) = &waiting.change {
            derived.room = Some(RoomRecord { applied_seq: waiting.log_seq, ..change.room.clone() });
            if let Some(member) = change.member {
                derived.members.retain(|earlier| earlier.user != member.user);
                derived.members.push(member);
            }
            if let Some((invite, uses)) = change.invite_uses {
                derived.invites.retain(|(earlier, _)| *earlier != invite);
                derived.invites.push((invite, uses));
            }
        }
        if durability == Durability::Ephemeral {
            continue;
        }
        if let (Kind::Deletion, Some(target)) = (&waiting.kind, waiting.target) {
            derived.masks.push(MaskRecord { target, by: waiting.seq });
        }
        if waiting.n > 0 {
            derived.marks.retain(|earlier: &WriterMark| earlier.writer != waiting.writer);
            derived.marks.push(WriterMark { writer: waiting.writer, n: waiting.n, seq: waiting.seq });
        }
    }
    (rows, derived)
}
