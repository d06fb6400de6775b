//! A room: the one place where its messages are put in order. [`state`] decides, this file acts.

mod abroad;
mod claiming;
mod erasing;
mod hearing;
mod keeping;
mod moving;
pub(crate) mod queue;
pub(crate) mod rights;
pub(crate) mod ring;
pub(crate) mod state;
mod verifying;
pub(crate) mod writers;

use std::sync::Arc;

use protocol::{ErrorCode, Millis, RoomId, Seq, UserId, WriterId, entry::Durability};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use store::{
    Store, StoreError,
    erasure::{EraseError, Erased},
    log::{Turn, WriterMark},
    members::{MemberState, RoomRecord},
    owner::{AppendEnd, Batch, HandOver, Ownership},
    retention::Removed,
};
use telemetry::TraceContext;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::{abroad::Abroad, claiming::Claim, moving::Moving};
use crate::{
    Notice, PeerId, World,
    admission::Permit,
    audience::{AudienceLink, Audiences},
    heads::Heads,
    mesh::{Mesh, Place},
    presence::{Presence, PresenceMessage},
    rooms::{Command, NewRoom, Open, Retained, RoomMap, Rooms},
    session::{Refusal, Session},
};
use state::{Input, Opening, Output, Recent, Recovery, RoomState, Send, Target};

/// What a room is told.
pub(crate) enum RoomMessage {
    /// A session wants to hear the room.
    Open(Box<Opening>),
    /// Somebody says something.
    Send(Box<Send>),
    /// Somebody types.
    Typing { user: UserId },
    /// Somebody wants something done.
    Command(Box<CommandRequest>),
    /// Somebody makes the room.
    Create(Box<NewRoom>, CommandReply),
    /// Somebody reads an ephemeral room's recent entries.
    Recent(Recent),
    /// The store has answered the claim.
    Claimed(Box<Result<Claimed, ClaimFailure>>),
    /// It is the room's turn to append.
    Turn(Turn),
    /// The store has answered the append.
    Appended(Box<AppendEnd>),
    /// The store has answered about a writer.
    WriterLoaded { writer: WriterId, mark: Result<Option<WriterMark>, StoreError> },
    /// The store has answered about an entry.
    TargetLoaded { writer: WriterId, target: Seq, found: Result<Option<Target>, StoreError> },
    /// Old entries are to go, as the operator has chosen.
    Retain(Answer<Retained>),
    /// The store has let some of them go.
    RetainedPart(Result<Removed, StoreError>),
    /// Somebody's words are to go.
    Erase { user: UserId, reply: Answer<Erased> },
    /// The store has taken them out of a part of the log.
    ErasedPart(Result<Erased, EraseError>),
    /// The store has said in which epoch the room is.
    Verified { opening: Option<Box<Opening>>, epoch: Result<u64, StoreError> },
    /// A node hears the room, as far as this and of this epoch.
    Listen { peer: PeerId, heard: (Seq, u64) },
    /// It hears it no more.
    Unlisten(PeerId),
    /// The room's last owner gives it to us.
    TakeOver(HandOver),
    /// The room is to go to another node, if it is placed there; the permit is one of few.
    Yield { permit: Option<OwnedSemaphorePermit> },
    /// It can go.
    HandedOver(Result<HandOver, StoreError>),
    /// Nobody has used the room for a while.
    Retire,
    /// Fail, to see what happens then.
    #[cfg(test)]
    Panic,
}

/// Stays in this process.
impl ractor::Message for RoomMessage {}

/// A command with the way to answer it.
pub(crate) struct CommandRequest {
    pub(crate) by: UserId,
    pub(crate) command: Command,
    pub(crate) reply: CommandReply,
    pub(crate) trace: TraceContext,
}

/// The way to answer a request; dropped when the room ends first. Holds the room's admission until then.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    to: oneshot::Sender<Result<T, Refusal>>,
    _permit: Option<Permit>,
}

/// The way to answer a command.
pub(crate) type CommandReply = Answer<RoomRecord>;

impl<T> Answer<T> {
    pub(crate) fn new(to: oneshot::Sender<Result<T, Refusal>>, permit: Option<Permit>) -> Self {
        Self { to, _permit: permit }
    }

    /// Answers; whoever asked may have stopped waiting.
    pub(crate) fn send(self, result: Result<T, Refusal>) {
        let _ = self.to.send(result);
    }
}

