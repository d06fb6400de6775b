//! What a room knows and decides. No socket, no store, no clock, no await: inputs in, outputs out.
//!
//! The state at the *end of the queue* (who is a member, how far writers have counted) decides what is accepted, so
//! sends are authorised in the order of the log. What members see is the *committed* part only. If the store refuses a
//! group, the room gives up: everything unanswered is refused, and the next use claims the room anew.

mod changing;
mod committing;
mod erasing;
mod keeping;
mod saying;
mod talk;

use std::collections::{HashMap, HashSet, VecDeque};

use protocol::{
    Entry, ErrorCode, Incarnation, InviteId, Millis, RoomId, Seq, UserId, WriterId,
    entry::{Durability, HistoryAccess},
    limits,
    server::{Gap, Opened, Page, Reset},
};
use store::{
    log::{DURABLE_INCARNATION, Row, WriterMark},
    members::{MemberRecord, RoomRecord},
    reader::Roster,
};

use self::{erasing::Erasing, keeping::Keeping};
use super::{queue::Waiting, rights, ring::Ring, writers::Writers};
use crate::session::Refusal;

pub(crate) use committing::unavailable;
pub(crate) use keeping::may_have_old_buckets;
pub(crate) use saying::is_said;
pub(crate) use talk::{Admit, Delivery, Input, Opening, Output, Recent, Send, Target};

/// Entries that a session gets first when it does not say where it stopped.
const FIRST_ENTRIES: u64 = 50;
/// What a claim found, for the state to begin with.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) epoch: u64,
    pub(crate) log_head: Seq,
    pub(crate) rows: Vec<Row>,
    pub(crate) marks: Vec<WriterMark>,
    pub(crate) roster: Option<Roster>,
    /// Those of `rows` that are deleted.
    pub(crate) deleted: HashSet<Seq>,
    /// The oldest entry that is kept.
    pub(crate) first_kept: Seq,
}

/// One room.
#[derive(Debug)]
pub(crate) struct RoomState {
    id: RoomId,
    epoch: u64,
    /// `None` until the room is created.
    record: Option<RoomRecord>,
    members: HashMap<UserId, MemberRecord>,
    /// The newest committed entry of the stream.
    head: Seq,
    /// The end of the queue, in the stream and in the log.
    end: Seq,
    log_end: Seq,
    queue: VecDeque<Waiting>,
    /// The group that is being made durable.
    flight: Vec<Waiting>,
    ring: Ring,
    /// The oldest entry that is kept.
    first_kept: Seq,
    keeping: Keeping,
    erasing: Erasing,
    writers: Writers,
    parked: HashMap<WriterId, Parked>,
    invite_uses: HashMap<InviteId, u32>,
    /// When members last spoke; kept while slow mode is on.
    last_sent: HashMap<UserId, Millis>,
    /// Whether this node may still append; false once another owner was seen.
    is_owner: bool,
    /// Whether the right to append was asked for and has not come.
    is_turn_asked: bool,
}

/// Sends of a writer that wait for the store, in order.
#[derive(Debug, Default)]
struct Parked {
    sends: VecDeque<Send>,
    target: Option<(Seq, Option<Target>)>,
}

impl RoomState {
    pub(crate) fn new(id: RoomId, recovery: Recovery) -> Self {
        let (record, members) = match recovery.roster {
            Some(roster) => {
                (Some(roster.room), roster.members.into_iter().map(|member| (member.user, member)).collect())
            }
            None => (None, HashMap::new()),
        };
        let durable = record.as_ref().is_none_or(|record| record.durability == Durability::Durable);
        let mut ring = Ring::default();
        let mut writers = Writers::default();
        if durable {
            writers = Writers::recovered(&recovery.rows, &recovery.marks);
            recovery.rows.iter().for_each(|row| ring.push(store::reader::entry(row, None)));
            recovery.deleted.iter().for_each(|target| ring.mask(*target));
        }
        let head = if durable { recovery.log_head } else { 0 };
        Self {
            id,
            epoch: recovery.epoch,
            record,
            members,
            head,
            end: head,
            log_end: recovery.log_head,
            queue: VecDeque::new(),
            flight: Vec::new(),
            ring,
            first_kept: recovery.first_kept,
            keeping: Keeping::default(),
            erasing: Erasing::default(),
            writers,
            parked: HashMap::new(),
            invite_uses: HashMap::new(),
            last_sent: HashMap::new(),
            is_owner: true,
            is_turn_asked: false,
        }
    }

