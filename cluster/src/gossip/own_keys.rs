//! The keys that this node writes into gossip, and what they may be.
//!
//! chitchat trusts its user here: a key that doesn't begin with ASCII stops the gossip of every node, a value of more than
//! 64 KB keeps all later keys from being delivered, a deletion can keep newcomers from ever catching up, and each key costs
//! every node at every interval. So nothing but this table writes, and it refuses. Nothing here deletes.

use std::collections::BTreeMap;

/// Longest value, in bytes.
pub const LONGEST_VALUE: usize = 16 * 1024;

/// Most keys of a node.
pub const MOST_KEYS: usize = 200;

/// Longest key, in bytes.
const LONGEST_KEY: usize = 32;

/// Why a key was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// The key is not 1 to 32 of `a-z`, `0-9` and `/`, or is one that gossip keeps for itself.
    #[error("{0:?} is no key for gossip")]
    Key(String),
    /// The value is longer than 16 KiB.
    #[error("a value of {0} bytes is too long for gossip")]
    TooLong(usize),
    /// The node has 200 keys already.
    #[error("more than {MOST_KEYS} keys are too many for gossip")]
    TooMany,
}

/// The node's keys, and in which order they were last written.
#[derive(Debug, Default)]
pub(crate) struct OwnKeys {
    entries: BTreeMap<Box<str>, Entry>,
    written: u64,
}

#[derive(Debug)]
struct Entry {
    value: String,
    /// The how-manyth writing this was.
    order: u64,
}

impl OwnKeys {
    /// Writes a key. The last value counts.
    pub(crate) fn put(&mut self, key: &str, value: String) -> Result<(), BadEntry> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'/';
        if !(1..=LONGEST_KEY).contains(&key.len()) || !key.bytes().all(allowed) {
            return Err(BadEntry::Key(key.to_owned()));
        }
        if value.len() > LONGEST_VALUE {
            return Err(BadEntry::TooLong(value.len()));
        }
        if !self.entries.contains_key(key) && self.entries.len() >= MOST_KEYS {
            return Err(BadEntry::TooMany);
        }
        if self.entries.get(key).is_none_or(|entry| entry.value != value) {
            self.written += 1;
            self.entries.insert(key.into(), Entry { value, order: self.written });
        }
        Ok(())
    }

    /// How many writings there were.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// What was written after the first `known` writings and not overwritten since, in the order of writing.
    pub(crate) fn after(&self, known: u64) -> Vec<(String, String)> {
        let mut due: Vec<_> = self.entries.iter().filter(|(_, entry)| entry.order > known).collect();
        due.sort_by_key(|(_, entry)| entry.order);
        due.into_iter().map(|(key, entry)| (key.to_string(), entry.value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_put_what_comes_out_is_harmless(entries in prop::collection::vec((".{0,3}|[a-c/]{1,2}", 0_usize..20_000), 0..300)) {
            let mut keys = OwnKeys::default();
            for (key, length) in entries {
                let _ = keys.put(&key, "v".repeat(length));
            }
            let out = keys.after(0);
            prop_assert!(out.len() <= MOST_KEYS);
            for (key, value) in out {
                prop_assert!(key.is_ascii() && !key.is_empty() && value.len() <= LONGEST_VALUE);
            }
        }
    }

    #[test]
    fn the_two_hundred_and_first_key_is_refused() {
        let mut keys = OwnKeys::default();
        for number in 0..MOST_KEYS {
            keys.put(&format!("k/{number}"), String::new()).unwrap();
        }
        assert_eq!(keys.put("k/x", String::new()), Err(BadEntry::TooMany));
        assert_eq!(keys.put("k/0", "other".into()), Ok(()));
    }

    #[test]
    fn keys_come_in_the_order_of_writing_and_once() {
        let mut keys = OwnKeys::default();
        for (key, value) in [("b", "1"), ("a", "2"), ("b", "3"), ("a", "2")] {
            keys.put(key, value.into()).unwrap();
        }
        let pairs = |list: Vec<(String, String)>| {
            list.into_iter().map(|(key, value)| key + &value).collect::<Vec<_>>()
        };
        assert_eq!(pairs(keys.after(0)), ["a2", "b3"]);
        assert_eq!(pairs(keys.after(2)), ["b3"]);
        assert_eq!(pairs(keys.after(keys.written())), [""; 0]);
    }
}
