//! Every user of every node, in one map. A user is at one node, except while their home moves: then the records of both
//! are kept, and the greater [`Stand`] is shown.

use std::collections::hash_map::Entry;

use super::record::{Record, Stand, User, UserMap};

/// The table is many small maps: each grows alone, so no call waits for the rehashing of all users, and memory peaks a
/// little above what is used. A purge looks through one after the other.
const SHARDS: usize = 256;

/// Which node said it. Given again to another once a node's column is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ColumnId(u16);

/// Nodes at most, dead ones included until their users are dropped. Far above what gossip carries.
pub(super) const MOST_COLUMNS: u16 = 1 << 15;

impl ColumnId {
    /// The column `index`, below [`MOST_COLUMNS`].
    pub(super) const fn new(index: u16) -> Self {
        Self(index & (MOST_COLUMNS - 1))
    }
}

/// One of two marks that alternate: while a full set is taken in, those that carry the old one were not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark(bool);

impl Mark {
    pub(super) const fn other(self) -> Self {
        Self(!self.0)
    }
}

/// A stand with the column that it belongs to and a mark, in the bits that a stand leaves free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cell(u64);

impl Cell {
    fn new(stand: Stand, column: ColumnId, mark: Mark) -> Self {
        Self(stand.bits() | u64::from(column.0) << 1 | u64::from(mark.0))
    }

    fn stand(self) -> Stand {
        Stand::from_bits(self.0)
    }

    fn column(self) -> ColumnId {
        ColumnId((self.0 >> 1) as u16 & (MOST_COLUMNS - 1))
    }

    fn mark(self) -> Mark {
        Mark(self.0 & 1 == 1)
    }
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    /// What the column said before.
    pub(super) was: Option<Stand>,
    /// What won among all columns before.
    pub(super) won: Option<Stand>,
    /// What wins now.
    pub(super) wins: Option<Stand>,
}

/// Where a purge of a column has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor(usize);

pub(super) struct Table {
    /// The winner of each user.
    shards: Vec<UserMap<Cell>>,
    /// The others of those who are at several nodes: few, and not for long.
    losers: UserMap<Vec<Cell>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| UserMap::default()).collect(), losers: UserMap::default() }
    }
}

impl Table {
    /// What wins among all columns.
    pub(super) fn winner(&self, user: User) -> Option<Stand> {
        self.shards[shard(user)].get(&user).map(|cell| cell.stand())
    }

