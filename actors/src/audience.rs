//! An audience: the sessions of this node that hear one room. [`state`] decides and pushes, this file keeps the pace.
//!
//! A handler sees one message and can't look into its mailbox, so a group is only collected, and one `Flush` is cast
//! to the audience itself, which lands behind everything that is queued already: what came together leaves together.

pub(crate) mod flight;
pub(crate) mod state;
mod tail;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::{Entry, Incarnation, RoomId, Seq, SessionId, UserId, server::Ack};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, MessagingErr};

use crate::{
    Encode, Notice, World,
    children::{Child, Children},
    mesh::{
        Mesh,
        wire::{AckTold, Bits, PeerMessage},
    },
    room::{
        ReplyTo,
        state::{Admit, Delivery},
    },
    session::Session,
};
use state::AudienceState;

/// Bytes of bodies that wait in an audience's mailbox before groups are left to the log. Sixteen full groups.
const WAITING_BYTES: usize = 1024 * 1024;
/// Members served before the audience lets other tasks run: some 0.3 ms of system calls.
const BURST: usize = 128;
/// Longest rest between two flushes.
const LONGEST_REST: Duration = Duration::from_millis(5);
/// tokio's timer is no finer; a shorter rest is a turn at the end of the run queue.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

/// What a room tells its audience when it begins to order.
pub(crate) struct Hello {
    pub(crate) epoch: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) head: Seq,
    /// The newest entries up to `head`, oldest first.
    pub(crate) recent: Vec<Entry>,
}

/// What an audience is told.
pub(crate) enum AudienceMessage {
    /// Another actor orders the room now.
    Hello(Box<Hello>),
    /// The room lets a session in.
    Admit { epoch: u64, admit: Box<Admit> },
    /// A session that was behind is back.
    Rejoin { session: Session, at: Seq },
    /// A session hears it no more.
    Leave(SessionId),
    /// A group was committed.
    Deliver { epoch: u64, delivery: Box<Delivery> },
    /// A group was committed that is too much to queue.
    Skip { head: Seq, acks: Vec<(ReplyTo, Ack)> },
    /// The room has come so far, and all of that was sent here.
    Heard { epoch: u64, head: Seq },
    /// Somebody types.
    Typing(UserId),
    /// Entries below this one are kept no more.
    Forget { below: Seq },
    /// What this user has said is shown no more.
    ForgetWords(UserId),
    /// The room's actor ended.
    RoomEnded,
    /// Push what was collected.
    Flush,
    /// End if nobody listens.
    Retire,
    /// Fail, to see what happens then.
    #[cfg(test)]
    Panic,
}

/// Stays in this process.
impl ractor::Message for AudienceMessage {}

type AudienceMap = Children<RoomId, AudienceMessage, Arc<Gauge>>;

/// What others see of an audience.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Bytes in the mailbox.
    waiting: AtomicUsize,
    /// The newest entry that was flushed.
    head: AtomicU64,
    /// The newest owner that was heard of.
    epoch: AtomicU64,
}

/// All audiences of this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Audiences {
    pub(crate) map: Arc<AudienceMap>,
    pub(crate) supervisor: ActorCell,
    pub(crate) world: World,
    pub(crate) mesh: Arc<Mesh>,
}

impl Audiences {
    /// The audience of a room, if it has one here.
    pub(crate) fn existing(&self, room: RoomId) -> Option<AudienceLink> {
        self.map.get(room).map(AudienceLink)
    }

    /// The audience of a room, which is told how the room stands.
    pub(crate) fn start(&self, room: RoomId, hello: Hello) -> Option<AudienceLink> {
        let gauge = Arc::new(Gauge::default());
        gauge.head.store(hello.head, Ordering::Relaxed);
        gauge.epoch.store(hello.epoch, Ordering::Relaxed);
        let mut first = Some(hello);
        let child = self.map.get_or_spawn(room, &self.supervisor, || {
            let arguments = (first.take().expect("made once"), Arc::clone(&gauge));
            (Audience { room, world: self.world.clone(), map: Arc::clone(&self.map) }, arguments, gauge)
        });
        let link = AudienceLink(child.ok()?);
        if let Some(hello) = first {
            link.hello(hello);
        }
        Some(link)
    }

    pub(crate) fn rejoin(&self, room: RoomId, session: &Session, at: Seq) {
        let message = AudienceMessage::Rejoin { session: session.clone(), at };
        let cast = self.map.get(room).map(|child| child.actor.cast(message));
        if !matches!(cast, Some(Ok(()))) {
            session.outbox.notify(Notice::AudienceEnded { room, at });
        }
    }

    pub(crate) fn leave(&self, room: RoomId, session: SessionId) {
        if let Some(child) = self.map.get(room) {
            let _ = child.actor.cast(AudienceMessage::Leave(session)); // it ended: nobody is in it
        }
    }