/// The promise that a session which asked to hear a room is answered: if it is lost, the session is told to ask again.
#[derive(Debug)]
pub(crate) struct Unanswered(Option<(Session, RoomId, Option<u64>)>);

impl Unanswered {
    pub(crate) fn new(open: &Open) -> Self {
        Self(Some((open.session.clone(), open.room, open.id)))
    }

    /// The session was told.
    pub(crate) fn answered(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some((session, room, id)) = self.0.take() {
            session.outbox.notify(Notice::Shut { room, id, code: ErrorCode::Unavailable });
        }
    }
}

/// Who waits for the answer to a send.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// A socket, which may try again.
    Session { session: Session, attempt: u32 },
    /// A request, once.
    Once(oneshot::Sender<Result<(Seq, Millis), Refusal>>),
}

impl ReplyTo {
    fn is_same_session(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Session { session, .. }, Self::Session { session: other, .. }) => session.id == other.id,
            (Self::Session { .. } | Self::Once(_), _) => false,
        }
    }

    fn is_repeat(&self) -> bool {
        matches!(self, Self::Session { attempt: 2.., .. })
    }
}

/// A room that is ours.
pub(crate) struct Claimed {
    ownership: Ownership,
    recovery: Recovery,
}

/// Why a room can't be used now.
pub(crate) enum ClaimFailure {
    /// There is none.
    NotFound,
    /// Somebody else claims it, too.
    Contended,
    /// The store is away.
    Unavailable(String),
}

/// What every room of a node has in common.
#[derive(Clone)]
pub(crate) struct RoomContext {
    pub(crate) world: World,
    pub(crate) mesh: Arc<Mesh>,
    /// Claims that run at once.
    pub(crate) claims: Arc<Semaphore>,
    pub(crate) audiences: Audiences,
    pub(crate) heads: Heads,
    pub(crate) presence: Presence,
    pub(crate) rooms: Arc<RoomMap>,
}

impl RoomContext {
    /// Somebody's place in a room changed: so does what their sockets here see.
    pub(crate) fn member_moved(&self, room: RoomId, user: UserId, state: MemberState, head: Seq) {
        self.heads.member(user, room, state, head);
        if state != MemberState::Joined {
            self.presence.tell(PresenceMessage::Left(user));
        }
    }
}

/// The actor.
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) rooms: Rooms,
}

/// What the actor keeps between messages.
pub(crate) struct RoomActor {
    phase: Phase,
    audience: Option<AudienceLink>,
    /// The right to the append that is being decided on.
    turn: Option<Turn>,
    abroad: Abroad,
    /// Where the room is going, while it is.
    moving: Option<Moving>,
}

enum Phase {
    /// Nobody has asked for anything yet.
    Asleep,
    /// What is asked for meanwhile waits; bounded by the room's admission.
    Claiming(Vec<Input>),
    /// `ownership` is away while an append is on its way.
    Serving { state: Box<RoomState>, ownership: Option<Box<Ownership>> },
    /// The room is being handed over.
    Leaving,
    /// Nothing is accepted any more.
    Ended,
}