    /// Users that are at any node.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(UserMap::len).sum()
    }

    /// The column says this of the user from now on; offline takes the user from the column.
    pub(super) fn put(&mut self, column: ColumnId, mark: Mark, record: Record) -> Changed {
        let Record { user, stand } = record;
        let cell = (!stand.is_offline()).then(|| Cell::new(stand, column, mark));
        if self.losers.contains_key(&user) {
            return self.put_among_several(column, user, cell);
        }
        match (self.shards[shard(user)].entry(user), cell) {
            (Entry::Vacant(_), None) => Changed { was: None, won: None, wins: None },
            (Entry::Vacant(vacant), Some(cell)) => {
                vacant.insert(cell);
                Changed { was: None, won: None, wins: Some(stand) }
            }
            (Entry::Occupied(winner), cell) if winner.get().column() != column => {
                let others = winner.get().stand();
                match cell {
                    None => Changed { was: None, won: Some(others), wins: Some(others) },
                    Some(_) => self.put_among_several(column, user, cell),
                }
            }
            (Entry::Occupied(mut winner), Some(cell)) => {
                let was = Some(winner.insert(cell).stand());
                Changed { was, won: was, wins: Some(stand) }
            }
            (Entry::Occupied(winner), None) => {
                let was = Some(winner.remove().stand());
                Changed { was, won: was, wins: None }
            }
        }
    }

    fn put_among_several(&mut self, column: ColumnId, user: User, cell: Option<Cell>) -> Changed {
        let winners = &mut self.shards[shard(user)];
        let mut cells = self.losers.remove(&user).unwrap_or_default();
        let won = winners.get(&user).copied();
        cells.extend(won);
        let was = cells.iter().find(|cell| cell.column() == column).map(|cell| cell.stand());
        cells.retain(|cell| cell.column() != column);
        cells.extend(cell);
        cells.sort_unstable();
        let wins = cells.pop();
        match wins {
            Some(wins) => winners.insert(user, wins),
            None => winners.remove(&user),
        };
        if !cells.is_empty() {
            self.losers.insert(user, cells);
        }
        Changed { was, won: won.map(Cell::stand), wins: wins.map(Cell::stand) }
    }

    /// The users of a column whose cells do not carry this mark.
    pub(super) fn without_mark(&self, column: ColumnId, mark: Mark) -> Vec<User> {
        let stale = |cell: &Cell| cell.column() == column && cell.mark() != mark;
        let winners = self.shards.iter().flatten().filter(|(_, cell)| stale(cell));
        let losers = self.losers.iter().filter(|(_, cells)| cells.iter().any(stale));
        winners.map(|(user, _)| *user).chain(losers.map(|(user, _)| *user)).collect()
    }

    /// Up to `limit` users of a column, from a cursor on; those given must be taken out before it is asked again. Fewer
    /// than `limit`: there are no more. Nothing may be put into the column meanwhile.
    pub(super) fn some_of(&self, column: ColumnId, cursor: &mut Cursor, limit: usize) -> Vec<User> {
        let mut found = Vec::new();
        while let Some(shard) = self.shards.get(cursor.0) {
            let of_column = shard.iter().filter(|(_, cell)| cell.column() == column);
            found.extend(of_column.map(|(user, _)| *user).take(limit - found.len()));
            if found.len() == limit {
                return found;
            }
            cursor.0 += 1;
        }
        let has = |cells: &[Cell]| cells.iter().any(|cell| cell.column() == column);
        let losers = self.losers.iter().filter(|(_, cells)| has(cells)).map(|(user, _)| *user);
        let losers: Vec<_> = losers.take(limit - found.len()).collect();
        found.extend(losers);
        found
    }

    /// All that a column says, in no order.
    #[cfg(test)]
    pub(super) fn of_column(&self, column: ColumnId) -> Vec<Record> {
        let losers = self.losers.iter().flat_map(|(user, cells)| cells.iter().map(move |cell| (user, cell)));
        let all = self.shards.iter().flatten().chain(losers);
        let own = all.filter(|(_, cell)| cell.column() == column);
        own.map(|(user, cell)| Record { user: *user, stand: cell.stand() }).collect()
    }
}

