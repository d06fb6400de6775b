//! The tables, and the steps from one version of them to the next.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::codec::Fault;
use crate::StoreError;

/// One step a version, never changed once released. The first makes an empty file a store.
const STEPS: &[&str] = &[include_str!("schema/1.sql")];

/// Brings the file to the version that this program knows.
pub(super) fn migrate(db: &mut Connection) -> Result<(), Fault> {
    let found = version(db)?;
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { found, known }.into());
    }
    for (step, version) in STEPS.iter().zip(1u32..).skip_while(|(_, version)| *version <= found) {
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change.execute_batch(step)?;
        change.execute("UPDATE schema_version SET version = ?1", [version])?;
        change.commit()?;
    }
    Ok(())
}

/// The version of the file; 0 while it is empty.
fn version(db: &Connection) -> Result<u32, Fault> {
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(0);
    }
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'";
    if db.query_row(table, [], |_| Ok(())).optional()?.is_none() {
        return Err(StoreError::Invalid("this is another program's database".to_owned()).into());
    }
    Ok(db.query_row("SELECT version FROM schema_version", [], |row| row.get(0))?)
}