impl Actor for Room {
    type Msg = RoomMessage;
    type State = RoomActor;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RoomMessage>, (): ()) -> Result<RoomActor, ActorProcessingErr> {
        Ok(RoomActor {
            phase: Phase::Asleep,
            audience: None,
            turn: None,
            abroad: Abroad::default(),
            moving: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<RoomMessage>,
        message: RoomMessage,
        actor: &mut RoomActor,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RoomMessage::Open(opening) => self.take(&myself, actor, Input::Open(*opening)),
            RoomMessage::Send(send) => {
                actor.abroad.speaks(&send.reply);
                self.take(&myself, actor, Input::Send(*send));
            }
            RoomMessage::Command(request) => {
                let CommandRequest { by, command, reply, trace } = *request;
                self.take(&myself, actor, Input::Command { by, command, reply, trace });
            }
            RoomMessage::Create(new, reply) => self.take(&myself, actor, Input::Create { new, reply }),
            RoomMessage::Typing { user } => self.typing(actor, user),
            RoomMessage::Recent(recent) => self.take(&myself, actor, Input::Recent(recent)),
            RoomMessage::Claimed(result) => self.claimed(&myself, actor, *result),
            RoomMessage::Turn(turn) => self.turn(&myself, actor, turn),
            RoomMessage::Appended(end) => self.appended(&myself, actor, *end),
            RoomMessage::WriterLoaded { writer, mark } => {
                self.take(&myself, actor, Input::WriterLoaded { writer, mark });
            }
            RoomMessage::TargetLoaded { writer, target, found } => {
                self.take(&myself, actor, Input::TargetLoaded { writer, target, found });
            }
            RoomMessage::Retain(reply) => self.take(&myself, actor, Input::Retain { reply: Some(reply) }),
            RoomMessage::RetainedPart(part) => self.take(&myself, actor, Input::Retained(part)),
            RoomMessage::Erase { user, reply } => self.take(&myself, actor, Input::Erase { user, reply }),
            RoomMessage::ErasedPart(part) => self.take(&myself, actor, Input::Erased(part)),
            RoomMessage::Verified { opening, epoch } => self.verified(&myself, actor, opening, epoch),
            RoomMessage::Listen { peer, heard } => self.listens(&myself, actor, peer, heard),
            RoomMessage::Unlisten(peer) => actor.abroad.unlisten(peer),
            RoomMessage::TakeOver(from) => self.take_over(&myself, actor, from),
            RoomMessage::Yield { permit } => self.yield_room(&myself, actor, permit),
            RoomMessage::HandedOver(result) => self.handed_over(&myself, actor, result),
            RoomMessage::Retire => self.retire_if_idle(&myself, actor),
            #[cfg(test)]
            RoomMessage::Panic => panic!("asked to fail"),
        }
        Ok(())
    }
}

impl Room {
    /// Hands the state something to decide, now or once the room is ours.
    fn take(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor, input: Input) {
        if let Some(moving) = actor.moving.as_mut().filter(|_| input.is_asked()) {
            return moving.held.push(input); // bounded by the room's admission
        }
        match &mut actor.phase {
            Phase::Asleep => {
                self.claim(myself, Claim::new(input.creates()));
                actor.phase = Phase::Claiming(vec![input]);
            }
            Phase::Claiming(waiting) => waiting.push(input),
            Phase::Serving { .. } => self.decide(myself, actor, input),
            Phase::Leaving | Phase::Ended if input.is_asked() => self.ask_elsewhere(vec![input]),
            Phase::Leaving | Phase::Ended => {}
        }
    }

    fn decide(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor, input: Input) {
        let Phase::Serving { state, .. } = &mut actor.phase else { return };
        let mut outputs = Vec::new();
        state.handle(input, self.rooms.context.world.clock.now(), &mut outputs);
        for output in outputs {
            self.perform(myself, actor, output);
        }
        if actor.moving.is_some() {
            self.go_if_idle(myself, actor);
        }
    }

    fn perform(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor, output: Output) {
        match output {
            Output::AskTurn => self.ask_turn(myself, actor),
            Output::Append { rows, derived } => self.append(myself, actor, rows, derived),
            Output::LoadWriter(writer) => self.load_writer(myself, writer),
            Output::LoadTarget { writer, target } => self.load_target(myself, writer, target),
            Output::Deliver(delivery) => self.deliver(actor, delivery),
            Output::Ack { to, ack } => self.rooms.context.audiences.answer(to, ack),
            Output::Refuse { to, writer, n, refusal } => refuse_send(self.id, to, writer, n, refusal),
            Output::Done { to, result } => to.send(result),
            Output::Page { to, page } => _ = to.send(page),
            Output::Retain => self.retain(myself),
            Output::Forget { below } => self.forget(actor, below),
            Output::Retained { to, result } => to.send(result),
            Output::Erase { user, after, upto } => self.erase(myself, actor, user, after, upto),
            Output::ForgetWords { user } => self.forget_words(actor, user),
            Output::Erased { to, result } => to.send(result),
            Output::Admit(admit) => self.admit(actor, admit),
            Output::Verify(opening) => self.verify(myself, Some(opening)),
            Output::Shut { session, id, code } => {
                session.outbox.notify(Notice::Shut { room: self.id, id, code });
            }
            Output::Member { user, state, head } => self.member_moved(user, state, head),
            Output::Retire => self.retire(myself, actor),
        }
    }
}

/// Talking to the store: each question is a task that tells the room its answer.
impl Room {
    fn claim(&self, myself: &ActorRef<RoomMessage>, claim: Claim) {
        let (context, id, myself) = (self.rooms.context.clone(), self.id, myself.clone());
        tokio::spawn(async move {
            let result = {
                let _one = context.claims.acquire().await;
                claim.run(&context.world, id).await
            };
            // The room may have ended meanwhile.
            let _ = myself.cast(RoomMessage::Claimed(Box::new(result)));
        });
    }

