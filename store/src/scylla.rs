//! The store of a cluster: ScyllaDB, or Apache Cassandra 5, over CQL.
//!
//! * [`ScyllaOptions`], `session`, `tls`: how it is reached; `dialect`: what differs between the two databases;
//! * `schema`: the tables, made by [`migrate`] and looked at by [`ScyllaStore::open`];
//! * `statements`: everything that is ever asked, prepared once; `answer`, `errors`: what comes back;
//! * `log`: the conditional writes and the rows, which those who ask at once share (`shared`); `gate`: how many at once,
//!   and how long to wait for company; `retention`: which rows are kept; `derived`: the tables that follow from them,
//!   written behind;
//! * `members`, `rooms`, `accounts`, `sign_ins`, `marks`: the other traits; `codec`: values ↔ columns.
//!
//! ```text
//!   append ─▶ one conditional batch, one partition ─▶ applied? ─▶ acknowledged
//!                                                        └─▶ derived tables, behind, newest state only
//! ```
//!
//! Only conditional writes touch the log, but for retention, which removes what is never written again. Derived rows carry sequence numbers as timestamps, so that late writes of
//! nodes that lost a room do no harm.

mod accounts;
mod answer;
mod codec;
mod derived;
mod dialect;
mod errors;
mod gate;
mod log;
mod marks;
mod members;
mod options;
mod retention;
mod rooms;
mod schema;
mod session;
mod shared;
mod sign_ins;
mod statements;
mod tls;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use scylla::{
    client::session::Session, errors::ExecutionError, response::query_result::QueryResult,
    serialize::row::SerializeRow, statement::prepared::PreparedStatement,
};

use self::{derived::Behind, gate::Gate, schema::Schema, shared::Queries, statements::Statements};
pub use self::{
    options::{Credentials, Replication, ScyllaOptions, TlsOptions},
    schema::{Migrated, VERSION as SCHEMA_VERSION},
};
use crate::StoreError;

/// Most requests that one call has under way at once, where it needs several.
const FAN_OUT: usize = 32;

/// The store.
pub struct ScyllaStore {
    core: Arc<Core>,
    behind: Behind,
    gate: Gate,
    queries: Arc<Queries>,
    /// Acts noted by this process.
    acts: AtomicU64,
}

/// What requests need.
struct Core {
    session: Session,
    statements: Statements,
    counts: Counts,
}

/// What a store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScyllaStats {
    /// Conditional writes that were answered.
    pub conditional: u64,
    /// Those of them whose condition did not hold.
    pub refused: u64,
    /// Writes of which nobody knows the outcome.
    pub unknown: u64,
    /// Upserts that were answered; a batch counts once.
    pub upserts: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Requests that failed and had no effect.
    pub failures: u64,
    /// Rooms whose derived tables are being written.
    pub rooms_behind: u64,
}

#[derive(Default)]
struct Counts {
    conditional: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    upserts: AtomicU64,
    reads: AtomicU64,
    failures: AtomicU64,
}

impl Counts {
    /// Counts what failed.
    fn failed(&self, error: StoreError) -> StoreError {
        let count = if error.is_definite() { &self.failures } else { &self.unknown };
        count.fetch_add(1, Relaxed);
        error
    }
}

impl std::fmt::Debug for ScyllaStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScyllaStore").finish_non_exhaustive()
    }
}

impl ScyllaStore {
    /// Connects, and looks whether the tables are those that this program knows.
    ///
    /// # Errors
    /// * [`StoreError::OlderSchema`] and [`StoreError::NewerSchema`]: not the tables of this version;
    /// * [`StoreError::Invalid`]: a database or keyspace on which conditional writes are not safe, or unusable files;
    /// * [`StoreError::Unavailable`]: nobody answers.
    pub async fn open(options: &ScyllaOptions) -> Result<Self, StoreError> {
        check_keyspace(&options.keyspace)?;
        let (session, profiles) = session::connect(options).await?;
        let dialect = session::dialect(&session).await?;
        Schema { session: &session, profiles: &profiles, options, dialect: &dialect }.check().await?;
        tracing::info!(?dialect, keyspace = options.keyspace, "connected to the database");
        let statements = Box::pin(Statements::prepare(&session, &profiles, &options.keyspace)).await?;
        let core = Arc::new(Core { session, statements, counts: Counts::default() });
        let (behind, gate) = (Behind::new(core.clone()), Gate::new(options.appends_in_flight));
        Ok(Self { core, behind, gate, queries: Arc::default(), acts: AtomicU64::new(0) })
    }

