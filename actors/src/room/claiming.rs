//! Making a room ours: what is asked of the store before its first word.

use protocol::RoomId;
use store::{
    Store, StoreError,
    owner::{self, ClaimError, HandOver, Recovered},
    retention,
};

use super::{ClaimFailure, Claimed, state::Recovery};
use crate::World;

/// A claim of one room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    creates: bool,
    from: Option<HandOver>,
}

impl Claim {
    /// Of a room that is there, unless this `creates` it.
    pub(super) fn new(creates: bool) -> Self {
        Self { creates, from: None }
    }

    /// Of a room that its owner gives away.
    pub(super) fn handed_over(from: HandOver) -> Self {
        Self { creates: false, from: Some(from) }
    }

    pub(super) async fn run(self, world: &World, id: RoomId) -> Result<Claimed, ClaimFailure> {
        let store: &dyn Store = &*world.store;
        let recovered = match self.from {
            // Anything that speaks against it is found out by the claim proper.
            Some(from) => owner::succeed(store, from, world.chance.bits()).await.ok(),
            None => None,
        };
        let recovered = match recovered {
            Some(recovered) => recovered,
            None => self.claim(world, id).await?,
        };
        self.complete(store, id, recovered).await
    }

    async fn claim(self, world: &World, id: RoomId) -> Result<Recovered, ClaimFailure> {
        let store: &dyn Store = &*world.store;
        // An id that nobody has made a room of leaves no trace in the store.
        let known = store.room(id).await.map_err(unavailable)?.is_some()
            || store.statics(id, 0).await.map_err(unavailable)?.is_some();
        if !known && !self.creates {
            return Err(ClaimFailure::NotFound);
        }
        let mut nonces = || world.chance.bits();
        owner::claim(store, id, &mut nonces).await.map_err(|error| match error {
            ClaimError::Contended => ClaimFailure::Contended,
            ClaimError::Store(error) => unavailable(error),
        })
    }

    /// What the room begins with besides its log.
    async fn complete(
        self,
        store: &dyn Store,
        id: RoomId,
        recovered: Recovered,
    ) -> Result<Claimed, ClaimFailure> {
        let Recovered { ownership, rows, marks } = recovered;
        let roster =
            store::reader::owners_roster(store, id, ownership.member_seq()).await.map_err(unavailable)?;
        if roster.is_none() && !self.creates {
            return Err(ClaimFailure::NotFound);
        }
        let first_kept = retention::first_kept(store, id, ownership.head()).await.map_err(unavailable)?;
        let deleted =
            store::reader::deleted(store, id, &rows, ownership.head()).await.map_err(unavailable)?;
        let (epoch, log_head) = (ownership.epoch(), ownership.head());
        let recovery = Recovery { epoch, log_head, rows, marks, roster, deleted, first_kept };
        Ok(Claimed { ownership, recovery })
    }
}

fn unavailable(error: StoreError) -> ClaimFailure {
    ClaimFailure::Unavailable(error.to_string())
}
