//! What a room knows and decides. No socket, no store, no clock, no await: inputs in, outputs out.
//!
//! The state at the *end of the queue* (who is a member, how far writers have counted) decides what is accepted, so
//! sends are authorised in the order of the log. What members see is the *committed* part only. If the store refuses a
//! group, the room gives up: everything unanswered is refused, and the next use claims the room anew.

use std::collections::{HashMap, HashSet, VecDeque};

use protocol::{
    Body, Entry, ErrorCode, Incarnation, InviteId, Kind, Millis, RoomId, Seq, UserId, WriterId,
    client::HistoryFrom,
    entry::{Durability, HistoryAccess, Membership, MembershipChange, Role, RoomChange, Visibility},
    limits,
    server::{Ack, Gap, Opened, Page, Reset},
};
use store::{
    StoreError,
    log::{DURABLE_INCARNATION, Row, WriterMark},
    members::{Derived, MemberRecord, MemberState, RoomRecord},
    reader::Roster,
};
use telemetry::TraceContext;
use tokio::sync::oneshot;

use super::{
    CommandReply, ReplyTo, Unanswered,
    queue::{self, Change, Waiting},
    rights,
    ring::Ring,
    writers::{Standing, Writers},
};
use crate::{
    admission::Permit,
    rooms::{Command, Draft, NewRoom, Open},
    session::{Refusal, Session},
};

/// Entries that a session gets first when it does not say where it stopped.
const FIRST_ENTRIES: u64 = 50;
/// Sends of one writer that wait for an answer of the store: what a session may have unanswered.
const PARKED: usize = limits::WINDOW_SENDS * 2;

/// What a room is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// A session wants to hear the room.
    Open(Opening),
    /// Somebody says something.
    Send(Send),
    /// Somebody wants something done.
    Command { by: UserId, command: Command, reply: CommandReply, trace: TraceContext },
    /// Somebody makes the room.
    Create { new: Box<NewRoom>, reply: CommandReply },
    /// The store knows this of a writer.
    WriterLoaded { writer: WriterId, mark: Result<Option<WriterMark>, StoreError> },
    /// The store knows this of an entry that somebody wants to change.
    TargetLoaded { writer: WriterId, target: Seq, found: Result<Option<Target>, StoreError> },
    /// Somebody reads what an ephemeral room still holds.
    Recent(Recent),
    /// The group is in the log, whose rows are reflected in the writers' marks up to here.
    Appended { marked_upto: Seq },
    /// The group is not in the log and never will be.
    AppendRefused(StoreError),
}

impl Input {
    /// Whether it makes a room that is not there.
    pub(crate) fn creates(&self) -> bool {
        matches!(self, Self::Create { .. })
    }
}

/// A send with the way to answer it.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) draft: Draft,
    pub(crate) reply: ReplyTo,
    pub(crate) permit: Option<Permit>,
}

/// A wish to hear the room.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) open: Open,
    pub(crate) unanswered: Unanswered,
    /// Holds the room's admission until the room has decided.
    pub(crate) permit: Option<Permit>,
}

impl Opening {
    pub(crate) fn new(open: Open, permit: Option<Permit>) -> Self {
        Self { unanswered: Unanswered::new(&open), open, permit }
    }
}

/// A wish to read the newest entries, with the way to answer it.
#[derive(Debug)]
pub(crate) struct Recent {
    pub(crate) user: UserId,
    pub(crate) from: Option<HistoryFrom>,
    pub(crate) limit: usize,
    pub(crate) reply: oneshot::Sender<Result<Page, ErrorCode>>,
    /// Holds the room's admission until it is answered.
    pub(crate) _permit: Option<Permit>,
}

/// What must be known of an entry to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) author: UserId,
    /// Something said, so something that can be withdrawn.
    pub(crate) is_said: bool,
    /// Withdrawn already: no other content is given to it.
    pub(crate) is_masked: bool,
}

