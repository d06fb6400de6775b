//! The handle to every room. Says nothing about where a room lives.

mod asking;
mod placing;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::{
    Body, ErrorCode, Incarnation, Kind, Millis, RoomId, Seq, SessionId, UserId, WriterId,
    client::{HistoryFrom, RequestId},
    entry::{Durability, HistoryAccess, Role, Visibility},
    limits,
    server::Page,
};
use ractor::{ActorCell, MessagingErr};
use serde::{Deserialize, Serialize};
use store::{
    erasure::Erased,
    members::{InviteRecord, RoomRecord},
    reader::ReadError,
};
use telemetry::TraceContext;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    admission::{Admission, Permit},
    audience::AudienceMessage,
    children::{Child, Children, Failing},
    mesh::{
        Place,
        calls::{Answer, Request, unknown},
        wire::{Bits, PeerMessage},
    },
    room::{
        ReplyTo, Room, RoomContext, RoomMessage, Unanswered,
        state::{Opening, unavailable},
    },
    session::{Refusal, Session},
};

/// What a request without a body counts for in a room's admission.
pub(crate) const OPEN_BYTES: usize = 256;
/// Actors of one room that a message is offered to.
const TRIES: usize = 3;
/// How long a request waits for a room.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long a request waits that takes as long as it takes: a day's work of an operator's tool.
const LONG_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two tries of a request whose room is not where it was.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Rooms that move to other nodes at once.
pub(crate) const MOVING: usize = 256;

/// Every room. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    pub(crate) context: RoomContext,
    pub(crate) supervisor: ActorCell,
    pub(crate) since: Instant,
    /// The right to move; see [`MOVING`].
    pub(crate) moving: Arc<Semaphore>,
}

/// A wish to hear a room whole.
#[derive(Debug, Clone)]
pub struct Open {
    /// Who.
    pub session: Session,
    /// The request, unless it is a resume.
    pub id: Option<RequestId>,
    /// Which room.
    pub room: RoomId,
    /// The last entry that the client has; `None` begins with the newest.
    pub after: Option<Seq>,
    /// The life of the room that `after` belongs to.
    pub incarnation: Option<Incarnation>,
    /// The trace.
    pub trace: TraceContext,
}

/// Something to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Draft {
    /// Who says it.
    pub user: UserId,
    /// Who counts.
    pub writer: WriterId,
    /// The count.
    pub n: u64,
    /// What it is.
    pub kind: Kind,
    /// Of which entry it speaks.
    pub target: Option<Seq>,
    /// The content.
    pub body: Body,
    /// The trace.
    #[serde(skip)]
    pub trace: TraceContext,
}

/// A room to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewRoom {
    /// Its id: random, or [`direct_room`].
    pub room: RoomId,
    /// Who makes it, and owns it.
    pub by: UserId,
    /// The other one, in a direct room; both own it.
    pub peer: Option<UserId>,
    /// Shown name.
    pub name: String,
    /// What it is about.
    pub topic: String,
    /// Who finds it.
    pub visibility: Visibility,
    /// Whether what is said is kept.
    pub durability: Durability,
    /// How far back members read.
    pub history: HistoryAccess,
}

/// What somebody wants done to a room or its members. Becomes an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Come in: a public room, as invited, or by this invitation.
    Join {
        /// The invitation, as the store has it.
        invite: Option<InviteRecord>,
    },
    /// Go.
    Leave,
    /// Let somebody in.
    Invite(UserId),
    /// Put somebody out.
    Kick(UserId),
    /// Put somebody out for good.
    Ban(UserId),
    /// Let them come back.
    Unban(UserId),
    /// Silence somebody.
    Mute {
        /// Whom.
        user: UserId,
        /// Until when; for good if absent.
        until: Option<Millis>,
    },
    /// The end of that.
    Unmute(UserId),
    /// Give somebody a role.
    SetRole {
        /// Whom.
        user: UserId,
        /// Which.
        role: Role,
    },
    /// Change the room.
    Update {
        /// Shown name.
        name: Option<String>,
        /// What it is about.
        topic: Option<String>,
        /// Who finds it; not to or from direct.
        visibility: Option<Visibility>,
        /// How far back members read.
        history: Option<HistoryAccess>,
        /// Least seconds between two sends of a member.
        slow_mode_s: Option<u32>,
    },
    /// In a direct room: do not want to hear the other one.
    Block,
    /// The end of that.
    Unblock,
    /// Delete the room.
    Delete,
}

/// What letting old entries go came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// The oldest entry that is kept.
    pub first: Seq,
    /// Entries removed.
    pub removed: u64,
}

