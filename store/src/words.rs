//! Choices that databases keep as words, so that their files can be read without a table of numbers.

use protocol::entry::{Durability, HistoryAccess, Role, Visibility};

use crate::{StoreError, members::MemberState};

/// A choice with a word for each of its values.
pub(crate) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(Self, &'static str)];

    fn word(self) -> &'static str {
        Self::NAMES.iter().find(|(value, _)| *value == self).map_or("", |(_, name)| name)
    }

    fn of_word(word: &str) -> Result<Self, StoreError> {
        let found = Self::NAMES.iter().find(|(_, known)| *known == word);
        found.map(|(value, _)| *value).ok_or_else(|| StoreError::Corrupt(format!("{word:?} is not known")))
    }
}

impl Named for Visibility {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::Public, "public"), (Self::Private, "private"), (Self::Direct, "direct")];
}

impl Named for Durability {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::Durable, "durable"), (Self::Ephemeral, "ephemeral")];
}

impl Named for HistoryAccess {
    const NAMES: &'static [(Self, &'static str)] = &[(Self::All, "all"), (Self::SinceJoined, "since_joined")];
}

impl Named for Role {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::Member, "member"), (Self::Admin, "admin"), (Self::Owner, "owner")];
}

impl Named for MemberState {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Joined, "joined"),
        (Self::Invited, "invited"),
        (Self::Left, "left"),
        (Self::Kicked, "kicked"),
        (Self::Banned, "banned"),
    ];
}