/// What a room does.
#[derive(Debug)]
pub(crate) enum Output {
    /// Make these rows durable; answered `Appended` or `AppendRefused`.
    Append { rows: Vec<Row>, derived: Derived },
    /// Ask the store about a writer.
    LoadWriter(WriterId),
    /// Ask the store about an entry.
    LoadTarget { writer: WriterId, target: Seq },
    /// Show this to everybody who hears the room, and acknowledge.
    Deliver(Delivery),
    /// Acknowledge a repeat.
    Ack { to: ReplyTo, ack: Ack },
    /// Refuse a send.
    Refuse { to: ReplyTo, writer: WriterId, n: u64, refusal: Refusal },
    /// Answer a command.
    Done { to: CommandReply, result: Result<RoomRecord, Refusal> },
    /// Answer a reader.
    Page { to: oneshot::Sender<Result<Page, ErrorCode>>, page: Result<Page, ErrorCode> },
    /// Let a session hear the room.
    Admit(Admit),
    /// Do not let it.
    Shut { session: Session, id: Option<u64>, code: ErrorCode },
    /// Somebody's place in the room changed: so does their list of rooms.
    Member { user: UserId, state: MemberState, head: Seq },
    /// End: nothing more can be accepted here.
    Retire,
}

/// A committed group.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// In order, without holes.
    pub(crate) entries: Vec<Entry>,
    /// Who waited for which.
    pub(crate) acks: Vec<(ReplyTo, Ack)>,
    /// Who hears nothing after it, and why.
    pub(crate) ends: Option<(UserId, ErrorCode)>,
    /// Nobody hears anything after it.
    pub(crate) deleted: bool,
    /// Of its first followed message; spans are made of it once telemetry is there.
    #[expect(dead_code, reason = "carried for the spans to come")]
    pub(crate) trace: TraceContext,
}

impl Delivery {
    /// Nothing but answers.
    pub(crate) fn answers(acks: Vec<(ReplyTo, Ack)>) -> Self {
        Self { entries: Vec::new(), acks, ends: None, deleted: false, trace: TraceContext::NONE }
    }
}

/// A session that may hear the room, and from where.
#[derive(Debug)]
pub(crate) struct Admit {
    pub(crate) session: Session,
    /// First of all, if its position is void.
    pub(crate) reset: Option<Reset>,
    pub(crate) opened: Opened,
    /// Named before the entries.
    pub(crate) gap: Option<Gap>,
    /// The stream begins after this entry.
    pub(crate) start: Seq,
    pub(crate) unanswered: Unanswered,
}

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
    writers: Writers,
    parked: HashMap<WriterId, Parked>,
    invite_uses: HashMap<InviteId, u32>,
    /// When members last spoke; kept while slow mode is on.
    last_sent: HashMap<UserId, Millis>,
    /// Whether this node may still append; false once another owner was seen.
    is_owner: bool,
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
            writers,
            parked: HashMap::new(),
            invite_uses: HashMap::new(),
            last_sent: HashMap::new(),
            is_owner: true,
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
            Input::Appended { marked_upto } => {
                self.commit(out);
                // Of an ephemeral room's writers nothing but this memory knows.
                if self.durability() == Durability::Durable {
                    self.writers.trim(marked_upto);
                }
            }
            Input::AppendRefused(error) => return self.give_up(&error, out),
        }
        self.append_waiting(out);
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
        self.queue.is_empty() && self.flight.is_empty() && self.parked.is_empty()
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
        let Opening { open, mut unanswered, permit: _permit } = opening;
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
            (Durability::Durable, HistoryAccess::All) => 1,
            (Durability::Durable, HistoryAccess::SinceJoined) => member.joined_seq.max(1),
        }
    }
}