/// Which of the maps a user is in.
///
/// A map doubles when it is full. Maps of one size would all double at the same number of users, so these grow from the
/// first to the last by a factor of two in equal steps: whatever the number of users, some have just doubled and some
/// are about to, and memory per user stays even.
fn shard(user: User) -> usize {
    // Not the bits that the map itself looks at, which are the upper and the lower ones.
    let even = (user.spread() >> 20 & 0xf_ffff) as f64 / f64::from(1 << 20);
    ((1.0 + even).log2() * SHARDS as f64) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use protocol::{UserId, client::PresenceStatus};

    use super::*;
    use crate::mix::Dice;

    fn user(id: u64) -> User {
        User::new(UserId::from_u128(u128::from(id)))
    }

    fn put(table: &mut Table, column: u16, id: u64, status: PresenceStatus, at: u64) -> Changed {
        let record = Record { user: user(id), stand: Stand::new(status, at) };
        table.put(ColumnId::new(column), Mark::default(), record)
    }

    #[test]
    fn a_cell_takes_no_more_than_its_user_and_eight_bytes() {
        assert_eq!(size_of::<(User, Cell)>(), 24);
    }

    #[test]
    fn while_a_user_moves_the_newer_record_is_shown_and_the_other_takes_its_place_when_it_goes() {
        let mut table = Table::default();
        put(&mut table, 0, 1, PresenceStatus::Online, 10);
        let moved = put(&mut table, 1, 1, PresenceStatus::Away, 20);
        let [online, away] =
            [(PresenceStatus::Online, 10), (PresenceStatus::Away, 20)].map(|(s, at)| Some(Stand::new(s, at)));
        assert_eq!(moved, Changed { was: None, won: online, wins: away });
        let old = put(&mut table, 0, 1, PresenceStatus::Offline, 30);
        assert_eq!(old, Changed { was: online, won: away, wins: away });
        let last = put(&mut table, 1, 1, PresenceStatus::Offline, 40);
        assert_eq!(last, Changed { was: away, won: away, wins: None });
        assert!(table.losers.is_empty() && table.len() == 0);
    }

    #[test]
    fn the_table_says_what_a_plain_list_would() {
        let mut dice = Dice::new(3);
        let (mut table, mut plain) = (Table::default(), BTreeMap::new());
        for at in 0..20_000 {
            let (column, id) = (dice.below(4) as u16, dice.below(50));
            let status = [PresenceStatus::Offline, PresenceStatus::Online, PresenceStatus::Dnd]
                [dice.below(3) as usize];
            let at = at / 3;
            put(&mut table, column, id, status, at);
            match status {
                PresenceStatus::Offline => drop(plain.remove(&(id, column))),
                _ => drop(plain.insert((id, column), Stand::new(status, at))),
            }
            let of_user = plain.range((id, 0)..(id + 1, 0)).map(|(_, stand)| *stand);
            assert_eq!(table.winner(user(id)), of_user.max());
        }
        for column in 0..4 {
            let all = table.of_column(ColumnId::new(column)).len();
            assert_eq!(all, plain.keys().filter(|(_, of)| *of == column).count());
        }
    }

    #[test]
    fn a_column_is_found_in_parts_and_all_of_it() {
        let mut table = Table::default();
        for id in 0..3_000 {
            put(&mut table, 0, id, PresenceStatus::Online, 1);
            put(&mut table, 1 + (id % 2) as u16, id, PresenceStatus::Online, 2);
        }
        for column in 0..2 {
            let (mut cursor, mut seen) = (Cursor::default(), BTreeSet::new());
            loop {
                let some = table.some_of(ColumnId::new(column), &mut cursor, 100);
                for user in &some {
                    assert!(seen.insert(user.id()));
                    let stand = Stand::new(PresenceStatus::Offline, 3);
                    table.put(ColumnId::new(column), Mark::default(), Record { user: *user, stand });
                }
                if some.len() < 100 {
                    break;
                }
            }
            assert_eq!(seen.len(), if column == 0 { 3_000 } else { 1_500 });
        }
        assert_eq!(table.len(), 1_500);
    }

    #[test]
    fn a_user_takes_about_forty_bytes_however_many_there_are() {
        let (mut table, mut next) = (Table::default(), 50_000);
        for id in 0..400_000 {
            put(&mut table, 0, id, PresenceStatus::Online, 1);
            if id == next {
                // A map of the standard library has a power of two of buckets, an eighth of them free, each with a byte.
                let buckets = |shard: &UserMap<Cell>| (shard.capacity() * 8 / 7).next_power_of_two();
                let bytes = table.shards.iter().map(buckets).sum::<usize>() * (size_of::<(User, Cell)>() + 1);
                let each = bytes / table.len();
                println!("{} users: {each} bytes each", table.len());
                assert!((36..46).contains(&each), "{each}");
                next += next / 8;
            }
        }
    }

    #[test]
    fn shards_differ_in_size_by_two_at_most_and_evenly() {
        let mut sizes = vec![0usize; SHARDS];
        (0..256_000).for_each(|id| sizes[shard(user(id))] += 1);
        let (least, most) = (sizes[..8].iter().sum::<usize>(), sizes[SHARDS - 8..].iter().sum::<usize>());
        assert!((1.7..2.2).contains(&(most as f64 / least as f64)), "{least} and {most}");
    }
}
