//! What can go wrong with a store, by what the caller may conclude from it.

/// A failed call. The variant says whether it can have had an effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It did not happen. Trying again later may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It did not happen: there is no room on the disk.
    #[error("the store is full: {0}")]
    Full(String),
    /// Nobody knows whether it happened, or will.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// What was read contradicts itself: a checksum or a hole. Never repaired silently.
    #[error("the store is corrupt: {0}")]
    Corrupt(String),
    /// Another process has this data folder open.
    #[error("the store is in use: {0}")]
    InUse(String),
    /// A later version wrote this store.
    #[error("the store has schema version {found}, this program knows up to {known}: use a newer program")]
    NewerSchema {
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// An earlier version wrote this store, or it is empty.
    #[error("the store has schema version {found}, this program needs {known}: run `rookery migrate`")]
    OlderSchema {
        /// Its version; 0 while there is nothing.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A cursor or argument that no caller of ours makes.
    #[error("invalid argument: {0}")]
    Invalid(String),
}

impl StoreError {
    /// Whether it is certain that the call had no effect and never will.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}