/// Saying.
impl RoomState {
    fn send(&mut self, send: Send, now: Millis, out: &mut Vec<Output>) {
        if let Some(parked) = self.parked.get_mut(&send.draft.writer) {
            if parked.sends.len() < PARKED {
                parked.sends.push_back(send);
            } else {
                refuse(send, Refusal::new(ErrorCode::Overloaded, "too much waits").retry_after(1_000), out);
            }
            return;
        }
        match self.writers.standing(&send.draft) {
            Standing::Next => self.accept(send, now, out),
            Standing::NotLoaded if self.durability() == Durability::Ephemeral => {
                if self.writers.is_full() {
                    let refusal = Refusal::new(ErrorCode::Overloaded, "too many writers in this room");
                    return refuse(send, refusal.retry_after(60_000), out);
                }
                // Nobody but this memory could know it, so it can't be a repeat: the rights come first.
                if let Err(refusal) = self.check(&send.draft, now) {
                    return refuse(send, refusal, out);
                }
                self.writers.load(send.draft.writer, None);
                let writer = send.draft.writer;
                self.send(send, now, out);
                self.writers.forget_unused(writer);
            }
            Standing::NotLoaded => {
                out.push(Output::LoadWriter(send.draft.writer));
                self.park(send);
            }
            Standing::Waiting => {
                let same =
                    |waiting: &&mut Waiting| waiting.writer == send.draft.writer && waiting.n == send.draft.n;
                if let Some(waiting) = self.flight.iter_mut().chain(&mut self.queue).find(same) {
                    waiting.also_tell(send.reply);
                }
            }
            Standing::Done { seq, at } => {
                let ack = Ack { room: self.id, writer: send.draft.writer, n: send.draft.n, seq, at };
                out.push(Output::Ack { to: send.reply, ack });
            }
            Standing::Stored(seq) => {
                let mut refusal = Refusal::new(ErrorCode::Stored, "stored earlier; too old to compare");
                refusal.seq = seq;
                refusal.definite = false;
                refuse(send, refusal, out);
            }
            Standing::Conflict => {
                let mut refusal =
                    Refusal::new(ErrorCode::Conflict, "this counter was used for other content");
                refusal.definite = false;
                refuse(send, refusal, out);
            }
            Standing::OutOfOrder { expected } => {
                // In an ephemeral room a repeat may have been said in an earlier life: nobody can tell.
                let lost = self.durability() == Durability::Ephemeral && send.reply.is_repeat();
                let code = if lost { ErrorCode::Unknown } else { ErrorCode::OutOfOrder };
                let mut refusal = Refusal::new(code, "counters have no jumps");
                refusal.expected = Some(expected);
                refusal.definite = !lost;
                refuse(send, refusal, out);
            }
            Standing::Foreign => {
                refuse(send, Refusal::new(ErrorCode::Forbidden, "the writer belongs to another user"), out);
            }
        }
    }

    /// The writer's next send: accepted if rights, content and pace allow it. A refusal does not consume the counter.
    fn accept(&mut self, send: Send, now: Millis, out: &mut Vec<Output>) {
        if self.durability() == Durability::Ephemeral && send.reply.is_repeat() {
            let mut refusal =
                Refusal::new(ErrorCode::Unknown, "it may have been said before the room restarted");
            refusal.definite = false;
            return refuse(send, refusal, out);
        }
        match self.check(&send.draft, now) {
            Err(refusal) => refuse(send, refusal, out),
            Ok(Checked::Fine) => {
                self.writers.accept(&send.draft);
                if self.record.as_ref().is_some_and(|record| record.slow_mode_s > 0) {
                    self.last_sent.insert(send.draft.user, now);
                }
                self.enqueue_said(send, now);
            }
            Ok(Checked::AskTarget(target)) => {
                out.push(Output::LoadTarget { writer: send.draft.writer, target });
                self.park(send);
            }
        }
    }

    fn check(&self, draft: &Draft, now: Millis) -> Result<Checked, Refusal> {
        let record = self.living()?;
        let member = self.member(draft.user);
        rights::may_send(&member, now)?;
        if !draft.kind.is_sendable() {
            return Err(Refusal::new(ErrorCode::Unsupported, "clients do not send entries of this kind"));
        }
        if draft.kind.needs_target() != draft.target.is_some() {
            return Err(Refusal::new(
                ErrorCode::Invalid,
                "a reply, edit, deletion or reaction, and nothing else, has a target",
            ));
        }
        self.check_pace(record, &member, now)?;
        let Some(target) = draft.target else { return Ok(Checked::Fine) };
        let first = self.first_readable(record, &member);
        if target < first || target > self.head {
            return Err(Refusal::new(ErrorCode::NotFound, "no such entry to speak of"));
        }
        let by_right: fn(&MemberRecord, UserId) -> Result<(), Refusal> = match draft.kind {
            Kind::Deletion => rights::may_delete,
            Kind::Edit => rights::may_edit,
            Kind::Message | Kind::Reply | Kind::Reaction | Kind::Membership | Kind::Room | Kind::Other(_) => {
                return Ok(Checked::Fine);
            }
        };
        match self.target(draft.writer, target) {
            Some(Some(found)) if found.is_masked && draft.kind == Kind::Edit => {
                Err(Refusal::new(ErrorCode::Invalid, "what was deleted is not changed"))
            }
            Some(Some(found)) if found.is_said => by_right(&member, found.author).map(|()| Checked::Fine),
            Some(Some(_)) => Err(Refusal::new(ErrorCode::Invalid, "only what people say is changed")),
            Some(None) => Err(Refusal::new(ErrorCode::NotFound, "no such entry to speak of")),
            None => Ok(Checked::AskTarget(target)),
        }
    }

