//! Letting old entries go: the part that talks to the store, beside the appends and never in their way.

use ractor::ActorRef;
use store::retention;

use super::{Room, RoomMessage};

/// Buckets removed, or looked at, before the room is told: what a stop of the server may have to wait for.
const PART: u64 = 8;

impl Room {
    pub(super) fn retain(&self, myself: &ActorRef<RoomMessage>) {
        let (world, id, myself) = (self.rooms.context.world.clone(), self.id, myself.clone());
        tokio::spawn(async move {
            let (default, now) = (world.settings.retention, world.clock.now());
            let part = retention::run(&*world.store, id, default, now, PART).await;
            match &part {
                Ok(removed) if removed.buckets > 0 => {
                    tracing::info!(room.id = %id, buckets = removed.buckets, first = removed.first, "old entries removed");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(room.id = %id, %error, "old entries not removed"),
            }
            // If the room has ended meanwhile, its next actor goes on.
            let _ = myself.cast(RoomMessage::RetainedPart(part));
        });
    }
}
