//! What a node says of one user, in 24 bytes.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use protocol::{Millis, UserId, client::PresenceStatus};

use crate::mix::{halves, mix};

/// A user as a key of maps: 16 bytes that may begin at any eighth, where a [`UserId`] would be padded to 32 with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User([u64; 2]);

impl User {
    pub(super) const fn new(id: UserId) -> Self {
        Self(halves(id.as_u128()))
    }

    pub(super) const fn id(self) -> UserId {
        UserId::from_u128((self.0[0] as u128) << 64 | self.0[1] as u128)
    }

    /// 64 bits that look like chance.
    pub(super) const fn spread(self) -> u64 {
        mix(mix(self.0[0]).wrapping_add(self.0[1]))
    }
}

impl Hash for User {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.spread());
    }
}

/// Takes [`User::spread`] as it is. User ids are drawn by servers: nobody can choose many that collide.
#[derive(Default)]
pub(super) struct SpreadHasher(u64);

impl Hasher for SpreadHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = mix(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, spread: u64) {
        self.0 = spread;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(super) type UserMap<V> = std::collections::HashMap<User, V, BuildHasherDefault<SpreadHasher>>;

/// How a user stands, and since when: of two, the greater is the one to believe. The newer wins; of two as new the
/// more noticeable, so that all nodes choose alike.
///
/// From the upper end: 44 bits of time, 4 of status. The lower 16 bits are free for whoever stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stand(u64);

/// The time takes 44 bits: until the year 2527.
const LATEST: Millis = (1 << 44) - 1;
const TIME_SHIFT: u32 = 20;
const STATUS_SHIFT: u32 = 16;

impl Stand {
    /// A time after the year 2527 is taken as its end.
    pub(super) fn new(status: PresenceStatus, at: Millis) -> Self {
        Self(at.min(LATEST) << TIME_SHIFT | u64::from(byte(status)) << STATUS_SHIFT)
    }

    /// The inverse of [`Self::parts`], from the wire; `None` if there is no such status or time.
    pub(super) fn from_parts(status: u8, at: Millis) -> Option<Self> {
        let known = status <= byte(PresenceStatus::Dnd) && at <= LATEST;
        known.then_some(Self(at << TIME_SHIFT | u64::from(status) << STATUS_SHIFT))
    }

    pub(super) fn parts(self) -> (u8, Millis) {
        ((self.0 >> STATUS_SHIFT & 0xf) as u8, self.at())
    }

    pub(super) fn at(self) -> Millis {
        self.0 >> TIME_SHIFT
    }

    pub(super) fn status(self) -> PresenceStatus {
        match self.parts().0 {
            1 => PresenceStatus::Invisible,
            2 => PresenceStatus::Away,
            3 => PresenceStatus::Online,
            4 => PresenceStatus::Dnd,
            _ => PresenceStatus::Offline,
        }
    }

    pub(super) fn is_offline(self) -> bool {
        self.parts().0 == 0
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// From the bits, whatever the lower 16 hold.
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits >> STATUS_SHIFT << STATUS_SHIFT)
    }
}

/// The byte on the wire; ascending as [`Stand`] wants.
fn byte(status: PresenceStatus) -> u8 {
    match status {
        PresenceStatus::Offline => 0,
        PresenceStatus::Invisible => 1,
        PresenceStatus::Away => 2,
        PresenceStatus::Online => 3,
        PresenceStatus::Dnd => 4,
    }
}

/// What others see of it: the invisible are not there.
pub(super) fn shown(stand: Option<Stand>) -> PresenceStatus {
    match stand.map_or(PresenceStatus::Offline, Stand::status) {
        PresenceStatus::Invisible => PresenceStatus::Offline,
        status => status,
    }
}

/// A user and how they stand. An offline one takes the user from the node's set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) user: User,
    pub(super) stand: Stand,
}

/// A summary of a set of records: equal sets have equal ones, and different sets practically never. Not a defence
/// against a node that lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct SetSum {
    /// Users in it.
    pub(super) users: u64,
    /// The records' hashes, combined so that order does not matter and each can be taken out again.
    pub(super) hash: u64,
}

impl SetSum {
    /// One user's record `was` replaced by `is`; `None` and offline are no record.
    pub(super) fn replace(&mut self, user: User, was: Option<Stand>, is: Option<Stand>) {
        let present = |stand: Option<Stand>| stand.filter(|stand| !stand.is_offline());
        if let Some(was) = present(was) {
            self.users = self.users.wrapping_sub(1);
            self.hash ^= hash(user, was);
        }
        if let Some(is) = present(is) {
            self.users = self.users.wrapping_add(1);
            self.hash ^= hash(user, is);
        }
    }
}

fn hash(user: User, stand: Stand) -> u64 {
    mix(user.spread() ^ mix(stand.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [PresenceStatus; 5] = [
        PresenceStatus::Offline,
        PresenceStatus::Invisible,
        PresenceStatus::Away,
        PresenceStatus::Online,
        PresenceStatus::Dnd,
    ];

    #[test]
    fn a_record_takes_24_bytes_and_keeps_all_it_is_made_of() {
        assert_eq!(size_of::<Record>(), 24);
        for status in STATUSES {
            let stand = Stand::new(status, 1_700_000_000_123);
            assert_eq!((stand.status(), stand.at()), (status, 1_700_000_000_123));
            let (byte, at) = stand.parts();
            assert_eq!(Stand::from_parts(byte, at), Some(stand));
            assert_eq!(Stand::from_bits(stand.bits() | 0xffff), stand);
        }
        let user = UserId::from_u128(u128::MAX / 3);
        assert_eq!(User::new(user).id(), user);
    }

    #[test]
    fn an_unknown_status_and_a_time_beyond_the_bits_are_refused() {
        assert_eq!(Stand::from_parts(5, 0), None);
        assert_eq!(Stand::from_parts(1, LATEST + 1), None);
        assert_eq!(Stand::new(PresenceStatus::Away, u64::MAX).at(), LATEST);
    }

    #[test]
    fn the_newer_wins_and_of_two_as_new_the_more_noticeable() {
        assert!(Stand::new(PresenceStatus::Away, 6) > Stand::new(PresenceStatus::Dnd, 5));
        assert!(STATUSES.windows(2).all(|pair| Stand::new(pair[0], 5) < Stand::new(pair[1], 5)));
    }

    #[test]
    fn a_sum_does_not_depend_on_the_way_to_the_set() {
        let user = |id| User::new(UserId::from_u128(id));
        let online = |at| Some(Stand::new(PresenceStatus::Online, at));
        let mut direct = SetSum::default();
        direct.replace(user(1), None, online(5));
        let mut around = SetSum::default();
        around.replace(user(2), None, online(5));
        around.replace(user(1), None, online(4));
        assert_ne!(direct, around);
        around.replace(user(2), online(5), Some(Stand::new(PresenceStatus::Offline, 9)));
        around.replace(user(1), online(4), online(5));
        assert_eq!(direct, around);
    }
}