    fn check_pace(&self, record: &RoomRecord, member: &MemberRecord, now: Millis) -> Result<(), Refusal> {
        let pause = Millis::from(record.slow_mode_s) * 1_000;
        if pause == 0 || member.role >= Role::Admin {
            return Ok(());
        }
        let next = self.last_sent.get(&member.user).map_or(0, |last| last + pause);
        if next > now {
            return Err(Refusal::new(ErrorCode::RateLimited, "slow mode").retry_after(next - now));
        }
        Ok(())
    }

    /// What is known of an entry: `None` if the store must be asked, `Some(None)` if there is none.
    fn target(&self, writer: WriterId, seq: Seq) -> Option<Option<Target>> {
        if let Some(entry) = self.ring.get(seq) {
            let (is_said, is_masked) = (is_said(&entry.kind), entry.masked.is_some());
            return Some(Some(Target { author: entry.from, is_said, is_masked }));
        }
        if self.durability() == Durability::Ephemeral {
            return Some(None);
        }
        let asked = self.parked.get(&writer)?.target.as_ref()?;
        (asked.0 == seq).then_some(asked.1)
    }

    fn enqueue_said(&mut self, send: Send, now: Millis) {
        self.end += 1;
        if self.durability() == Durability::Durable {
            self.log_end += 1;
        }
        let Draft { user, writer, n, kind, target, body, trace } = send.draft;
        self.queue.push_back(Waiting {
            seq: self.end,
            log_seq: self.log_end,
            at: now,
            from: user,
            writer,
            n,
            kind,
            target,
            body,
            change: None,
            replies: vec![send.reply],
            commands: Vec::new(),
            trace,
            permit: send.permit,
        });
    }

    fn park(&mut self, send: Send) {
        self.parked.entry(send.draft.writer).or_default().sends.push_front(send);
    }

    fn writer_loaded(
        &mut self,
        writer: WriterId,
        mark: Result<Option<WriterMark>, StoreError>,
        now: Millis,
        out: &mut Vec<Output>,
    ) {
        match mark {
            Ok(mark) => {
                self.writers.load(writer, mark);
                self.unpark(writer, now, out);
            }
            Err(error) => self.refuse_parked(writer, &error, out),
        }
    }

    fn target_loaded(
        &mut self,
        writer: WriterId,
        target: Seq,
        found: Result<Option<Target>, StoreError>,
        now: Millis,
        out: &mut Vec<Output>,
    ) {
        match found {
            Ok(found) => {
                if let Some(parked) = self.parked.get_mut(&writer) {
                    parked.target = Some((target, found));
                }
                self.unpark(writer, now, out);
            }
            Err(error) => self.refuse_parked(writer, &error, out),
        }
    }

    /// Goes on with a writer's sends until one has to wait again. The first one is decided with what was asked for it.
    fn unpark(&mut self, writer: WriterId, now: Millis, out: &mut Vec<Output>) {
        let Some(mut parked) = self.parked.remove(&writer) else { return };
        if let Some(asked) = parked.target.take()
            && let Some(first) = parked.sends.pop_front()
        {
            // Decided in the presence of the answer, which `target` looks for here.
            self.parked.insert(writer, Parked { sends: VecDeque::new(), target: Some(asked) });
            self.accept(first, now, out);
            self.parked.remove(&writer);
        }
        while let Some(send) = parked.sends.pop_front() {
            self.send(send, now, out);
            if let Some(again) = self.parked.get_mut(&writer) {
                again.sends.append(&mut parked.sends);
            }
        }
        self.writers.forget_unused(writer);
    }

