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

/// What the caller of a write is told.
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

/// A row that is not what was written.
pub(super) fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scylla::errors::{
        BadQuery, BrokenConnectionErrorKind, ConnectionPoolError, OperationType, WriteType,
    };

    use super::*;

    fn answered(error: DbError) -> ExecutionError {
        attempt(RequestAttemptError::DbError(error, "told by the test".to_owned()))
    }

    fn attempt(error: RequestAttemptError) -> ExecutionError {
        ExecutionError::LastAttemptError(error)
    }

    fn unavailable(consistency: Consistency) -> ExecutionError {
        answered(DbError::Unavailable { consistency, required: 2, alive: 1 })
    }

    fn write_timeout(write_type: WriteType) -> ExecutionError {
        let consistency = Consistency::LocalSerial;
        answered(DbError::WriteTimeout { consistency, received: 1, required: 2, write_type })
    }

    #[test]
    fn what_was_not_sent_had_no_effect() {
        let initializing = ConnectionPoolError::Initializing;
        for error in [
            ExecutionError::EmptyPlan,
            ExecutionError::ConnectionPoolError(initializing),
            attempt(RequestAttemptError::UnableToAllocStreamId),
        ] {
            assert_eq!(effect(&error), Effect::None, "{error}");
        }
    }

    #[test]
    fn what_was_refused_before_the_first_round_had_no_effect() {
        for error in [
            answered(DbError::IsBootstrapping),
            answered(DbError::Unprepared { statement_id: Default::default() }),
            unavailable(Consistency::Serial),
            unavailable(Consistency::LocalSerial),
        ] {
            assert_eq!(effect(&error), Effect::None, "{error}");
            assert!(matches!(of_write(&error), StoreError::Unavailable(_)));
        }
    }

    #[test]
    fn what_is_wrong_in_itself_never_succeeds() {
        for error in [
            ExecutionError::BadQuery(BadQuery::PartitionKeyExtraction),
            answered(DbError::Invalid),
            answered(DbError::SyntaxError),
            answered(DbError::Unauthorized),
        ] {
            assert_eq!(effect(&error), Effect::Never, "{error}");
            assert!(of_write(&error).is_definite());
        }
    }

    #[test]
    fn everything_else_may_have_had_its_effect() {
        let (consistency, received, required) = (Consistency::LocalQuorum, 1, 2);
        let broken = BrokenConnectionErrorKind::KeepaliveTimeout([127, 0, 0, 1].into());
        for error in [
            ExecutionError::RequestTimeout(Duration::from_secs(4)),
            attempt(RequestAttemptError::BrokenConnectionError(broken.into())),
            attempt(RequestAttemptError::NonfinishedPagingState),
            write_timeout(WriteType::Cas),
            write_timeout(WriteType::Simple),
            write_timeout(WriteType::Other("CAS_NEW".to_owned())),
            answered(DbError::WriteFailure {
                consistency,
                received,
                required,
                numfailures: 1,
                write_type: WriteType::Cas,
            }),
            answered(DbError::ReadTimeout { consistency, received, required, data_present: false }),
            answered(DbError::ReadFailure {
                consistency,
                received,
                required,
                numfailures: 1,
                data_present: true,
            }),
            unavailable(Consistency::LocalQuorum),
            unavailable(Consistency::One),
            answered(DbError::Overloaded),
            answered(DbError::RateLimitReached {
                op_type: OperationType::Write,
                rejected_by_coordinator: false,
            }),
            answered(DbError::ServerError),
            answered(DbError::TruncateError),
            answered(DbError::Other(0x1700)),
        ] {
            assert_eq!(effect(&error), Effect::Unknown, "{error}");
            assert!(!of_write(&error).is_definite());
        }
    }

    #[test]
    fn a_read_has_no_effect_to_wonder_about() {
        let error = ExecutionError::RequestTimeout(Duration::from_secs(2));
        assert!(of_read(&error).is_definite());
    }
}
