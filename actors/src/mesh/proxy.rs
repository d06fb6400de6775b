//! A socket of another node, as rooms and users here hold it: notices go over the link, frames are made over there.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use protocol::{DeviceId, Encoding, RoomId, SessionId, UserId, WriterId};

use super::{
    Mesh,
    wire::{Bits, PeerMessage, RefusedTold},
};
use crate::{
    Notice, Outbox, PeerId,
    session::{Class, Pushed, Session},
};

/// Who is at the other end.
struct Proxy {
    mesh: Arc<Mesh>,
    peer: PeerId,
    session: SessionId,
}

/// The session `id` of the node `peer`.
pub(crate) fn session(
    mesh: &Arc<Mesh>,
    peer: PeerId,
    id: SessionId,
    user: UserId,
    device: DeviceId,
) -> Session {
    let proxy = Proxy { mesh: Arc::clone(mesh), peer, session: id };
    Session { id, user, device, outbox: Arc::new(proxy) }
}

impl Outbox for Proxy {
    fn encoding(&self) -> Encoding {
        Encoding::MessagePack
    }

    fn push(&self, _: &[Bytes], _: Class) -> Pushed {
        debug_assert!(false, "frames for a socket are made on its own node");
        Pushed::Dead
    }

    fn settle(&self, _: RoomId, _: WriterId, _: u64) -> bool {
        false
    }

    fn notify(&self, notice: Notice) {
        let session = Bits(self.session);
        let message = match notice {
            Notice::Refused { room, writer, n, attempt, refusal } => PeerMessage::Refused(RefusedTold {
                room: Bits(room),
                session,
                writer: Bits(writer),
                n,
                attempt,
                refusal: refusal.into(),
            }),
            Notice::Shut { room, id, code } => PeerMessage::Shut { room: Bits(room), session, id, code },
            Notice::RoomEnded { room } => PeerMessage::Ended { room: Bits(room) },
            // Made on the node of the socket, by its audience and its users.
            Notice::Behind { .. }
            | Notice::Opened { .. }
            | Notice::AudienceEnded { .. }
            | Notice::UserEnded
            | Notice::End(_) => return,
        };
        // If it is lost, the session asks again after a while, as after every answer that does not come.
        let _ = self.mesh.tell(self.peer, &message);
    }

    fn peer(&self) -> Option<PeerId> {
        Some(self.peer)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("peer", &self.peer)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