    /// What was done so far.
    pub fn stats(&self) -> ScyllaStats {
        let Counts { conditional, refused, unknown, upserts, reads, failures } = &self.core.counts;
        ScyllaStats {
            conditional: conditional.load(Relaxed),
            refused: refused.load(Relaxed),
            unknown: unknown.load(Relaxed),
            upserts: upserts.load(Relaxed),
            reads: reads.load(Relaxed),
            failures: failures.load(Relaxed),
            rooms_behind: self.behind.writing(),
        }
    }
}

/// Makes the keyspace and its tables, or brings them to this program's version. `nonce` is random; `progress` is told
/// what is being done.
///
/// # Errors
/// * [`StoreError::InUse`]: another migration is under way;
/// * [`StoreError::NewerSchema`]: a later version of the program has been here;
/// * those of [`ScyllaStore::open`]. A migration that failed can be begun again.
pub async fn migrate(
    options: &ScyllaOptions,
    nonce: u128,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<Migrated, StoreError> {
    check_keyspace(&options.keyspace)?;
    let (session, profiles) = session::connect(options).await?;
    let dialect = session::dialect(&session).await?;
    let schema = Schema { session: &session, profiles: &profiles, options, dialect: &dialect };
    schema.migrate(nonce, progress).await
}

/// A keyspace's name goes into statements, so it is a word and nothing else.
fn check_keyspace(name: &str) -> Result<(), StoreError> {
    let is_word = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 48
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_word {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "keyspace {name:?}: 1 to 48 small letters, digits and underscores are allowed, beginning with a letter"
    )))
}

impl Core {
    /// A conditional write: whether its condition held.
    async fn cas(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<bool, StoreError> {
        let done = self.session.execute_unpaged(statement, values).await;
        self.judged(done)
    }

    /// Whether the condition of a write held, by its answer.
    fn judged(&self, done: Result<QueryResult, ExecutionError>) -> Result<bool, StoreError> {
        let applied = done.map_err(|error| errors::of_write(&error)).and_then(answer::is_applied);
        let applied = applied.map_err(|error| self.counts.failed(error))?;
        self.counts.conditional.fetch_add(1, Relaxed);
        self.counts.refused.fetch_add(u64::from(!applied), Relaxed);
        Ok(applied)
    }

    /// An idempotent upsert.
    async fn upsert(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), StoreError> {
        self.upserted(self.session.execute_unpaged(statement, values).await)
    }

    /// What became of upserts, by their answer.
    fn upserted(&self, done: Result<QueryResult, ExecutionError>) -> Result<(), StoreError> {
        done.map_err(|error| self.counts.failed(errors::of_write(&error)))?;
        self.counts.upserts.fetch_add(1, Relaxed);
        Ok(())
    }

    /// All rows of a bounded read.
    async fn rows<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'a> scylla::deserialize::row::DeserializeRow<'a, 'a>,
    {
        let found = self.session.execute_unpaged(statement, values).await;
        let found = found.map_err(|error| self.counts.failed(errors::of_read(&error)))?;
        self.counts.reads.fetch_add(1, Relaxed);
        answer::rows(found)
    }

    /// The first row of a read.
    async fn first<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Option<R>, StoreError>
    where
        R: for<'a> scylla::deserialize::row::DeserializeRow<'a, 'a>,
    {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_is_a_word() {
        for good in ["rookery", "r2_d2", "a"] {
            assert!(check_keyspace(good).is_ok(), "{good}");
        }
        for bad in ["", "Rookery", "2r", "a b", "a;drop", "ä", &"a".repeat(49)] {
            assert!(check_keyspace(bad).is_err(), "{bad}");
        }
    }
}
