//! Frames that the socket has not taken yet. The front one may be half written: nothing is dropped, nothing overtakes.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// In order. Owns no memory while empty.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Before everything else; for a queue of which nothing is written yet.
    pub(super) fn push_front(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_front(frame);
    }

    /// Queues `frames`, of which the first `taken` bytes are written already.
    pub(super) fn extend_after(&mut self, frames: &[Bytes], mut taken: usize) {
        for frame in frames {
            if taken >= frame.len() {
                taken -= frame.len();
                continue;
            }
            let rest = frame.slice(taken..);
            taken = 0;
            self.bytes += rest.len();
            self.frames.push_back(rest);
        }
    }

    /// Fills `slices` from the front; gives how many.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(frame);
            count += 1;
        }
        count
    }

    /// The socket has taken this many bytes.
    pub(super) fn advance(&mut self, mut taken: usize) {
        self.bytes -= taken;
        while taken > 0 {
            let front = self.frames.front_mut().expect("no more is taken than was offered");
            if taken < front.len() {
                front.advance(taken);
                return;
            }
            taken -= front.len();
            self.frames.pop_front();
        }
    }

    /// Gives back memory that is not in use.
    pub(super) fn shrink(&mut self) {
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }
}