    fn refuse_parked(&mut self, writer: WriterId, error: &StoreError, out: &mut Vec<Output>) {
        let Some(parked) = self.parked.remove(&writer) else { return };
        for send in parked.sends {
            refuse(send, unavailable(error), out);
        }
    }
}

enum Checked {
    Fine,
    AskTarget(Seq),
}

/// Whether an entry is something that people say, and so can be withdrawn or changed.
pub(crate) fn is_said(kind: &Kind) -> bool {
    kind.is_sendable() && *kind != Kind::Deletion
}

/// Changing room and members.
impl RoomState {
    fn create(&mut self, new: NewRoom, reply: CommandReply, now: Millis, out: &mut Vec<Output>) {
        if let Some(record) = &self.record {
            let same = record.visibility == Visibility::Direct && new.visibility == Visibility::Direct;
            let result = if same && !record.deleted {
                return self.answer_in_order(reply, out);
            } else {
                Err(Refusal::new(ErrorCode::Conflict, "the room exists"))
            };
            out.push(Output::Done { to: reply, result });
            return;
        }
        self.record = Some(RoomRecord {
            room: self.id,
            visibility: new.visibility,
            durability: new.durability,
            history: new.history,
            name: new.name.clone(),
            topic: new.topic.clone(),
            slow_mode_s: 0,
            created_at: now,
            created_by: new.by,
            joined: 0,
            deleted: false,
            applied_seq: 0,
        });
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let change = RoomChange {
            created: true,
            name: named(&new.name),
            topic: named(&new.topic),
            visibility: Some(new.visibility),
            history: Some(new.history),
            durability: Some(new.durability),
            ..RoomChange::default()
        };
        self.enqueue_room(new.by, &change, now, TraceContext::NONE);
        for user in std::iter::once(new.by).chain(new.peer) {
            let change = MembershipChange {
                user,
                change: Membership::Joined,
                role: Some(Role::Owner),
                until: None,
                invite: None,
            };
            self.enqueue_member(new.by, &change, now, TraceContext::NONE);
        }
        self.answer_in_order(reply, out);
    }

    fn command(
        &mut self,
        by: UserId,
        command: Command,
        reply: CommandReply,
        trace: TraceContext,
        now: Millis,
        out: &mut Vec<Output>,
    ) {
        let refused = match self.decide(by, &command, now) {
            Ok(false) => None,
            Ok(true) => {
                self.carry_out(by, command, now, trace);
                None
            }
            Err(refusal) => Some(refusal),
        };
        match refused {
            Some(refusal) => out.push(Output::Done { to: reply, result: Err(refusal) }),
            None => self.answer_in_order(reply, out),
        }
    }

    fn decide(&self, by: UserId, command: &Command, now: Millis) -> Result<bool, Refusal> {
        let room = self.living()?;
        let actor = self.member(by);
        let subject = self.subject(by, command).map(|user| self.member(user));
        let invite_uses = match command {
            Command::Join { invite: Some(invite) } => {
                self.invite_uses.get(&invite.invite).copied().unwrap_or(0)
            }
            _ => 0,
        };
        let owners =
            self.members.values().filter(|member| member.is_joined() && member.role == Role::Owner).count();
        rights::may_command(
            command,
            &rights::Situation { room, actor: &actor, subject: subject.as_ref(), owners, invite_uses, now },
        )
    }

    /// Whom a command concerns, where that is not (only) the one who gives it.
    fn subject(&self, by: UserId, command: &Command) -> Option<UserId> {
        match command {
            Command::Invite(user)
            | Command::Kick(user)
            | Command::Ban(user)
            | Command::Unban(user)
            | Command::Unmute(user)
            | Command::Mute { user, .. }
            | Command::SetRole { user, .. } => Some(*user),
            Command::Block | Command::Unblock => self.members.keys().copied().find(|user| *user != by),
            Command::Join { .. } | Command::Leave | Command::Update { .. } | Command::Delete => None,
        }
    }

