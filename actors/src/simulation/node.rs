//! One room with its audience and clients; every queue is emptied as chance wills.

use std::{collections::VecDeque, sync::Arc};

use protocol::{
    Body, ErrorCode, Kind, RoomId, Seq, ServerFrame, UserId,
    client::HistoryFrom,
    entry::{Durability, HistoryAccess, Visibility},
    server::{Closed, Entries},
};
use store::{
    RoomLog, Store,
    memory::MemoryStore,
    owner::{self, AppendEnd, Batch, Ownership},
    reader,
};
use telemetry::TraceContext;
use tokio::{runtime::Runtime, sync::oneshot};

use super::{
    Dice,
    client::{Client, PlainJson, Said},
};
use crate::{
    Encode, Notice, Outbox,
    audience::{Hello, flight, state::AudienceState},
    room::{
        CommandReply, ReplyTo,
        state::{Admit, Delivery, Input, Opening, Output, Recovery, RoomState, Send, Target, is_said},
    },
    rooms::{Command, Draft, NewRoom, Open},
    session::{Class, Pushed, Refusal, Session},
};

const ROOM: RoomId = RoomId::from_u128(7);
const CLIENTS: u128 = 4;

enum ToAudience {
    Admit(u64, Box<Admit>),
    Rejoin(Session, Seq),
    Deliver(u64, Delivery),
    Hello(Hello),
}

/// What happened, to know that the simulation is worth its time.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    behind: usize,
    live_again: usize,
    shut: usize,
    room_restarts: usize,
    lost_appends: usize,
    audience_restarts: usize,
    repeats_acked: usize,
    deletions: usize,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.behind += other.behind;
        self.live_again += other.live_again;
        self.shut += other.shut;
        self.room_restarts += other.room_restarts;
        self.lost_appends += other.lost_appends;
        self.audience_restarts += other.audience_restarts;
        self.repeats_acked += other.repeats_acked;
        self.deletions += other.deletions;
    }

    pub(crate) fn all_happened(&self) -> bool {
        [
            self.behind,
            self.live_again,
            self.shut,
            self.room_restarts,
            self.lost_appends,
            self.audience_restarts,
            self.repeats_acked,
            self.deletions,
        ]
        .iter()
        .all(|count| *count > 0)
    }
}

pub(crate) struct Node {
    dice: Dice,
    runtime: Runtime,
    store: Arc<MemoryStore>,
    room: RoomState,
    ownership: Option<Ownership>,
    append: Option<Batch>,
    to_room: VecDeque<Input>,
    to_audience: VecDeque<ToAudience>,
    audience: Option<AudienceState>,
    clients: Vec<Client>,
    commands: Vec<oneshot::Receiver<Result<store::members::RoomRecord, Refusal>>>,
    now: u64,
    generation: u128,
    pub(crate) seen: Seen,
}

