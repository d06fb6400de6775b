//! Whose shown status changed since it was last told.

use std::collections::{VecDeque, hash_map::Entry};

use protocol::{Millis, client::PresenceStatus};

use super::{
    record::{User, UserMap, shown},
    table::{Changed, Table},
};

/// Changes that there is always room for: those of a busy interval.
const ROOM_KEPT: usize = 16_384;

/// Changes that wait to be told: one per user, whatever happened in between, oldest first. Bounded by the users that the
/// table knows or knew when they last were told.
#[derive(Default)]
pub(super) struct News {
    waiting: UserMap<Waiting>,
    order: VecDeque<User>,
}

struct Waiting {
    told: PresenceStatus,
    changed: Millis,
}

impl News {
    /// Something was put into the table that is true since `at`.
    pub(super) fn note(&mut self, user: User, changed: &Changed, at: Millis) {
        let told = shown(changed.won);
        match self.waiting.entry(user) {
            Entry::Occupied(mut waiting) => waiting.get_mut().changed = at,
            Entry::Vacant(_) if told == shown(changed.wins) => {}
            Entry::Vacant(vacant) => {
                vacant.insert(Waiting { told, changed: at });
                self.order.push_back(user);
            }
        }
    }

    /// The oldest change that is still one: the user, what is shown now, and since when.
    pub(super) fn next(&mut self, table: &Table) -> Option<(User, PresenceStatus, Millis)> {
        let next = std::iter::from_fn(|| self.pop(table)).flatten().next();
        if self.is_empty() {
            self.give_back();
        }
        next
    }

    /// The oldest that waits; inner `None` if it is no change any more.
    fn pop(&mut self, table: &Table) -> Option<Option<(User, PresenceStatus, Millis)>> {
        let user = self.order.pop_front()?;
        let Waiting { told, changed } = self.waiting.remove(&user)?;
        let winner = table.winner(user);
        let is_news = shown(winner) != told;
        Some(is_news.then(|| (user, shown(winner), winner.map_or(changed, |stand| stand.at()))))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All is told. The room that a whole node's users took is not needed again soon.
    fn give_back(&mut self) {
        if self.order.capacity() > ROOM_KEPT {
            *self = Self::default();
        }
    }
}
