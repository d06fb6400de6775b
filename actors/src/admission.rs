//! A bound on what waits in a mailbox that has none: taken before a message is cast, given back when it is done.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How much may wait.
#[derive(Debug)]
pub(crate) struct Admission {
    count: AtomicUsize,
    bytes: AtomicUsize,
    most: usize,
    most_bytes: usize,
}

/// The right to one message in the mailbox; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), bytes: AtomicUsize::new(0), most, most_bytes })
    }

    /// Room for one message of this size, or `None` when too much waits already.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit { admission: Arc::clone(self), bytes };
        (count < self.most && waiting < self.most_bytes).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.count.fetch_sub(1, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let admission = Admission::new(2, 100);
        let first = admission.take(10).unwrap();
        let _second = admission.take(10).unwrap();
        assert!(admission.take(1).is_none());
        drop(first);
        assert!(admission.take(1).is_some());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let admission = Admission::new(100, 100);
        let _large = admission.take(100).unwrap();
        assert!(admission.take(1).is_none());
    }
}