/// The id of the one direct room of two users: a hash of the sorted pair, so that both find the same one.
pub fn direct_room(one: UserId, other: UserId) -> RoomId {
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    let mut hasher = blake3::Hasher::new_derive_key("rookery 2026-11 direct room id");
    hasher.update(&low.to_bytes());
    hasher.update(&high.to_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    RoomId::from_bytes(id)
}

/// A room's mailbox with its bound, and when it was used last.
pub(crate) struct Mailbox {
    admission: Arc<Admission>,
    /// Milliseconds since the handle was made.
    used_at: AtomicU64,
}

pub(crate) type RoomMap = Children<RoomId, RoomMessage, Mailbox>;

impl Rooms {
    /// Hear a room whole. Answered through the session's outbox: `opened` and the entries after the position, or
    /// [`crate::Notice::Shut`].
    ///
    /// # Errors
    /// When the room has too much to do.
    pub fn open(&self, open: Open) -> Result<(), Refusal> {
        let at = match self.place(open.room) {
            Place::Here => None,
            Place::At(peer) => Some(Some(peer)),
            Place::Unknown => Some(None),
        };
        if let Some(at) = at {
            let unanswered = Unanswered::new(&open);
            self.open_at(at, (open, unanswered));
            return Ok(());
        }
        let epoch = self.context.audiences.epoch(open.room).unwrap_or_default();
        self.tell(open.room, OPEN_BYTES, |permit| {
            RoomMessage::Open(Box::new(Opening::new(open, Some(permit), epoch)))
        })
    }

    /// After [`crate::Notice::Behind`]: the session has read the log up to `at` and wants to go on live. Answered by
    /// the stream, or by another `Behind`, or by [`crate::Notice::AudienceEnded`].
    pub fn rejoin(&self, room: RoomId, session: &Session, at: Seq) {
        self.context.audiences.rejoin(room, session, at);
    }

    /// Hear it no more.
    pub fn close(&self, room: RoomId, session: SessionId) {
        self.context.audiences.leave(room, session);
        self.context.mesh.ports.leave(room, session);
    }

    /// Say something. `attempt` counts the session's own tries of this `(room, writer, n)`, from 1, and comes back with
    /// a refusal. Answered `ack` through the outbox, or [`crate::Notice::Refused`].
    ///
    /// # Errors
    /// When the room has too much to do: the same refusal that a notice would bring.
    pub fn send(&self, room: RoomId, draft: Draft, session: &Session, attempt: u32) -> Result<(), Refusal> {
        let at = match self.place(room) {
            Place::Here => {
                return self.say(room, draft, ReplyTo::Session { session: session.clone(), attempt });
            }
            Place::At(peer) => Some(peer),
            Place::Unknown => None,
        };
        let mesh = &self.context.mesh;
        mesh.ports.send(mesh, at, room, session, (&draft, attempt), Instant::now());
        Ok(())
    }

    /// Say something, and wait for the answer (REST). At most 10 s; then `unknown`, not definite.
    ///
    /// # Errors
    /// Why it is not in the room.
    pub async fn post(&self, room: RoomId, draft: Draft) -> Result<(Seq, Millis), Refusal> {
        match self.ask(room, Request::Post(draft)).await? {
            Answer::Posted(seq, at) => Ok((seq, at)),
            _ => Err(unknown()),
        }
    }

    /// The user is typing: tells those who have the room open. Nothing happens if the room is not active.
    pub fn typing(&self, room: RoomId, session: &Session) {
        let user = session.user;
        match self.place(room) {
            Place::Here => {
                if let Some(child) = self.context.rooms.get(room) {
                    let _ = child.actor.cast(RoomMessage::Typing { user }); // it ended: it is typing
                }
            }
            Place::At(peer) => {
                self.context.mesh.hint(peer, &PeerMessage::Typing { room: Bits(room), user: Bits(user) });
            }
            Place::Unknown => {}
        }
    }

    /// Makes a room. A direct room that exists already is not changed and given back; another id in use is a
    /// `conflict`.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn create(&self, new: NewRoom) -> Result<RoomRecord, Refusal> {
        self.change(new.room, Request::Create(new)).await
    }

    /// Does something to a room or its members; gives the room as it is after it. Doing what is done already
    /// succeeds.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn command(&self, room: RoomId, by: UserId, command: Command) -> Result<RoomRecord, Refusal> {
        self.change(room, Request::Command { by, command }).await
    }

    async fn change(&self, room: RoomId, request: Request) -> Result<RoomRecord, Refusal> {
        match self.ask(room, request).await? {
            Answer::Room(record) => Ok(*record),
            _ => Err(unknown()),
        }
    }

    /// Removes what the operator does not keep of a room, now. Rooms do so by themselves when they wake and when a bucket
    /// of their log is full. Takes as long as there is something to remove.
    ///
    /// # Errors
    /// When the store is away, or the room ends meanwhile: what was removed stays so, and the next run goes on.
    pub async fn retain(&self, room: RoomId) -> Result<Retained, Refusal> {
        match self.ask(room, Request::Retain).await? {
            Answer::Retained(retained) => Ok(retained),
            _ => Err(restarts()),
        }
    }

    /// Takes everything that a user has said out of a room: its log, and what room and listeners remember. Entries stay, as
    /// `erased`, and so do memberships. Who may still be sending has to be shut out before. Takes as long as it takes.
    ///
    /// # Errors
    /// When the store is away, or the room ends or is lost meanwhile: what was erased stays so, ask again.
    pub async fn erase(&self, room: RoomId, user: UserId) -> Result<Erased, Refusal> {
        match self.ask(room, Request::Erase { user }).await? {
            Answer::Erased(erased) => Ok(erased),
            _ => Err(restarts()),
        }
    }

    /// A page of the log for this user, authorised and masked.
    ///
    /// # Errors
    /// Why not.
    pub async fn page(
        &self,
        user: UserId,
        room: RoomId,
        from: Option<HistoryFrom>,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let store = &self.context.world.store;
        let record = store.room(room).await.map_err(|error| unavailable(&error))?;
        let ephemeral = record.is_some_and(|record| record.durability == Durability::Ephemeral);
        if ephemeral {
            let limit = limit.clamp(1, limits::PAGE_ENTRIES);
            return match self.ask(room, Request::Recent { user, from, limit }).await? {
                Answer::Page(page) => Ok(page),
                _ => Err(restarts()),
            };
        }
        store::reader::page(&**store, user, room, from, limit).await.map_err(|error| match error {
            ReadError::NotFound => Refusal::new(ErrorCode::NotFound, "no such room"),
            ReadError::NotAMember => Refusal::new(ErrorCode::NotAMember, "only members read this room"),
            ReadError::Banned => Refusal::new(ErrorCode::Banned, "banned from this room"),
            ReadError::Store(error) => unavailable(&error),
        })
    }

    /// Casts to a room that is here; starts its actor on first use.
    pub(crate) fn tell(
        &self,
        room: RoomId,
        bytes: usize,
        message: impl FnOnce(Permit) -> RoomMessage,
    ) -> Result<(), Refusal> {
        let mut message = Some(message);
        let mut ready: Option<RoomMessage> = None;
        // An actor that just retired is replaced; twice in a row is not to be expected.
        for _ in 0..TRIES {
            let child = self.child(room)?;
            let next = match (ready.take(), message.take()) {
                (Some(ready), _) => ready,
                (None, Some(message)) => {
                    let permit = child.extra.admission.take(bytes).ok_or_else(overloaded)?;
                    message(permit)
                }
                (None, None) => break,
            };
            match child.actor.send_message(next) {
                Err(MessagingErr::SendErr(back)) => {
                    self.context.rooms.forget(room, child.actor.get_id());
                    ready = Some(back);
                }
                Ok(()) | Err(_) => return Ok(()),
            }
        }
        Err(restarts())
    }

    pub(crate) fn child(&self, room: RoomId) -> Result<Arc<Child<RoomMessage, Mailbox>>, Refusal> {
        let settings = &self.context.world.settings;
        let child = self.context.rooms.get_or_spawn(room, &self.supervisor, || {
            let admission = Admission::new(settings.room_waiting, settings.room_waiting_bytes);
            let mailbox = Mailbox { admission, used_at: AtomicU64::new(0) };
            (Room { id: room, rooms: self.clone() }, (), mailbox)
        });
        let child = child.map_err(|Failing| {
            Refusal::new(ErrorCode::Unavailable, "the room fails again and again").retry_after(30_000)
        })?;
        child.extra.used_at.store(self.now(), Ordering::Relaxed);
        Ok(child)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks rooms that were not used for a while to retire, and audiences that nobody hears.
    pub(crate) fn sweep(&self) {
        let idle_since = self.now().saturating_sub(self.context.world.settings.room_idle_ms);
        for (_, room) in self.context.rooms.all() {
            if room.extra.used_at.load(Ordering::Relaxed) < idle_since {
                let _ = room.actor.cast(RoomMessage::Retire); // it ended by itself
            }
        }
        for (_, audience) in self.context.audiences.map.all() {
            let _ = audience.actor.cast(AudienceMessage::Retire); // it ended by itself
        }
    }

    /// How many rooms are active here.
    pub fn active(&self) -> usize {
        self.context.rooms.len()
    }

    /// Which, in their order, each with its latest epoch if a listener here knows it.
    pub fn all_active(&self) -> Vec<(RoomId, Option<u64>)> {
        let mut rooms: Vec<RoomId> = self.context.rooms.all().into_iter().map(|(room, _)| room).collect();
        rooms.sort_unstable();
        rooms.into_iter().map(|room| (room, self.context.audiences.epoch(room))).collect()
    }

    /// Whether this room is active here.
    pub fn is_active(&self, room: RoomId) -> bool {
        self.context.rooms.get(room).is_some()
    }
}

fn restarts() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "the room restarts").retry_after(50)
}

fn overloaded() -> Refusal {
    Refusal::new(ErrorCode::Overloaded, "the room has too much to do").retry_after(1_000)
}