    pub(crate) fn handle(&mut self, input: Input, now: Millis, out: &mut Vec<Output>) {
        match input {
            Input::Open(opening) => self.open(opening, out),
            Input::Send(send) => self.send(send, now, out),
            Input::Command { by, command, reply, trace } => self.command(by, command, reply, trace, now, out),
            Input::Create { new, reply } => self.create(*new, reply, now, out),
            Input::WriterLoaded { writer, mark } => self.writer_loaded(writer, mark, now, out),
            Input::TargetLoaded { writer, target, found } => {
                self.target_loaded(writer, target, found, now, out)
            }
            Input::Recent(recent) => self.read_recent(recent, out),
            Input::Turn => {
                self.is_turn_asked = false;
                return self.append_waiting(true, out);
            }
            Input::Retain { reply } => self.retain(reply, out),
            Input::Retained(part) => self.retained(part, out),
            Input::Erase { user, reply } => self.erase(user, reply, out),
            Input::Erased(part) => self.erased(part, out),
            Input::Appended { marked_upto } => {
                let is_new_bucket = keeping::begins_a_bucket(&self.flight);
                self.commit(out);
                if is_new_bucket {
                    self.retain(None, out);
                }
                self.go_on_erasing(out);
                // Of an ephemeral room's writers nothing but this memory knows.
                if self.durability() == Durability::Durable {
                    self.writers.trim(marked_upto);
                }
            }
            Input::AppendRefused(error) => return self.give_up(&error, out),
        }
        self.append_waiting(false, out);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn head(&self) -> Seq {
        self.head
    }

    /// Which life of the room this is.
    pub(crate) fn incarnation(&self) -> Incarnation {
        match self.durability() {
            Durability::Durable => DURABLE_INCARNATION,
            Durability::Ephemeral => Incarnation(self.epoch),
        }
    }

    pub(crate) fn durability(&self) -> Durability {
        self.record.as_ref().map_or(Durability::Durable, |record| record.durability)
    }

    /// The newest entries, oldest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &Entry> {
        self.ring.iter()
    }

    /// Whether this user may read what the ring holds of an ephemeral room.
    pub(crate) fn may_read(&self, user: UserId) -> Result<(), ErrorCode> {
        self.living().map_err(|_| ErrorCode::NotFound)?;
        rights::may_open(&self.member(user))
    }

    /// Whether this node may still append.
    pub(crate) fn set_owner(&mut self, is_owner: bool) {
        self.is_owner = is_owner;
    }

    /// Whether nothing waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.flight.is_empty()
            && self.parked.is_empty()
            && self.keeping.is_idle()
            && self.erasing.is_idle()
    }

    fn living(&self) -> Result<&RoomRecord, Refusal> {
        self.record
            .as_ref()
            .filter(|record| !record.deleted)
            .ok_or_else(|| Refusal::new(ErrorCode::NotFound, "no such room"))
    }

    fn member(&self, user: UserId) -> MemberRecord {
        self.members.get(&user).copied().unwrap_or(MemberRecord::stranger(user))
    }
}

/// Hearing.
impl RoomState {
    fn open(&self, opening: Opening, out: &mut Vec<Output>) {
        let is_durable = self.durability() == Durability::Durable;
        let is_behind = is_durable && opening.open.after.is_some_and(|after| after > self.head);
        if !opening.is_verified && (is_behind || opening.epoch > self.epoch) {
            return out.push(Output::Verify(opening));
        }
        let Opening { open, mut unanswered, permit: _permit, .. } = opening;
        let Ok(record) = self.living() else {
            unanswered.answered();
            out.push(Output::Shut { session: open.session, id: open.id, code: ErrorCode::NotFound });
            return;
        };
        let member = self.member(open.session.user);
        if let Err(code) = rights::may_open(&member) {
            unanswered.answered();
            out.push(Output::Shut { session: open.session, id: open.id, code });
            return;
        }
        let incarnation = self.incarnation();
        let another_life = open.incarnation.is_some_and(|theirs| theirs != incarnation);
        let is_void = open.after.is_some_and(|after| another_life || after > self.head);
        let reset = is_void.then_some(Reset { room: self.id, head: self.head, incarnation });
        let newest = self.head.saturating_sub(FIRST_ENTRIES);
        let after = open.after.filter(|_| !is_void).unwrap_or(newest);
        let readable = self.first_readable(record, &member).saturating_sub(1);
        let start = after.max(readable).max(self.head.saturating_sub(limits::RESUME_ENTRIES as u64));
        let after = if open.after.is_none() || is_void { start } else { after };
        out.push(Output::Admit(Admit {
            reset,
            opened: Opened {
                id: open.id,
                room: self.id,
                incarnation,
                durability: record.durability,
                head: self.head,
                after,
                role: member.role,
            },
            gap: (start > after).then_some(Gap { room: self.id, after, upto: start }),
            start,
            session: open.session,
            unanswered,
        }));
    }

    fn read_recent(&self, recent: Recent, out: &mut Vec<Output>) {
        let page = self.may_read(recent.user).map(|()| Page {
            id: None,
            room: self.id,
            incarnation: self.incarnation(),
            head: self.head,
            first: self.ring.first().unwrap_or(self.head + 1),
            entries: self.ring.page(recent.from, recent.limit),
        });
        out.push(Output::Page { to: recent.reply, page });
    }

    /// The oldest entry of the stream that a member may see and the room can show.
    fn first_readable(&self, record: &RoomRecord, member: &MemberRecord) -> Seq {
        match (record.durability, record.history) {
            (Durability::Ephemeral, _) => self.ring.first().unwrap_or(self.head + 1),
            (Durability::Durable, HistoryAccess::All) => self.first_kept,
            (Durability::Durable, HistoryAccess::SinceJoined) => member.joined_seq.max(self.first_kept),
        }
    }
}
