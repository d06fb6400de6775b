//! What actors tell a session, until it looks.

use std::collections::VecDeque;

use actors::Notice;

/// Notices that wait for the session: one for each open room, one for each unanswered send, and as many again. More
/// means that the session does not run: it is ended, and the client resumes.
const NOTICES: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Notices(VecDeque<Notice>);

/// The session does not keep up.
#[derive(Debug)]
pub(super) struct Overflow;

impl Notices {
    pub(super) fn push(&mut self, notice: Notice) -> Result<(), Overflow> {
        // The end of a session is told even to one that is overrun.
        if self.0.len() >= NOTICES && !matches!(notice, Notice::End(_)) {
            return Err(Overflow);
        }
        self.0.push_back(notice);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<Notice> {
        self.0.pop_front()
    }

    /// Gives back memory that is not in use.
    pub(super) fn shrink(&mut self) {
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }
}
