//! Asking the store whether a room is still ours, when somebody has heard more of it than we know: an owner learns by its
//! own appends that it was followed, and one that appends nothing would not.

use std::sync::Arc;

use ractor::ActorRef;
use store::{StoreError, log::newest_bucket};

use super::{
    Phase, Room, RoomActor, RoomMessage,
    state::{self, Input, Opening},
};

impl Room {
    pub(super) fn verify(&self, myself: &ActorRef<RoomMessage>, opening: Option<Opening>) {
        let (store, id, myself) = (Arc::clone(&self.rooms.context.world.store), self.id, myself.clone());
        tokio::spawn(async move {
            let newest = newest_bucket(&*store, id).await;
            let epoch = newest.map(|found| found.map_or(0, |(_, statics)| statics.epoch));
            // If the room has ended meanwhile, the session is told to ask again.
            let _ = myself.cast(RoomMessage::Verified { opening: opening.map(Box::new), epoch });
        });
    }

    pub(super) fn verified(
        &self,
        myself: &ActorRef<RoomMessage>,
        actor: &mut RoomActor,
        opening: Option<Box<Opening>>,
        epoch: Result<u64, StoreError>,
    ) {
        let opening = opening.map(|opening| Opening { is_verified: true, ..*opening });
        match (epoch, &actor.phase) {
            (Ok(epoch), Phase::Serving { state, .. }) if epoch > state.epoch() => {
                tracing::info!(room.id = %self.id, epoch, "another owner has the room");
                self.retire(myself, actor);
                self.tell_ended(actor);
                self.ask_elsewhere(opening.map(Input::Open).into_iter().collect());
            }
            (Ok(_), _) => {
                opening.into_iter().for_each(|opening| self.take(myself, actor, Input::Open(opening)))
            }
            (Err(error), _) => {
                let refusal = state::unavailable(&error);
                opening.into_iter().for_each(|opening| self.refuse(Input::Open(opening), &refusal));
            }
        }
    }
}
