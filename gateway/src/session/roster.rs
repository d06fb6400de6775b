//! All sockets, to tell them that the gateway stops.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use crate::outbox::SocketOutbox;

/// Every socket that is open.
#[derive(Default)]
pub(crate) struct Roster(Mutex<Sockets>);

#[derive(Default)]
struct Sockets {
    /// By the address of the outbox.
    open: HashMap<usize, Weak<SocketOutbox>>,
    is_stopped: bool,
}

/// A socket's line; struck out when dropped.
pub(crate) struct Entry {
    roster: Arc<Roster>,
    key: usize,
}

impl Roster {
    pub(crate) fn enter(self: &Arc<Self>, outbox: &Arc<SocketOutbox>) -> Entry {
        let key = Arc::as_ptr(outbox) as usize;
        let mut sockets = self.lock();
        sockets.open.insert(key, Arc::downgrade(outbox));
        if sockets.is_stopped {
            outbox.stop(Duration::ZERO);
        }
        Entry { roster: self.clone(), key }
    }

    /// Lets every client go, to come back spread over this time.
    pub(crate) fn stop(&self, spread: Duration) {
        let outboxes = {
            let mut sockets = self.lock();
            sockets.is_stopped = true;
            sockets.open.values().filter_map(Weak::upgrade).collect::<Vec<_>>()
        };
        let count = outboxes.len().max(1) as u32;
        for (place, outbox) in (0..).zip(outboxes) {
            outbox.stop(spread / count * place);
        }
    }

    /// Cuts those that are left.
    pub(crate) fn kill(&self) {
        let outboxes: Vec<_> = self.lock().open.values().filter_map(Weak::upgrade).collect();
        outboxes.iter().for_each(|outbox| outbox.kill());
    }

    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.roster.lock().open.remove(&self.key);
    }
}