    fn carry_out(&mut self, by: UserId, command: Command, now: Millis, trace: TraceContext) {
        let subject = self.subject(by, &command).unwrap_or(by);
        let mut change = MembershipChange {
            user: subject,
            change: Membership::Joined,
            role: None,
            until: None,
            invite: None,
        };
        match command {
            Command::Join { invite } => {
                if let Some(invite) = invite {
                    let uses = self.invite_uses.entry(invite.invite).or_insert(0);
                    *uses = invite.uses.max(*uses) + 1;
                    change.invite = Some(invite.invite);
                }
            }
            Command::Leave => change.change = Membership::Left,
            Command::Invite(_) => change.change = Membership::Invited,
            Command::Kick(_) => change.change = Membership::Kicked,
            Command::Ban(_) => change.change = Membership::Banned,
            Command::Unban(_) => change.change = Membership::Unbanned,
            Command::Mute { until, .. } => {
                change.change = Membership::Muted;
                change.until = until;
            }
            Command::Unmute(_) => change.change = Membership::Unmuted,
            Command::SetRole { role, .. } => {
                change.change = Membership::Role;
                change.role = Some(role);
            }
            Command::Block => change.change = Membership::Blocked,
            Command::Unblock => change.change = Membership::Unblocked,
            Command::Update { name, topic, visibility, history, slow_mode_s } => {
                let change =
                    RoomChange { name, topic, visibility, history, slow_mode_s, ..RoomChange::default() };
                return self.enqueue_room(by, &change, now, trace);
            }
            Command::Delete => {
                let change = RoomChange { deleted: true, ..RoomChange::default() };
                return self.enqueue_room(by, &change, now, trace);
            }
        }
        self.enqueue_member(by, &change, now, trace);
    }

    fn enqueue_room(&mut self, by: UserId, change: &RoomChange, now: Millis, trace: TraceContext) {
        let Some(record) = &mut self.record else { return };
        record.apply(change);
        let effect = Change::of_room(record.clone(), change);
        self.enqueue_change(by, Kind::Room, to_body(change), effect, now, trace);
    }

    fn enqueue_member(&mut self, by: UserId, change: &MembershipChange, now: Millis, trace: TraceContext) {
        let mut member = self.member(change.user);
        let was_in = member.is_joined();
        member.apply(change, self.log_end + 1);
        self.members.insert(change.user, member);
        let Some(record) = &mut self.record else { return };
        match (was_in, member.is_joined()) {
            (false, true) => record.joined += 1,
            (true, false) => record.joined = record.joined.saturating_sub(1),
            (true, true) | (false, false) => {}
        }
        let code =
            if change.change == Membership::Banned { ErrorCode::Banned } else { ErrorCode::NotAMember };
        let effect = Change {
            room: record.clone(),
            member: Some(member),
            invite_uses: change.invite.and_then(|invite| Some((invite, *self.invite_uses.get(&invite)?))),
            ends: (was_in && !member.is_joined()).then_some((change.user, code)),
            deleted: false,
        };
        self.enqueue_change(by, Kind::Membership, to_body(change), effect, now, trace);
    }

    fn enqueue_change(
        &mut self,
        by: UserId,
        kind: Kind,
        body: Body,
        change: Change,
        now: Millis,
        trace: TraceContext,
    ) {
        self.end += 1;
        self.log_end += 1;
        self.queue.push_back(Waiting {
            seq: self.end,
            log_seq: self.log_end,
            at: now,
            from: by,
            writer: WriterId::from_u128(0),
            n: 0,
            kind,
            target: None,
            body,
            change: Some(change),
            replies: Vec::new(),
            commands: Vec::new(),
            trace,
            permit: None,
        });
    }

    /// Answers a command once everything accepted so far is durable.
    fn answer_in_order(&mut self, reply: CommandReply, out: &mut Vec<Output>) {
        match self.queue.back_mut().or(self.flight.last_mut()) {
            Some(last) => last.commands.push(reply),
            None => {
                let result = self.living().cloned();
                out.push(Output::Done { to: reply, result });
            }
        }
    }
}