impl Node {
    pub(crate) fn new(dice: Dice) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = Arc::new(MemoryStore::new());
        let (room, ownership) = claim(&runtime, &store);
        let mut node = Self {
            dice,
            runtime,
            store,
            room,
            ownership: Some(ownership),
            append: None,
            to_room: VecDeque::new(),
            to_audience: VecDeque::new(),
            audience: None,
            clients: (1..=CLIENTS).map(|number| Client::new(number, 0)).collect(),
            commands: Vec::new(),
            now: 1_000,
            generation: 0,
            seen: Seen::default(),
        };
        node.create();
        node
    }

    fn create(&mut self) {
        let new = NewRoom {
            room: ROOM,
            by: self.clients[0].user,
            peer: None,
            name: "sim".into(),
            topic: String::new(),
            visibility: Visibility::Public,
            durability: Durability::Durable,
            history: HistoryAccess::All,
        };
        let (reply, _) = oneshot::channel();
        self.to_room.push_back(Input::Create { new: Box::new(new), reply: CommandReply::new(reply, None) });
        for number in 1..self.clients.len() {
            self.command(self.clients[number].user, Command::Join { invite: None });
        }
    }

    fn command(&mut self, by: UserId, command: Command) {
        let (reply, answer) = oneshot::channel();
        self.commands.push(answer);
        self.to_room.push_back(Input::Command {
            by,
            command,
            reply: CommandReply::new(reply, None),
            trace: TraceContext::NONE,
        });
    }

    /// Something happens.
    pub(crate) fn step(&mut self) {
        self.now += self.dice.next() % 5;
        let who = self.dice.below(self.clients.len());
        match self.dice.below(24) {
            0..=4 => self.room_turn(),
            5..=8 => self.audience_turn(),
            9..=10 => self.append_turn(),
            11..=13 => _ = self.clients[who].read(),
            14..=16 => self.session_turn(who),
            17..=19 => self.say(who),
            20 => self.open(who),
            21 => self.moderate(who),
            22 => self.repeat(who),
            _ => self.calamity(who),
        }
    }

    /// Lets everything that is under way come to its end, with nothing new but what sessions do by themselves.
    pub(crate) fn settle(&mut self) {
        for user in 1..self.clients.len() {
            self.command(self.clients[0].user, Command::Unban(self.clients[user].user));
            self.drain();
            self.command(self.clients[user].user, Command::Join { invite: None });
            self.drain();
        }
        for _ in 0..6 {
            for who in 0..self.clients.len() {
                if self.clients[who].is_dead() {
                    self.cut(who);
                }
                // What got no answer for a while is asked again.
                self.clients[who].is_opening = false;
                self.open(who);
                self.repeat(who);
            }
            self.drain();
        }
    }

    fn drain(&mut self) {
        for _ in 0..200_000 {
            let busy = !self.to_room.is_empty() || !self.to_audience.is_empty() || self.append.is_some();
            self.room_turn();
            self.append_turn();
            self.audience_turn();
            let mut moved = false;
            for who in 0..self.clients.len() {
                moved |= self.clients[who].read();
                self.session_turn(who);
            }
            let at_rest = |client: &Client| client.behind.is_none() && !client.has_notices();
            if !busy && !moved && self.clients.iter().all(at_rest) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Nobody waits, everybody has everything, every answer is true.
    pub(crate) fn check(&mut self) {
        let rows = self.runtime.block_on(self.store.rows_after(ROOM, 0, Seq::MAX, usize::MAX)).unwrap();
        assert!(rows.iter().zip(1..).all(|(row, seq)| row.seq == seq), "the log has no holes");
        for client in &self.clients {
            let unanswered = client.unanswered();
            assert!(unanswered.is_empty(), "{:?}: {unanswered:?}: {:?}", client.user, client.last_refusal);
            assert_eq!(client.at, Some(rows.len() as Seq), "{:?} has heard everything", client.user);
            for (n, seq) in &client.acked {
                let row = &rows[usize::try_from(*seq).unwrap() - 1];
                assert_eq!((row.writer, row.n), (client.writer, *n), "an ack is true");
                assert!(
                    row.body.as_ref().unwrap().as_json().contains(&client.texts[n]),
                    "an ack is for what was said"
                );
            }
            let own: Vec<u64> =
                rows.iter().filter(|row| row.writer == client.writer).map(|row| row.n).collect();
            assert!(own.iter().copied().eq(1..=own.len() as u64), "each send once and in order: {own:?}");
            for (seq, entry) in &client.received {
                let row = &rows[usize::try_from(*seq).unwrap() - 1];
                assert!(
                    entry.body.is_none() || entry.body == row.body,
                    "what was heard is what is in the log"
                );
            }
        }
    }
}

/// What clients do.
impl Node {
    fn say(&mut self, who: usize) {
        let client = &mut self.clients[who];
        if client.unanswered().len() >= 8 {
            return;
        }
        let n = client.next;
        client.next += 1;
        let own = client.newest_message().filter(|_| self.dice.one_in(6));
        let kind = if own.is_some() { Kind::Deletion } else { Kind::Message };
        let text = format!("{kind}-{who}-{n}-{}", self.dice.next());
        let said = Said { kind, target: own, text, attempt: 1 };
        self.seen.deletions += usize::from(own.is_some());
        client.say(n, said.clone());
        self.send(who, n, said);
    }

    fn send(&mut self, who: usize, n: u64, said: Said) {
        let client = &self.clients[who];
        let draft = Draft {
            user: client.user,
            writer: client.writer,
            n,
            kind: said.kind,
            target: said.target,
            body: Body::text(&said.text).unwrap(),
            trace: TraceContext::NONE,
        };
        let reply = ReplyTo::Session { session: client.session.clone(), attempt: said.attempt };
        self.to_room.push_back(Input::Send(Send { draft, reply, permit: None }));
    }

    /// The session sends again what is not answered, from the lowest.
    fn repeat(&mut self, who: usize) {
        for (n, said) in self.clients[who].again() {
            self.send(who, n, said);
        }
    }

    fn open(&mut self, who: usize) {
        let client = &mut self.clients[who];
        if client.is_opening || client.behind.is_some() {
            return;
        }
        // A connection that hears the room already does not ask again.
        let hears = self.audience.as_ref().is_some_and(|audience| audience.has(client.session.id));
        if hears || client.pending() > 0 {
            return;
        }
        client.is_opening = true;
        let open = Open {
            session: client.session.clone(),
            id: Some(1),
            room: ROOM,
            after: client.at,
            incarnation: None,
            trace: TraceContext::NONE,
        };
        self.to_room.push_back(Input::Open(Opening::new(open, None, 0)));
    }

    fn moderate(&mut self, who: usize) {
        if who == 0 {
            return;
        }
        let (owner, user) = (self.clients[0].user, self.clients[who].user);
        match self.dice.below(6) {
            0 => self.command(owner, Command::Ban(user)),
            1 | 2 => self.command(owner, Command::Unban(user)),
            3 => self.command(user, Command::Leave),
            _ => self.command(user, Command::Join { invite: None }),
        }
    }

    fn cut(&mut self, who: usize) {
        if let Some(audience) = &mut self.audience {
            audience.leave(self.clients[who].session.id);
        }
        self.generation += 1;
        self.clients[who].reconnect(who as u128 + 1, self.generation);
    }

    fn calamity(&mut self, who: usize) {
        match self.dice.below(8) {
            0 => self.restart_room(),
            1 => {
                if let Some(audience) = self.audience.take() {
                    self.seen.audience_restarts += 1;
                    self.to_audience.clear();
                    drop(audience);
                }
            }
            2 | 3 => self.cut(who),
            _ => {}
        }
        if self.clients[who].is_dead() {
            self.cut(who);
        }
    }
}

/// What sessions do by themselves.
impl Node {
    fn session_turn(&mut self, who: usize) {
        match self.clients[who].take_notice() {
            Some(Notice::Behind { at, .. }) => {
                self.seen.behind += 1;
                self.clients[who].behind = Some(at);
            }
            Some(Notice::Shut { code, .. }) => self.shut(who, code),
            Some(Notice::RoomEnded { .. }) => self.repeat(who),
            Some(Notice::AudienceEnded { .. }) => {
                self.clients[who].behind = None;
                self.clients[who].is_opening = false;
                // The session opens again where the audience stopped, once all of that is on the way to the client.
                while self.clients[who].read() {}
                self.open(who);
            }
            Some(Notice::Refused { n, refusal, .. }) => self.refused(who, n, refusal),
            Some(Notice::Opened { .. } | Notice::UserEnded | Notice::End(_)) | None => {}
        }
        self.catch_up(who);
    }

    fn shut(&mut self, who: usize, code: ErrorCode) {
        self.seen.shut += 1;
        let client = &mut self.clients[who];
        client.is_opening = false;
        if code == ErrorCode::Unavailable {
            return; // it asks again
        }
        client.behind = None;
        let frame = ServerFrame::Closed(Closed { id: None, room: ROOM, code: Some(code) });
        let _ = client.outbox.push(&[PlainJson.encode(&frame, protocol::Encoding::Json)], Class::Answer);
    }

    /// What is refused stays as it is and is sent again later, except what is in the log already.
    fn refused(&mut self, who: usize, n: u64, refusal: Refusal) {
        let client = &mut self.clients[who];
        if refusal.code == ErrorCode::Stored {
            // Too old to compare: the client reads its own entry back before it forgets the message.
            let rows = self.runtime.block_on(self.store.rows_after(ROOM, 0, Seq::MAX, usize::MAX)).unwrap();
            let own = rows.iter().find(|row| row.writer == client.writer && row.n == n).expect("stored");
            client.outbox.settle(ROOM, client.writer, n);
            client.acked.insert(n, own.seq);
        }
        client.last_refusal = Some(refusal);
    }

    fn catch_up(&mut self, who: usize) {
        let client = &self.clients[who];
        let Some(at) = client.behind.filter(|_| client.pending() <= 2) else { return };
        let read = reader::page(&*self.store, client.user, ROOM, Some(HistoryFrom::After(at)), 3);
        let page = match self.runtime.block_on(read) {
            Ok(page) => page,
            Err(_) => return self.shut(who, ErrorCode::NotAMember),
        };
        let Some(last) = page.entries.last().map(|entry| entry.seq) else {
            self.seen.live_again += 1;
            self.clients[who].behind = None;
            let session = self.clients[who].session.clone();
            return match self.audience {
                Some(_) => self.to_audience.push_back(ToAudience::Rejoin(session, at)),
                None => session.outbox.notify(Notice::AudienceEnded { room: ROOM, at }),
            };
        };
        for entry in &page.entries {
            if let (Some(writer), Some(n)) = (entry.writer, entry.n)
                && writer == client.writer
            {
                client.outbox.settle(ROOM, writer, n);
            }
        }
        let frame = ServerFrame::Entries(Entries {
            room: ROOM,
            incarnation: page.incarnation,
            entries: page.entries,
        });
        let bytes = PlainJson.encode(&frame, protocol::Encoding::Json);
        if client.outbox.push(&[bytes], Class::Answer) == Pushed::Taken {
            self.clients[who].behind = Some(last);
        }
    }
}

/// What the actors' shells do.
impl Node {
    fn room_turn(&mut self) {
        let Some(input) = self.to_room.pop_front() else { return };
        let mut outputs = Vec::new();
        self.room.handle(input, self.now, &mut outputs);
        outputs.into_iter().for_each(|output| self.perform(output));
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::AskTurn => self.to_room.push_back(Input::Turn),
            Output::Append { rows, derived } => {
                let write_id = u128::from(self.dice.next());
                self.append = Some(Batch { rows, write_id, derived });
            }
            Output::LoadWriter(writer) => {
                let mark = self.runtime.block_on(self.store.writer_mark(ROOM, writer));
                self.to_room.push_back(Input::WriterLoaded { writer, mark });
            }
            Output::LoadTarget { writer, target } => {
                let found =
                    self.runtime.block_on(self.store.rows_after(ROOM, target - 1, target, 1)).map(|rows| {
                        rows.first().map(|row| Target {
                            author: row.from,
                            is_said: is_said(&row.kind),
                            is_masked: false,
                        })
                    });
                self.to_room.push_back(Input::TargetLoaded { writer, target, found });
            }
            Output::Deliver(delivery) => match &self.audience {
                Some(_) => self.to_audience.push_back(ToAudience::Deliver(self.room.epoch(), delivery)),
                None => {
                    for (reply, ack) in delivery.acks {
                        let ReplyTo::Session { session, .. } = reply else { continue };
                        flight::answer(&PlainJson, &session, ack);
                    }
                }
            },
            Output::Ack { to, ack } => {
                self.seen.repeats_acked += 1;
                if let ReplyTo::Session { session, .. } = to {
                    flight::answer(&PlainJson, &session, ack);
                }
            }
            Output::Refuse { to, writer, n, refusal } => {
                if let ReplyTo::Session { session, attempt } = to {
                    session.outbox.notify(Notice::Refused { room: ROOM, writer, n, attempt, refusal });
                }
            }
            Output::Done { to, result } => to.send(result),
            Output::Page { to, page } => _ = to.send(page),
            Output::Shut { session, id, code } => {
                session.outbox.notify(Notice::Shut { room: ROOM, id, code });
            }
            Output::Verify(mut opening) => {
                opening.is_verified = true; // this simulation has one owner
                self.to_room.push_back(Input::Open(opening));
            }
            Output::Admit(admit) => {
                if self.audience.is_none() {
                    self.audience = Some(AudienceState::new(ROOM, Arc::new(PlainJson), hello(&self.room)));
                }
                self.to_audience.push_back(ToAudience::Admit(self.room.epoch(), Box::new(admit)));
            }
            Output::Member { .. } => {}
            // Too few entries for a second bucket; nobody asks.
            Output::Retain | Output::Forget { .. } | Output::Retained { .. } => {}
            Output::Erase { .. } | Output::ForgetWords { .. } | Output::Erased { .. } => {}
            Output::Retire => self.restart_room(),
        }
    }

    fn audience_turn(&mut self) {
        let Some(message) = self.to_audience.pop_front() else {
            return self.audience.iter_mut().for_each(AudienceState::flush);
        };
        let Some(audience) = &mut self.audience else { return };
        match message {
            ToAudience::Deliver(epoch, delivery) => {
                audience.collect(epoch, delivery);
                if self.dice.one_in(2) {
                    return; // more may come before the flush
                }
            }
            ToAudience::Admit(epoch, admit) => {
                audience.flush();
                audience.admit(epoch, *admit);
            }
            ToAudience::Rejoin(session, at) => {
                audience.flush();
                audience.rejoin(&session, at);
            }
            ToAudience::Hello(hello) => {
                audience.flush();
                audience.hello(hello);
            }
        }
        if self.to_audience.is_empty() || self.dice.one_in(2) {
            self.audience.iter_mut().for_each(AudienceState::flush);
        }
    }

    fn append_turn(&mut self) {
        let Some(batch) = self.append.take() else { return };
        let ownership = self.ownership.take().expect("owned between two appends");
        match self.runtime.block_on(ownership.append(&*self.store, batch)) {
            AppendEnd::Committed(ownership) => {
                let marked_upto = ownership.marks_upto();
                self.ownership = Some(ownership);
                self.to_room.push_front(Input::Appended { marked_upto });
            }
            other => panic!("{other:?}"),
        }
    }

    /// The room's actor fails: what was in its mailbox is lost, and the append under way may or may not happen.
    fn restart_room(&mut self) {
        self.seen.room_restarts += 1;
        if let Some(batch) = self.append.take() {
            let ownership = self.ownership.take().expect("owned between two appends");
            if self.dice.one_in(2) {
                self.runtime.block_on(ownership.append(&*self.store, batch));
            } else {
                self.seen.lost_appends += 1;
            }
        }
        self.to_room.clear();
        let (room, ownership) = claim(&self.runtime, &self.store);
        let exists = room.head() > 0;
        (self.room, self.ownership) = (room, Some(ownership));
        if self.audience.is_some() {
            self.to_audience.push_back(ToAudience::Hello(hello(&self.room)));
        }
        for client in &mut self.clients {
            client.outbox.notify(Notice::RoomEnded { room: ROOM });
            client.is_opening = false;
        }
        if !exists {
            self.create();
        }
    }
}

fn hello(room: &RoomState) -> Hello {
    Hello {
        epoch: room.epoch(),
        incarnation: room.incarnation(),
        head: room.head(),
        recent: room.recent().cloned().collect(),
    }
}

fn claim(runtime: &Runtime, store: &MemoryStore) -> (RoomState, Ownership) {
    let mut nonce = 0;
    let mut nonces = || {
        nonce += 1;
        nonce
    };
    let recovered = runtime.block_on(owner::claim(store, ROOM, &mut nonces)).unwrap();
    let ownership = recovered.ownership;
    let store: &dyn Store = store;
    let roster = runtime.block_on(reader::roster(store, ROOM, ownership.member_seq())).unwrap();
    let deleted = runtime.block_on(reader::deleted(store, ROOM, &recovered.rows, ownership.head())).unwrap();
    let recovery = Recovery {
        epoch: ownership.epoch(),
        log_head: ownership.head(),
        rows: recovered.rows,
        marks: recovered.marks,
        roster,
        deleted,
        first_kept: 1,
    };
    (RoomState::new(ROOM, recovery), ownership)
}
