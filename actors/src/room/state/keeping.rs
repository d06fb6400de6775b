//! Letting old entries go: when, one run at a time, and what the room then knows no more.

use protocol::Seq;
use store::{StoreError, log::BUCKET_ROWS, retention::Removed};

use super::{Output, RoomState, Waiting, unavailable};
use crate::{room::Answer, rooms::Retained};

/// A run and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    is_running: bool,
    /// Somebody has asked since the part that is under way began.
    is_asked_again: bool,
    removed: u64,
    replies: Vec<Answer<Retained>>,
}

impl Keeping {
    pub(super) fn is_idle(&self) -> bool {
        !self.is_running
    }
}

impl RoomState {
    /// Somebody wants old entries gone, or it is time to look.
    pub(super) fn retain(&mut self, reply: Option<Answer<Retained>>, out: &mut Vec<Output>) {
        let keeping = &mut self.keeping;
        keeping.replies.extend(reply);
        if keeping.is_running {
            keeping.is_asked_again = true;
            return;
        }
        keeping.is_running = true;
        out.push(Output::Retain);
    }

    /// A part of a run has ended.
    pub(super) fn retained(&mut self, part: Result<Removed, StoreError>, out: &mut Vec<Output>) {
        let asked_again = std::mem::take(&mut self.keeping.is_asked_again);
        let result = match part {
            Ok(removed) => {
                self.keeping.removed += removed.entries();
                self.forget_below(removed.first, out);
                if removed.more || asked_again {
                    return out.push(Output::Retain);
                }
                Ok(Retained { first: removed.first, removed: self.keeping.removed })
            }
            Err(error) => Err(unavailable(&error)),
        };
        let ended = std::mem::take(&mut self.keeping);
        out.extend(ended.replies.into_iter().map(|to| Output::Retained { to, result: result.clone() }));
    }

    fn forget_below(&mut self, first: Seq, out: &mut Vec<Output>) {
        if first > self.first_kept {
            self.first_kept = first;
            self.ring.drop_below(first);
            out.push(Output::Forget { below: first });
        }
    }
}

/// Whether a group begins a bucket, so that older ones may have become too many.
pub(super) fn begins_a_bucket(group: &[Waiting]) -> bool {
    group.first().is_some_and(|first| first.log_seq > BUCKET_ROWS && first.log_seq % BUCKET_ROWS == 1)
}

/// Whether a room whose log has come this far is looked at when it wakes.
pub(crate) fn may_have_old_buckets(log_head: Seq) -> bool {
    log_head > BUCKET_ROWS
}
