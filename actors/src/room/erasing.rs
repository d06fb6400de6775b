//! Taking somebody's words out: the part that talks to the store.

use std::sync::Arc;

use protocol::{Seq, UserId};
use ractor::ActorRef;
use store::erasure;

use super::{Phase, Room, RoomActor, RoomMessage};

impl Room {
    /// In its own task, beside the appends: they meet in the database only where a row of the newest bucket is erased.
    pub(super) fn erase(
        &self,
        myself: &ActorRef<RoomMessage>,
        actor: &RoomActor,
        user: UserId,
        after: Seq,
        upto: Seq,
    ) {
        let Phase::Serving { state, .. } = &actor.phase else { return };
        let (store, id, myself) = (Arc::clone(&self.rooms.context.world.store), self.id, myself.clone());
        let epoch = state.epoch();
        tokio::spawn(async move {
            let part = erasure::run(&*store, id, epoch, user, after, upto).await;
            if let Err(error) = &part {
                tracing::warn!(room.id = %id, %error, "somebody's words are not all erased");
            }
            // If the room has ended meanwhile, who asked is told to ask again.
            let _ = myself.cast(RoomMessage::ErasedPart(part));
        });
    }
}