    fn claimed(
        &self,
        myself: &ActorRef<RoomMessage>,
        actor: &mut RoomActor,
        result: Result<Claimed, ClaimFailure>,
    ) {
        let waiting = match std::mem::replace(&mut actor.phase, Phase::Ended) {
            Phase::Claiming(waiting) => waiting,
            Phase::Asleep | Phase::Serving { .. } | Phase::Leaving | Phase::Ended => Vec::new(),
        };
        if matches!(result, Err(ClaimFailure::NotFound)) && waiting.iter().any(Input::creates) {
            // Somebody asked for it before somebody else made it.
            self.claim(myself, Claim::new(true));
            actor.phase = Phase::Claiming(waiting);
            return;
        }
        match result {
            Ok(Claimed { ownership, recovery }) => {
                let state = Box::new(RoomState::new(self.id, recovery));
                tracing::debug!(room.id = %self.id, epoch = state.epoch(), head = state.head(), "room claimed");
                self.greet_all(actor, &state);
                let looks_back = state::may_have_old_buckets(ownership.head());
                actor.phase = Phase::Serving { state, ownership: Some(Box::new(ownership)) };
                if looks_back {
                    self.take(myself, actor, Input::Retain { reply: None });
                }
                for input in waiting {
                    self.take(myself, actor, input);
                }
                if actor.moving.is_some() {
                    self.go_if_idle(myself, actor);
                }
            }
            Err(ClaimFailure::Contended) if self.rooms.context.mesh.place_of_room(self.id) != Place::Here => {
                self.retire(myself, actor);
                self.ask_elsewhere(waiting);
            }
            Err(failure) => {
                let refusal = match failure {
                    ClaimFailure::NotFound => Refusal::new(ErrorCode::NotFound, "no such room"),
                    ClaimFailure::Contended => {
                        tracing::warn!(room.id = %self.id, "room not claimed: another owner claims it");
                        Refusal::new(ErrorCode::Unavailable, "the room moves").retry_after(200)
                    }
                    ClaimFailure::Unavailable(reason) => {
                        tracing::warn!(room.id = %self.id, reason, "room not claimed");
                        Refusal::new(ErrorCode::Unavailable, "the store is away").retry_after(1_000)
                    }
                };
                waiting.into_iter().for_each(|input| self.refuse(input, &refusal));
                self.retire(myself, actor);
            }
        }
    }

    fn ask_turn(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor) {
        let store = Arc::clone(&self.rooms.context.world.store);
        if let Some(turn) = store.turn_now() {
            return self.turn(myself, actor, turn);
        }
        let myself = myself.clone();
        tokio::spawn(async move { myself.cast(RoomMessage::Turn(store.turn().await)) });
    }

    fn turn(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor, turn: Turn) {
        actor.turn = Some(turn);
        self.decide(myself, actor, Input::Turn);
        // Given back, if nothing was left to append.
        actor.turn = None;
    }

    fn append(
        &self,
        myself: &ActorRef<RoomMessage>,
        actor: &mut RoomActor,
        rows: Vec<store::log::Row>,
        derived: store::members::Derived,
    ) {
        let Phase::Serving { ownership, .. } = &mut actor.phase else { return };
        let owned = ownership.take().expect("the state has one append in flight at most");
        let (world, myself) = (self.rooms.context.world.clone(), myself.clone());
        let batch = Batch { rows, write_id: world.chance.bits(), derived };
        let turn = actor.turn.take();
        tokio::spawn(async move {
            let end = owned.append(&*world.store, batch).await;
            drop(turn);
            // The room may have ended meanwhile; then the next claim decides what became of it.
            let _ = myself.cast(RoomMessage::Appended(Box::new(end)));
        });
    }

