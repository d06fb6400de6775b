//! The writer's side: what this node says of its own users.
//!
//! Changes are collected and given out by [`Ring::flush`], once per gossip interval: each batch has the next sequence
//! number and goes to the slot of that number, over what was written there a round before. So gossip keeps a bounded
//! number of keys and never a deletion, and who has heard all but the last 128 batches needs nothing else. Who has not
//! asks, and [`Ring::answer`] gives what changed since, or everything.

use std::collections::{VecDeque, hash_map::Entry};

use protocol::{Millis, UserId, client::PresenceStatus};

use super::{
    record::{Record, Stand, User, UserMap},
    wire::{BATCH_RECORDS, Batch, Head, Malformed, PAGE_RECORDS, Page, PageHead, Request},
};
use crate::NodeName;

/// Slots of the ring: how many batches a reader may be behind before it must ask. 25 s at five flushes a second.
pub const SLOTS: u64 = 128;
/// The key of the head.
pub const HEAD_KEY: &str = "p/head";

/// What a ring holds to. Smaller in tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Records of a batch: as many as fit into a value.
    pub(super) batch: usize,
    /// Batches written to slots in one flush. Gossip moves 64 KB in an exchange; with more, only the head is written, and
    /// readers ask through their links. With the default: 20,000 changes/s at five flushes a second.
    pub(super) slots_at_once: usize,
    /// Records of past batches, for readers that ask what changed since they knew all: 6 MB. When full, the oldest
    /// batches are forgotten, and who is behind them gets the whole set.
    pub(super) log: usize,
    /// Records of a page.
    pub(super) page: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { batch: BATCH_RECORDS, slots_at_once: 8, log: 1 << 18, page: PAGE_RECORDS }
    }
}

/// How long past batches are kept, in milliseconds: a partition or a pause of minutes ends without full sets.
const LOG_KEPT: Millis = 5 * 60 * 1000;

/// This node's users and the latest of their changes. One life of a node has one ring.
pub struct Ring {
    generation: u64,
    bounds: Bounds,
    /// What changed since the last flush: the last change of each user. Bounded by the users of this node.
    pending: UserMap<Stand>,
    /// All users that are not offline, as of `head`.
    set: UserMap<Stand>,
    head: Head,
    /// Past batches without a gap, the newest last: that of `head.seq`.
    log: VecDeque<Logged>,
    logged: usize,
    /// The head was written at least once.
    begun: bool,
}

struct Logged {
    flushed: Millis,
    records: Vec<Record>,
}

/// What a flush gives: values for gossip, and the same for this node's own directory.
#[derive(Debug, Clone, Default)]
pub struct Flush {
    /// Keys (`p/000` to `p/127`, `p/head`) and values, to be written in this order. Values are ASCII and at most 16 KB.
    pub values: Vec<(String, String)>,
    pub(super) batches: Vec<Batch>,
    pub(super) head: Head,
}

impl Ring {
    /// The ring of this life of this node, without users.
    pub fn new(node: &NodeName) -> Self {
        Self::with_bounds(node, Bounds::default())
    }

    /// The same users in another life of this node: the next flush tells of all of them.
    pub fn reborn(&mut self, node: &NodeName) {
        let mut next = Self::with_bounds(node, self.bounds);
        next.pending = std::mem::take(&mut self.set);
        for (user, stand) in self.pending.drain() {
            match stand.status() {
                PresenceStatus::Offline => _ = next.pending.remove(&user),
                _ => _ = next.pending.insert(user, stand),
            }
        }
        *self = next;
    }

    pub(super) fn with_bounds(node: &NodeName, bounds: Bounds) -> Self {
        Self {
            generation: node.generation(),
            bounds,
            pending: UserMap::default(),
            set: UserMap::default(),
            head: Head::default(),
            log: VecDeque::new(),
            logged: 0,
            begun: false,
        }
    }

    /// A user whose home is here has this status since `at`, in milliseconds since 1970. Offline: or is no longer at home
    /// here. Saying again what was said before costs nothing and changes nothing, not even the time.
    pub fn change(&mut self, user: UserId, status: PresenceStatus, at: Millis) {
        let user = User::new(user);
        let published = self.set.get(&user).map_or(PresenceStatus::Offline, |stand| stand.status());
        if published == status {
            self.pending.remove(&user);
            return;
        }
        match self.pending.entry(user) {
            Entry::Occupied(pending) if pending.get().status() == status => {}
            Entry::Occupied(mut pending) => drop(pending.insert(Stand::new(status, at))),
            Entry::Vacant(vacant) => drop(vacant.insert(Stand::new(status, at))),
        }
    }

    /// Whether a flush would give anything.
    pub fn is_due(&self) -> bool {
        !self.pending.is_empty() || !self.begun
    }

    /// Users of this node that are not offline, as of the last flush.
    pub fn users(&self) -> u64 {
        self.head.sum.users
    }

