//! The tables, and the steps from one version of them to the next. One job makes them; servers only look whether they
//! are there.

use std::time::Duration;

use scylla::{client::session::Session, statement::unprepared::Statement};

use super::{
    ScyllaOptions,
    dialect::Dialect,
    errors,
    options::Replication,
    session::{Profiles, uses_tablets},
};
use crate::StoreError;

/// One step a version, never changed once released.
const STEPS: &[&str] = &[include_str!("schema/1.cql")];

/// The version of the tables that this program knows.
pub const VERSION: u32 = STEPS.len() as u32;

/// How long a job keeps others out that may have died.
const LOCK_SECONDS: u32 = 120;

/// For one change of the schema, on all nodes.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a migration has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; 0 for an empty keyspace.
    pub from: u32,
    /// The version now.
    pub to: u32,
}

/// A keyspace at the other end of a session.
pub(super) struct Schema<'a> {
    pub(super) session: &'a Session,
    pub(super) profiles: &'a Profiles,
    pub(super) options: &'a ScyllaOptions,
    pub(super) dialect: &'a Dialect,
}

impl Schema<'_> {
    /// Whether the tables are those that this program knows, in a keyspace that keeps its promises.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let known = VERSION;
        match self.version().await? {
            found if found > known => return Err(StoreError::NewerSchema { found, known }),
            found if found < known => return Err(StoreError::OlderSchema { found, known }),
            _ => {}
        }
        let tablets = uses_tablets(self.session, &self.options.keyspace).await?;
        self.dialect.check(&self.options.keyspace, tablets)
    }

    /// Brings the keyspace to this program's version, making it if it is not there. `nonce` is random; `progress` is
    /// told what is being done.
    pub(super) async fn migrate(
        &self,
        nonce: u128,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Migrated, StoreError> {
        let keyspace = &self.options.keyspace;
        let from = self.version().await?;
        if from > VERSION {
            return Err(StoreError::NewerSchema { found: from, known: VERSION });
        }
        if from == VERSION {
            return Ok(Migrated { from, to: VERSION });
        }
        progress(&format!("making keyspace {keyspace}, unless it is there"));
        self.change(&self.create_keyspace()).await?;
        self.dialect.check(keyspace, uses_tablets(self.session, keyspace).await?)?;
        for table in [
            "schema_version (slot int PRIMARY KEY, version int)",
            "schema_lock (slot int PRIMARY KEY, holder blob)",
        ] {
            self.change(&format!("CREATE TABLE IF NOT EXISTS {keyspace}.{table}")).await?;
        }
        self.lock(nonce).await?;
        let done = self.steps(nonce, progress).await;
        self.unlock(nonce).await?;
        done.map(|()| Migrated { from, to: VERSION })
    }

    async fn steps(&self, nonce: u128, progress: &mut (dyn FnMut(&str) + Send)) -> Result<(), StoreError> {
        // Under the lock: another job may have been faster.
        let from = self.version().await?;
        for (step, version) in STEPS.iter().zip(1u32..).skip_while(|(_, version)| *version <= from) {
            let statements: Vec<String> = statements(&self.dialect.fill(step)).collect();
            for (done, statement) in statements.iter().enumerate() {
                progress(&format!("version {version}: {} of {}", done + 1, statements.len()));
                self.renew(nonce).await?;
                self.change(&in_keyspace(statement, &self.options.keyspace)).await?;
            }
            self.cas(&format!(
                "UPDATE {}.schema_version SET version = {version} WHERE slot = 0 IF version = {}",
                self.options.keyspace,
                if version == 1 { "null".to_owned() } else { (version - 1).to_string() }
            ))
            .await?;
        }
        Ok(())
    }

    /// The version of the tables; 0 without any.
    async fn version(&self) -> Result<u32, StoreError> {
        let keyspace = &self.options.keyspace;
        let there = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
        let there = self.session.query_unpaged(there, (keyspace, "schema_version")).await;
        let there =
            there.map_err(|error| errors::of_read(&error))?.into_rows_result().map_err(errors::corrupt)?;
        if there.rows_num() == 0 {
            return Ok(0);
        }
        let mut query =
            Statement::new(format!("SELECT version FROM {keyspace}.schema_version WHERE slot = 0"));
        query.set_execution_profile_handle(Some(self.profiles.serial.clone()));
        let found = self.session.query_unpaged(query, ()).await.map_err(|error| errors::of_read(&error))?;
        let found = found.into_rows_result().map_err(errors::corrupt)?;
        let row = found.maybe_first_row::<(Option<i32>,)>().map_err(errors::corrupt)?;
        Ok(row.and_then(|(version,)| version).map_or(0, i32::cast_unsigned))
    }

    fn create_keyspace(&self) -> String {
        let replication = match &self.options.replication {
            Replication::Simple(copies) => {
                format!("'class': 'SimpleStrategy', 'replication_factor': {copies}")
            }
            Replication::Network(centres) => {
                let centres: Vec<_> =
                    centres.iter().map(|(name, copies)| format!(", '{name}': {copies}")).collect();
                format!("'class': 'NetworkTopologyStrategy'{}", centres.concat())
            }
        };
        let tablets = match (self.dialect.wants_tablets(), &self.options.replication) {
            (None, _) => "",
            // Tablets need the network strategy.
            (Some(true), Replication::Network(_)) => " AND tablets = {'enabled': true}",
            (Some(_), _) => " AND tablets = {'enabled': false}",
        };
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{{replication}}}{tablets}",
            self.options.keyspace
        )
    }

    async fn lock(&self, nonce: u128) -> Result<(), StoreError> {
        let keyspace = &self.options.keyspace;
        let taken = self
            .cas(&format!(
                "INSERT INTO {keyspace}.schema_lock (slot, holder) VALUES (0, {}) IF NOT EXISTS USING TTL {LOCK_SECONDS}",
                literal(nonce)
            ))
            .await?;
        if taken {
            return Ok(());
        }
        Err(StoreError::InUse(format!(
            "another migration of keyspace {keyspace} is under way; one that died is forgotten after {LOCK_SECONDS} s"
        )))
    }

    async fn renew(&self, nonce: u128) -> Result<(), StoreError> {
        let holder = literal(nonce);
        let keyspace = &self.options.keyspace;
        let renewed = self
            .cas(&format!(
                "UPDATE {keyspace}.schema_lock USING TTL {LOCK_SECONDS} SET holder = {holder} WHERE slot = 0 IF holder = {holder}"
            ))
            .await?;
        if renewed { Ok(()) } else { Err(StoreError::InUse("the migration's lock was lost".to_owned())) }
    }

    async fn unlock(&self, nonce: u128) -> Result<(), StoreError> {
        let keyspace = &self.options.keyspace;
        self.cas(&format!("DELETE FROM {keyspace}.schema_lock WHERE slot = 0 IF holder = {}", literal(nonce)))
            .await
            .map(|_| ())
    }

    async fn change(&self, statement: &str) -> Result<(), StoreError> {
        let mut statement = Statement::new(statement);
        statement.set_request_timeout(Some(CHANGE_TIMEOUT));
        let done = self.session.query_unpaged(statement, ()).await;
        done.map(|_| ()).map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    async fn cas(&self, statement: &str) -> Result<bool, StoreError> {
        let mut statement = Statement::new(statement);
        statement.set_execution_profile_handle(Some(self.profiles.conditional.clone()));
        let done =
            self.session.query_unpaged(statement, ()).await.map_err(|error| errors::of_write(&error))?;
        super::answer::is_applied(done)
    }
}

/// The statements of a step, without its comments.
fn statements(step: &str) -> impl Iterator<Item = String> {
    let lines = step.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let statements: Vec<String> =
        text.split(';').map(|statement| statement.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    statements.into_iter()
}

/// The statement with its table's keyspace named.
fn in_keyspace(statement: &str, keyspace: &str) -> String {
    let table = "CREATE TABLE IF NOT EXISTS ";
    statement.replace(table, &format!("{table}{keyspace}."))
}

fn literal(nonce: u128) -> String {
    format!("0x{nonce:032x}")
}