    fn appended(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor, end: AppendEnd) {
        let (input, back) = match end {
            AppendEnd::Committed(ownership) => {
                (Some(Input::Appended { marked_upto: ownership.marks_upto() }), Some(ownership))
            }
            AppendEnd::Refused(ownership, error) => {
                tracing::warn!(room.id = %self.id, %error, "the store refused an append");
                (Some(Input::AppendRefused(error)), Some(ownership))
            }
            AppendEnd::Fenced { committed } => {
                tracing::info!(room.id = %self.id, committed, "another owner has the room");
                (committed.then_some(Input::Appended { marked_upto: 0 }), None)
            }
            AppendEnd::Broken(reason) => {
                tracing::error!(room.id = %self.id, reason, "the log contradicts its owner: the room stops");
                (None, None)
            }
        };
        let is_owner = back.is_some();
        if let Phase::Serving { ownership, state } = &mut actor.phase {
            *ownership = back.map(Box::new);
            state.set_owner(is_owner);
        }
        if let Some(input) = input {
            self.decide(myself, actor, input);
        }
        if !is_owner {
            // Whoever waits for an answer asks the next owner.
            self.retire(myself, actor);
            self.tell_ended(actor);
        }
    }

    fn load_writer(&self, myself: &ActorRef<RoomMessage>, writer: WriterId) {
        let (store, id, myself) = (Arc::clone(&self.rooms.context.world.store), self.id, myself.clone());
        tokio::spawn(async move {
            let mark = store.writer_mark(id, writer).await;
            let _ = myself.cast(RoomMessage::WriterLoaded { writer, mark });
        });
    }

    fn load_target(&self, myself: &ActorRef<RoomMessage>, writer: WriterId, target: Seq) {
        let (store, id, myself) = (Arc::clone(&self.rooms.context.world.store), self.id, myself.clone());
        tokio::spawn(async move {
            let found = target_of(&*store, id, target).await;
            let _ = myself.cast(RoomMessage::TargetLoaded { writer, target, found });
        });
    }
}

/// What must be known of an entry to change it.
async fn target_of(store: &dyn Store, id: RoomId, target: Seq) -> Result<Option<Target>, StoreError> {
    let rows = store.rows_after(id, target - 1, target, 1).await?;
    let deleted = store::reader::deleted(store, id, &rows, Seq::MAX).await?;
    Ok(rows.first().map(|row| {
        let (is_said, is_masked) = (state::is_said(&row.kind), deleted.contains(&row.seq));
        Target { author: row.from, is_said, is_masked }
    }))
}

/// Ending.
impl Room {
    fn retire_if_idle(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor) {
        let idle = match &actor.phase {
            Phase::Asleep | Phase::Ended => true,
            Phase::Claiming(_) => false,
            // The content of an ephemeral room ends with its actor: it stays while somebody listens.
            Phase::Serving { state, .. } => {
                let is_heard = || self.rooms.is_heard(self.id) || actor.abroad.is_heard();
                state.is_idle() && (state.durability() == Durability::Durable || !is_heard())
            }
            Phase::Leaving => false,
        };
        if idle {
            self.retire(myself, actor);
        }
    }

    /// From now on the next use starts another actor. What is in the mailbox already is still answered.
    fn retire(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor) {
        actor.phase = Phase::Ended;
        self.rooms.context.rooms.forget(self.id, myself.get_id());
        let _ = myself.drain();
    }

    fn refuse(&self, input: Input, refusal: &Refusal) {
        match input {
            Input::Open(mut opening) => {
                opening.unanswered.answered();
                let Open { session, id, .. } = opening.open;
                session.outbox.notify(Notice::Shut { room: self.id, id, code: refusal.code });
            }
            Input::Send(send) => {
                refuse_send(self.id, send.reply, send.draft.writer, send.draft.n, refusal.clone());
            }
            Input::Command { reply, .. } | Input::Create { reply, .. } => reply.send(Err(refusal.clone())),
            Input::Recent(recent) => _ = recent.reply.send(Err(refusal.code)),
            Input::Erase { reply, .. } => reply.send(Err(refusal.clone())),
            Input::Retain { reply } => _ = reply.map(|reply| reply.send(Err(refusal.clone()))),
            Input::WriterLoaded { .. }
            | Input::TargetLoaded { .. }
            | Input::Turn
            | Input::Retained(_)
            | Input::Erased(_)
            | Input::Appended { .. }
            | Input::AppendRefused(_) => {}
        }
    }
}

fn refuse_send(room: RoomId, to: ReplyTo, writer: WriterId, n: u64, refusal: Refusal) {
    match to {
        ReplyTo::Session { session, attempt } => {
            session.outbox.notify(Notice::Refused { room, writer, n, attempt, refusal });
        }
        ReplyTo::Once(reply) => _ = reply.send(Err(refusal)),
    }
}