    /// Gives out what changed; nothing when nothing did. To be called once per gossip interval. `now`: milliseconds by a
    /// clock that does not go back.
    pub fn flush(&mut self, now: Millis) -> Flush {
        if !self.is_due() {
            return Flush { head: self.head, ..Flush::default() };
        }
        self.begun = true;
        let pending = std::mem::take(&mut self.pending);
        let records: Vec<_> = pending.into_iter().map(|(user, stand)| Record { user, stand }).collect();
        records.iter().for_each(|record| self.apply(*record));
        let first = self.head.seq + 1;
        let parts = records.chunks(self.bounds.batch);
        let batches: Vec<_> =
            (first..).zip(parts).map(|(seq, part)| Batch { seq, records: part.to_vec() }).collect();
        self.head.seq += batches.len() as u64;
        self.log(&batches, now);
        Flush { values: self.values(&batches), batches, head: self.head }
    }

    fn apply(&mut self, Record { user, stand }: Record) {
        let was = if stand.is_offline() { self.set.remove(&user) } else { self.set.insert(user, stand) };
        self.head.sum.replace(user, was, Some(stand));
    }

    fn log(&mut self, batches: &[Batch], now: Millis) {
        for batch in batches {
            self.logged += batch.records.len();
            self.log.push_back(Logged { flushed: now, records: batch.records.clone() });
        }
        while let Some(oldest) = self.log.front() {
            if self.logged <= self.bounds.log && now.saturating_sub(oldest.flushed) <= LOG_KEPT {
                break;
            }
            self.logged -= oldest.records.len();
            self.log.pop_front();
        }
    }

    /// Slots first: a reader that sees a head has been offered every slot up to it. A head beyond the slots is what tells
    /// readers to ask, and stays true when a later head replaces it.
    fn values(&self, batches: &[Batch]) -> Vec<(String, String)> {
        let in_slots = if batches.len() <= self.bounds.slots_at_once { batches } else { &[] };
        let slot = |batch: &Batch| (slot_key(batch.seq), Batch::encode(batch.seq, &batch.records));
        let mut values: Vec<_> = in_slots.iter().map(slot).collect();
        values.push((HEAD_KEY.to_owned(), self.head.encode()));
        values
    }

    /// Answers another node's request, in pages to be sent in order through the link to it. Copies up to 24 bytes per user
    /// of this node; pages are encoded one by one as they are taken.
    ///
    /// # Errors
    /// When the bytes are no request, or one to an earlier life of this node.
    pub fn answer(&self, request: &[u8]) -> Result<Answer, Malformed> {
        let request = Request::decode(request)?;
        if request.generation != self.generation {
            return Err(Malformed::OtherLife);
        }
        let changes = request.since.and_then(|since| self.changes_since(since));
        let is_full = changes.is_none();
        let records = changes.unwrap_or_else(|| self.everybody());
        Ok(Answer {
            about: PageHead { request: request.id, index: 0, is_last: false, is_full, head: self.head },
            records,
            page: self.bounds.page,
            sent: 0,
        })
    }

    fn everybody(&self) -> Vec<Record> {
        self.set.iter().map(|(user, stand)| Record { user: *user, stand: *stand }).collect()
    }

    /// The last change of each user since this sequence; `None` if that is not known any more, or more than everything.
    fn changes_since(&self, since: u64) -> Option<Vec<Record>> {
        let behind = usize::try_from(self.head.seq.checked_sub(since)?).ok()?;
        let start = self.log.len().checked_sub(behind)?;
        let batches = self.log.range(start..);
        if batches.clone().map(|batch| batch.records.len()).sum::<usize>()
            > self.set.len().max(self.bounds.page)
        {
            return None;
        }
        let newest: UserMap<Stand> =
            batches.flat_map(|batch| &batch.records).map(|record| (record.user, record.stand)).collect();
        Some(newest.into_iter().map(|(user, stand)| Record { user, stand }).collect())
    }

    #[cfg(test)]
    pub(super) fn head(&self) -> Head {
        self.head
    }

    #[cfg(test)]
    pub(super) fn set(&self) -> &UserMap<Stand> {
        &self.set
    }
}

fn slot_key(seq: u64) -> String {
    format!("p/{:03}", seq % SLOTS)
}

/// Pages of at most [`LONGEST_PAGE`](super::LONGEST_PAGE) bytes; at least one.
pub struct Answer {
    about: PageHead,
    records: Vec<Record>,
    page: usize,
    sent: usize,
}

impl Answer {
    /// Users in all pages together.
    pub fn users(&self) -> usize {
        self.records.len()
    }
}

