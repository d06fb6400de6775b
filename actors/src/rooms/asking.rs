//! Requests that somebody waits for, to a room wherever it lives.

use protocol::{ErrorCode, RoomId};
use telemetry::TraceContext;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{ANSWER_DEADLINE, LONG_DEADLINE, OPEN_BYTES, Rooms, TRY_AGAIN, restarts};
use crate::{
    PeerId,
    admission::Permit,
    mesh::{
        Place,
        calls::{Answer, Called, Request, unknown},
        wire::{Bits, PeerMessage},
    },
    room::{
        self, CommandRequest, ReplyTo, RoomMessage,
        state::{Recent, Send},
    },
    session::Refusal,
};

/// What a try of a request came to.
enum Tried {
    Answered(Result<Answer, Refusal>),
    /// Nothing was done: the room is elsewhere by now.
    NotDone,
    /// Nobody knows whether it was done.
    Unknown,
}

impl Rooms {
    /// Asks until there is an answer, or the request's time is over.
    pub(super) async fn ask(&self, room: RoomId, request: Request) -> Result<Answer, Refusal> {
        let patience = if request.is_long() { LONG_DEADLINE } else { ANSWER_DEADLINE };
        let deadline = Instant::now() + patience;
        loop {
            let place = self.place(room);
            let tried = match place {
                Place::Here => Tried::Answered(self.ask_here(room, request.clone()).await),
                Place::At(peer) => self.ask_at(peer, room, &request, deadline).await,
                Place::Unknown => Tried::NotDone,
            };
            match tried {
                // A room that went while it was asked says so in its own words.
                Tried::Answered(Err(refusal)) if refusal.definite && self.has_moved(room, place) => {}
                Tried::Answered(answer) => return answer,
                Tried::Unknown if !request.is_repeatable() => return Err(unknown()),
                Tried::NotDone | Tried::Unknown => {}
            }
            if Instant::now() + TRY_AGAIN >= deadline {
                return Err(unknown());
            }
            sleep(TRY_AGAIN).await;
        }
    }

    fn has_moved(&self, room: RoomId, from: Place) -> bool {
        from == Place::Here && self.place(room) != from
    }

    async fn ask_at(&self, peer: PeerId, room: RoomId, request: &Request, deadline: Instant) -> Tried {
        let mesh = &self.context.mesh;
        let mut call = mesh.calls.begin(peer);
        let json = serde_json::to_vec(request).expect("a request has a JSON form");
        let message = PeerMessage::Call { call: call.id, room: Bits(room), request: &json };
        if mesh.tell(peer, &message).is_err() {
            return Tried::NotDone;
        }
        match tokio::time::timeout_at(deadline, &mut call.answer).await {
            Ok(Ok(Called::Answered(answer))) => Tried::Answered(answer),
            Ok(Ok(Called::Moved)) => Tried::NotDone,
            Ok(Err(_)) | Err(_) => Tried::Unknown,
        }
    }

    /// Asks a room that is here.
    pub(crate) async fn ask_here(&self, room: RoomId, request: Request) -> Result<Answer, Refusal> {
        match request {
            Request::Post(draft) => {
                let (reply, answer) = oneshot::channel();
                self.say(room, draft, ReplyTo::Once(reply))?;
                answered(answer).await.map(|(seq, at)| Answer::Posted(seq, at))
            }
            Request::Create(new) => {
                let (reply, answer) = oneshot::channel();
                self.tell(room, OPEN_BYTES, |permit| {
                    RoomMessage::Create(Box::new(new), room::Answer::new(reply, Some(permit)))
                })?;
                answered(answer).await.map(|record| Answer::Room(Box::new(record)))
            }
            Request::Command { by, command } => {
                let (reply, answer) = oneshot::channel();
                self.tell(room, OPEN_BYTES, |permit| {
                    let (reply, trace) = (room::Answer::new(reply, Some(permit)), TraceContext::NONE);
                    RoomMessage::Command(Box::new(CommandRequest { by, command, reply, trace }))
                })?;
                answered(answer).await.map(|record| Answer::Room(Box::new(record)))
            }
            Request::Recent { user, from, limit } => {
                let (reply, answer) = oneshot::channel();
                self.tell(room, OPEN_BYTES, |permit: Permit| {
                    RoomMessage::Recent(Recent { user, from, limit, reply, _permit: Some(permit) })
                })?;
                match timeout(ANSWER_DEADLINE, answer).await {
                    Ok(Ok(Ok(page))) => Ok(Answer::Page(page)),
                    Ok(Ok(Err(code))) => Err(Refusal::new(code, "only members read this room")),
                    Ok(Err(_)) | Err(_) => Err(try_again()),
                }
            }
            Request::Retain => {
                let (reply, answer) = oneshot::channel();
                self.tell(room, OPEN_BYTES, |permit| {
                    RoomMessage::Retain(room::Answer::new(reply, Some(permit)))
                })?;
                answer.await.unwrap_or_else(|_| Err(restarts())).map(Answer::Retained)
            }
            Request::Erase { user } => {
                let (reply, answer) = oneshot::channel();
                self.tell(room, OPEN_BYTES, |permit| RoomMessage::Erase {
                    user,
                    reply: room::Answer::new(reply, Some(permit)),
                })?;
                answer.await.unwrap_or_else(|_| Err(restarts())).map(Answer::Erased)
            }
        }
    }

    pub(super) fn say(&self, room: RoomId, draft: super::Draft, reply: ReplyTo) -> Result<(), Refusal> {
        let bytes = draft.body.as_json().len();
        self.tell(room, bytes, |permit| {
            RoomMessage::Send(Box::new(Send { draft, reply, permit: Some(permit) }))
        })
    }
}

async fn answered<T>(answer: oneshot::Receiver<Result<T, Refusal>>) -> Result<T, Refusal> {
    match timeout(ANSWER_DEADLINE, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(unknown()),
    }
}

fn try_again() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "try again").retry_after(1_000)
}