/// Making durable, then visible.
impl RoomState {
    fn append_waiting(&mut self, out: &mut Vec<Output>) {
        while self.is_owner && self.flight.is_empty() && !self.queue.is_empty() {
            let durability = self.durability();
            self.flight = queue::take_group(&mut self.queue, durability);
            let is_logged = durability == Durability::Durable || self.flight[0].change.is_some();
            if is_logged {
                let (rows, derived) = queue::rows_and_derived(&self.flight, self.epoch, durability);
                out.push(Output::Append { rows, derived });
                return;
            }
            self.commit(out);
        }
    }

    fn commit(&mut self, out: &mut Vec<Output>) {
        let group = std::mem::take(&mut self.flight);
        let Some(last) = group.last() else { return };
        self.head = last.seq;
        let mut delivery = Delivery {
            entries: Vec::with_capacity(group.len()),
            acks: Vec::new(),
            ends: last.change.as_ref().and_then(|change| change.ends),
            deleted: last.change.as_ref().is_some_and(|change| change.deleted),
            trace: group.iter().map(|waiting| waiting.trace).find(TraceContext::is_some).unwrap_or_default(),
        };
        let mut after = Vec::new();
        for waiting in group {
            self.commit_one(waiting, &mut delivery, &mut after);
        }
        out.push(Output::Deliver(delivery));
        out.append(&mut after);
        if self.record.as_ref().is_some_and(|record| record.deleted) && self.is_idle() {
            out.push(Output::Retire);
        }
    }

    fn commit_one(&mut self, waiting: Waiting, delivery: &mut Delivery, after: &mut Vec<Output>) {
        let entry = waiting.entry();
        if let (Kind::Deletion, Some(target)) = (&waiting.kind, waiting.target) {
            self.ring.mask(target);
        }
        self.ring.push(entry.clone());
        delivery.entries.push(entry);
        if waiting.n > 0 {
            self.writers.commit(waiting.writer, waiting.n, waiting.seq, waiting.at);
        }
        let ack =
            Ack { room: self.id, writer: waiting.writer, n: waiting.n, seq: waiting.seq, at: waiting.at };
        delivery.acks.extend(waiting.replies.into_iter().map(|reply| (reply, ack)));
        if let Some(change) = waiting.change {
            if let Some(member) = change.member {
                after.push(Output::Member { user: member.user, state: member.state, head: waiting.seq });
            }
            let record = RoomRecord { applied_seq: waiting.log_seq, ..change.room };
            after.extend(
                waiting.commands.into_iter().map(|to| Output::Done { to, result: Ok(record.clone()) }),
            );
        } else if let Some(record) = &self.record {
            after.extend(
                waiting.commands.into_iter().map(|to| Output::Done { to, result: Ok(record.clone()) }),
            );
        }
    }

    /// The store has definitely refused: so does the room, and ends. What it believed of the queue is void.
    fn give_up(&mut self, error: &StoreError, out: &mut Vec<Output>) {
        let refusal = unavailable(error);
        let unanswered = std::mem::take(&mut self.flight).into_iter().chain(std::mem::take(&mut self.queue));
        for waiting in unanswered {
            for to in waiting.replies {
                out.push(Output::Refuse {
                    to,
                    writer: waiting.writer,
                    n: waiting.n,
                    refusal: refusal.clone(),
                });
            }
            out.extend(
                waiting.commands.into_iter().map(|to| Output::Done { to, result: Err(refusal.clone()) }),
            );
        }
        for send in std::mem::take(&mut self.parked).into_values().flat_map(|parked| parked.sends) {
            refuse(send, refusal.clone(), out);
        }
        out.push(Output::Retire);
    }
}

/// The store did not do it, for certain.
pub(crate) fn unavailable(error: &StoreError) -> Refusal {
    let message = match error {
        StoreError::Full(_) => "the server's disk is full",
        _ => "the store is away",
    };
    Refusal::new(ErrorCode::Unavailable, message).retry_after(1_000)
}

fn refuse(send: Send, refusal: Refusal, out: &mut Vec<Output>) {
    out.push(Output::Refuse { to: send.reply, writer: send.draft.writer, n: send.draft.n, refusal });
}

fn to_body(change: &impl serde::Serialize) -> Body {
    let value = serde_json::to_value(change).expect("changes have string keys");
    Body::new(&value).expect("names and topics are bounded below a body's limit")
}