impl Iterator for Answer {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.about.is_last {
            return None;
        }
        let end = self.records.len().min(self.sent + self.page);
        self.about.is_last = end == self.records.len();
        let page = Page::encode(self.about, &self.records[self.sent..end]);
        self.sent = end;
        self.about.index += 1;
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::wire::LONGEST_VALUE, *};

    fn ring() -> Ring {
        Ring::new(&NodeName::new("a", 7).unwrap())
    }

    fn user(id: usize) -> UserId {
        UserId::from_u128(id as u128)
    }

    fn online(ring: &mut Ring, users: std::ops::Range<usize>) -> Flush {
        users.for_each(|id| ring.change(user(id), PresenceStatus::Online, 100));
        ring.flush(100)
    }

    fn keys(flush: &Flush) -> Vec<&str> {
        flush.values.iter().map(|(key, _)| key.as_str()).collect()
    }

    /// Whether everything was sent, and how many records.
    fn ask(ring: &Ring, since: Option<u64>) -> (bool, usize) {
        let pages = ring.answer(&Request { id: 1, generation: 7, since }.encode()).unwrap();
        let pages: Vec<_> = pages.map(|page| Page::decode(&page).unwrap()).collect();
        let order = pages.iter().map(|page| (page.about.index as usize, page.about.is_last));
        assert!(order.eq((0..pages.len()).map(|index| (index, index == pages.len() - 1))));
        (pages[0].about.is_full, pages.iter().map(|page| page.records.len()).sum())
    }

    #[test]
    fn the_first_flush_says_that_nobody_is_here_and_the_next_says_nothing() {
        let mut ring = ring();
        assert_eq!(keys(&ring.flush(1)), ["p/head"]);
        assert!(ring.flush(2).values.is_empty() && !ring.is_due());
    }

    #[test]
    fn of_several_changes_of_a_user_the_last_is_written_and_none_if_nothing_changed() {
        let mut ring = ring();
        online(&mut ring, 0..1);
        ring.change(user(0), PresenceStatus::Away, 200);
        ring.change(user(0), PresenceStatus::Dnd, 201);
        ring.change(user(1), PresenceStatus::Online, 202);
        ring.change(user(1), PresenceStatus::Offline, 203);
        let flush = ring.flush(300);
        assert_eq!(flush.batches[0].records.len(), 1);
        assert_eq!(flush.batches[0].records[0].stand, Stand::new(PresenceStatus::Dnd, 201));
        ring.change(user(0), PresenceStatus::Online, 400);
        ring.change(user(0), PresenceStatus::Dnd, 401);
        assert!(ring.flush(500).values.is_empty());
        assert_eq!(ring.users(), 1);
    }

    #[test]
    fn batches_go_round_the_slots_and_fit_into_values() {
        let mut ring = ring();
        for turn in 0..SLOTS {
            let id = turn as usize;
            assert_eq!(
                keys(&online(&mut ring, id..id + 1)),
                [&*format!("p/{:03}", (turn + 1) % SLOTS), "p/head"]
            );
        }
        let flush = online(&mut ring, 1_000..1_000 + 8 * BATCH_RECORDS);
        assert_eq!(flush.values.len(), 9);
        assert!(flush.values.iter().all(|(key, value)| key.is_ascii() && value.len() <= LONGEST_VALUE));
    }

    #[test]
    fn a_flood_raises_the_head_and_writes_no_slots() {
        let mut ring = ring();
        let flush = online(&mut ring, 0..8 * BATCH_RECORDS + 1);
        assert_eq!(keys(&flush), ["p/head"]);
        assert_eq!(ring.head().seq, 9);
        assert_eq!(ask(&ring, Some(0)), (false, 8 * BATCH_RECORDS + 1));
    }

    #[test]
    fn who_asks_gets_what_changed_or_everything() {
        let mut ring = ring();
        online(&mut ring, 0..20_001);
        let known = ring.head().seq;
        ring.change(user(0), PresenceStatus::Away, 200);
        ring.flush(200);
        ring.change(user(0), PresenceStatus::Offline, 300);
        ring.flush(300);
        assert_eq!(ask(&ring, None), (true, 20_000));
        assert_eq!(ask(&ring, Some(known)), (false, 1));
        assert_eq!(ask(&ring, Some(known + 2)), (false, 0));
        assert_eq!(ask(&ring, Some(known + 3)), (true, 20_000), "a sequence that never was");
    }

    #[test]
    fn changes_are_forgotten_after_a_while_and_when_there_are_too_many() {
        let bounds = Bounds { log: 10, ..Bounds::default() };
        let mut small = Ring::with_bounds(&NodeName::new("a", 7).unwrap(), bounds);
        online(&mut small, 0..6);
        online(&mut small, 6..12);
        assert_eq!((ask(&small, Some(1)), ask(&small, Some(0))), ((false, 6), (true, 12)));
        let mut ring = ring();
        online(&mut ring, 0..1);
        ring.change(user(1), PresenceStatus::Away, 200);
        ring.flush(101 + LOG_KEPT);
        assert_eq!((ask(&ring, Some(1)), ask(&ring, Some(0))), ((false, 1), (true, 2)));
    }

    #[test]
    fn a_request_to_another_life_is_refused() {
        let request = Request { id: 1, generation: 6, since: None }.encode();
        assert_eq!(ring().answer(&request).err(), Some(Malformed::OtherLife));
        assert_eq!(ring().answer(b"?").err(), Some(Malformed::Format(b'?')));
    }
}