    pub(crate) fn room_ended(&self, room: RoomId) {
        if let Some(child) = self.map.get(room) {
            let _ = child.actor.cast(AudienceMessage::RoomEnded); // it ended: its members know
        }
    }

    /// A room's actor failed: what was sent to it may be lost, wherever it came from.
    pub(crate) fn room_failed(&self, room: RoomId) {
        self.room_ended(room);
        for peer in self.mesh.interest.of(room) {
            // Lost: sessions ask again after a while.
            let _ = self.mesh.tell(peer, &PeerMessage::Ended { room: Bits(room) });
        }
    }

    /// Acknowledges to somebody who need not hear the room.
    pub(crate) fn answer(&self, to: ReplyTo, ack: Ack) {
        match to {
            ReplyTo::Once(reply) => _ = reply.send(Ok((ack.seq, ack.at))),
            ReplyTo::Session { session, attempt } => match session.outbox.peer() {
                None => flight::answer(&*self.world.encode, &session, ack),
                Some(peer) => {
                    let acks = vec![AckTold::new(session.id, attempt, &ack)];
                    // Lost: the session asks again.
                    let _ = self.mesh.tell(peer, &PeerMessage::Acks { room: Bits(ack.room), acks });
                }
            },
        }
    }

    /// Every room that is heard here: how far, and of which owner.
    pub(crate) fn heads(&self) -> Vec<(RoomId, Seq, u64)> {
        let of = |gauge: &Gauge| (gauge.head.load(Ordering::Relaxed), gauge.epoch.load(Ordering::Relaxed));
        let audiences = self.map.all().into_iter();
        audiences
            .map(|(room, audience)| (room, of(&audience.extra)))
            .map(|(room, (head, epoch))| (room, head, epoch))
            .collect()
    }

    /// The newest owner of a room that was heard of here.
    pub(crate) fn epoch(&self, room: RoomId) -> Option<u64> {
        self.map.get(room).map(|audience| audience.extra.epoch.load(Ordering::Relaxed))
    }
}

/// A room's way to its audience on one node.
pub(crate) struct AudienceLink(Arc<Child<AudienceMessage, Arc<Gauge>>>);

impl AudienceLink {
    pub(crate) fn hello(&self, hello: Hello) {
        let _ = self.0.actor.cast(AudienceMessage::Hello(Box::new(hello))); // it ended: its members know
    }

