//! What an error of the driver says about the effect of a request. The one place that decides it.

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::statement::Consistency;

use crate::StoreError;

/// What is known of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It was not sent, or refused before it had an effect. Later it may succeed.
    None,
    /// The same, and it will never succeed: a statement that this database does not accept, or rights that are missing.
    Never,
    /// Nobody knows: it may have had its effect, or may have it later.
    Unknown,
}

/// What is known of the effect. Whatever is new or unheard of counts as unknown: that costs a repetition, the opposite
/// mistake a message.
pub(super) fn effect(error: &ExecutionError) -> Effect {
    match error {
        ExecutionError::BadQuery(_) => Effect::Never,
        ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) => Effect::None,
        ExecutionError::PrepareError(_) => Effect::None,
        ExecutionError::LastAttemptError(error) => effect_of_attempt(error),
        // A request that timed out goes on; of the rest we make no use.
        _ => Effect::Unknown,
    }
}

fn effect_of_attempt(error: &RequestAttemptError) -> Effect {
    match error {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => {
            Effect::Never
        }
        RequestAttemptError::UnableToAllocStreamId
        | RequestAttemptError::RepreparedIdChanged { .. }
        | RequestAttemptError::RepreparedIdMissingInBatch => Effect::None,
        RequestAttemptError::DbError(error, _) => effect_of_answer(error),
        // Broken connections and answers that can't be read above all.
        _ => Effect::Unknown,
    }
}

fn effect_of_answer(error: &DbError) -> Effect {
    match error {
        DbError::SyntaxError
        | DbError::Invalid
        | DbError::Unauthorized
        | DbError::AuthenticationError
        | DbError::ConfigError
        | DbError::ProtocolError
        | DbError::AlreadyExists { .. } => Effect::Never,
        DbError::IsBootstrapping | DbError::Unprepared { .. } => Effect::None,
        // Before the first round: later ones name the consistency of the commit.
        DbError::Unavailable { consistency: Consistency::Serial | Consistency::LocalSerial, .. } => {
            Effect::None
        }
        _ => Effect::Unknown,
    }
}

/// What the caller of a conditional write is told.
pub(super) fn of_write(error: &ExecutionError) -> StoreError {
    let text = error.to_string();
    match effect(error) {
        Effect::None => StoreError::Unavailable(text),
        Effect::Never => {
            tracing::error!(%error, "the database refuses a statement and always will");
            StoreError::Unavailable(text)
        }
        Effect::Unknown => StoreError::Unknown(text),
    }
}

/// What the caller of a read is told.
pub(super) fn of_read(error: &ExecutionError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// What the caller of an idempotent upsert is told.
pub(super) fn of_upsert(error: &ExecutionError) -> StoreError {
    of_write(error)
}

/// A row that is not what was written.
pub(super) fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}