    /// # Errors
    /// Gives the admission back when the audience has ended.
    pub(crate) fn admit(&self, epoch: u64, admit: Box<Admit>) -> Result<(), Box<Admit>> {
        match self.0.actor.send_message(AudienceMessage::Admit { epoch, admit }) {
            Err(MessagingErr::SendErr(AudienceMessage::Admit { admit, .. })) => Err(admit),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// # Errors
    /// Gives the group back when the audience has ended.
    pub(crate) fn deliver(&self, epoch: u64, delivery: Delivery) -> Result<(), Box<Delivery>> {
        let bytes = bytes_of(&delivery);
        let waiting = self.0.extra.waiting.fetch_add(bytes, Ordering::Relaxed);
        let message = if waiting > WAITING_BYTES {
            self.0.extra.waiting.fetch_sub(bytes, Ordering::Relaxed);
            let head = delivery.entries.last().map_or(0, |entry| entry.seq);
            AudienceMessage::Skip { head, acks: delivery.acks }
        } else {
            AudienceMessage::Deliver { epoch, delivery: Box::new(delivery) }
        };
        match self.0.actor.send_message(message) {
            Err(MessagingErr::SendErr(AudienceMessage::Deliver { delivery, .. })) => Err(delivery),
            Err(MessagingErr::SendErr(AudienceMessage::Skip { acks, .. })) => {
                Err(Box::new(Delivery::answers(acks)))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn forget(&self, below: Seq) {
        let _ = self.0.actor.cast(AudienceMessage::Forget { below }); // it ended: it holds nothing
    }

    pub(crate) fn forget_words(&self, user: UserId) {
        let _ = self.0.actor.cast(AudienceMessage::ForgetWords(user)); // it ended: it holds nothing
    }

    pub(crate) fn heard(&self, epoch: u64, head: Seq) {
        let _ = self.0.actor.cast(AudienceMessage::Heard { epoch, head }); // it ended: nobody is in it
    }

    pub(crate) fn typing(&self, user: UserId) {
        let _ = self.0.actor.cast(AudienceMessage::Typing(user)); // it ended: nobody is in it
    }
}

/// What a group costs while it waits: its bodies and what goes with them.
fn bytes_of(delivery: &Delivery) -> usize {
    delivery.entries.iter().map(|entry| 128 + tail::size(entry)).sum()
}

/// The actor.
pub(crate) struct Audience {
    room: RoomId,
    world: World,
    map: Arc<AudienceMap>,
}

/// What the actor keeps between messages.
pub(crate) struct AudienceActor {
    state: AudienceState,
    gauge: Arc<Gauge>,
    collected: usize,
    flush_is_due: bool,
    rest_until: Instant,
}

impl Actor for Audience {
    type Msg = AudienceMessage;
    type State = AudienceActor;
    type Arguments = (Hello, Arc<Gauge>);

    async fn pre_start(
        &self,
        _: ActorRef<AudienceMessage>,
        (hello, gauge): (Hello, Arc<Gauge>),
    ) -> Result<AudienceActor, ActorProcessingErr> {
        let encode: Arc<dyn Encode> = Arc::clone(&self.world.encode);
        let state = AudienceState::new(self.room, encode, hello);
        Ok(AudienceActor { state, gauge, collected: 0, flush_is_due: false, rest_until: Instant::now() })
    }

    async fn handle(
        &self,
        myself: ActorRef<AudienceMessage>,
        message: AudienceMessage,
        actor: &mut AudienceActor,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AudienceMessage::Deliver { epoch, delivery } => {
                actor.collected += bytes_of(&delivery);
                if let Some(upto) = actor.state.lacks(epoch, &delivery) {
                    // A group was lost between two nodes.
                    actor.flush().await;
                    actor.state.skip(upto, Vec::new());
                }
                actor.state.collect(epoch, *delivery);
                actor.schedule(&myself);
            }
            AudienceMessage::Flush => {
                actor.flush_is_due = false;
                let began = Instant::now();
                actor.flush().await;
                actor.rest(began, self.world.settings.pacing);
            }
            AudienceMessage::Hello(hello) => {
                actor.flush().await;
                actor.state.hello(*hello);
            }
            AudienceMessage::Admit { epoch, admit } => {
                actor.flush().await;
                actor.state.admit(epoch, *admit);
            }
            AudienceMessage::Rejoin { session, at } => {
                actor.flush().await;
                actor.state.rejoin(&session, at);
            }
            AudienceMessage::Skip { head, acks } => {
                actor.flush().await;
                actor.state.skip(head, acks);
            }
            AudienceMessage::Heard { epoch, head } => {
                actor.flush().await;
                actor.state.heard(epoch, head);
            }
            AudienceMessage::Leave(session) => actor.state.leave(session),
            AudienceMessage::Typing(user) => actor.state.typing(user),
            AudienceMessage::Forget { below } => actor.state.forget(below),
            AudienceMessage::ForgetWords(user) => actor.state.forget_words(user),
            AudienceMessage::RoomEnded => actor.state.room_ended(),
            AudienceMessage::Retire => {
                actor.flush().await;
                if actor.state.is_empty() {
                    self.map.forget(self.room, myself.get_id());
                    let _ = myself.drain();
                }
            }
            #[cfg(test)]
            AudienceMessage::Panic => panic!("asked to fail"),
        }
        actor.gauge.head.store(actor.state.head(), Ordering::Relaxed);
        actor.gauge.epoch.store(actor.state.epoch(), Ordering::Relaxed);
        Ok(())
    }

    /// What came after the decision to end is still answered.
    async fn post_stop(
        &self,
        _: ActorRef<AudienceMessage>,
        actor: &mut AudienceActor,
    ) -> Result<(), ActorProcessingErr> {
        actor.flush().await;
        Ok(())
    }
}

impl AudienceActor {
    fn schedule(&mut self, myself: &ActorRef<AudienceMessage>) {
        if std::mem::replace(&mut self.flush_is_due, true) {
            return;
        }
        let rest = self.rest_until.saturating_duration_since(Instant::now());
        if rest < TIMER_GRAIN {
            let _ = myself.cast(AudienceMessage::Flush); // ended: nobody is left to be served
        } else {
            myself.send_after(rest, || AudienceMessage::Flush);
        }
    }

    async fn flush(&mut self) {
        while let Some(mut flight) = self.state.take_flight() {
            while !self.state.push_some(&mut flight, BURST) {
                tokio::task::yield_now().await;
            }
            self.state.land(flight);
        }
        self.gauge.waiting.fetch_sub(std::mem::take(&mut self.collected), Ordering::Relaxed);
    }

    /// After a fan-out that took *t*, an audience that finds more waiting rests until `pacing` × *t* have passed: a busy
    /// room sends more at once instead of more often, and one that is not busy is never delayed.
    fn rest(&mut self, began: Instant, pacing: u32) {
        let now = Instant::now();
        self.rest_until = now + now.duration_since(began).saturating_mul(pacing).min(LONGEST_REST);
    }
}
