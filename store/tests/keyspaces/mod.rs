//! Keyspaces of a real database for tests: each test has one for itself, empty, and gives it back.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rookery_store::scylla::{ScyllaOptions, migrate};
use rookery_test_cassandra::shared;
use scylla::client::{session::Session, session_builder::SessionBuilder};

/// Those that no test uses now, with the number of all.
static FREE: Mutex<(Vec<String>, usize)> = Mutex::new((Vec::new(), 0));

/// A keyspace with all tables and nothing in them.
pub(crate) struct Keyspace {
    options: ScyllaOptions,
}

impl Keyspace {
    /// One that nobody uses. The first call of a process starts the database.
    pub(crate) async fn take() -> Self {
        let cluster = shared().expect("a database");
        let (used, number) = {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            let used = free.0.pop();
            free.1 += usize::from(used.is_none());
            (used, free.1)
        };
        let options = |keyspace| ScyllaOptions {
            contact_points: vec![cluster.node(0).address().to_string()],
            keyspace,
            // The machine that tests run on has other things to do too.
            conditional_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(10),
            ..ScyllaOptions::default()
        };
        match used {
            Some(name) => {
                let options = options(name);
                empty(&session(&options).await, &options.keyspace).await;
                Self { options }
            }
            None => {
                let options = options(format!("test_{number}"));
                migrate(&options, 1, &mut |_| {}).await.expect("tables");
                Self { options }
            }
        }
    }

    pub(crate) fn options(&self) -> &ScyllaOptions {
        &self.options
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).0.push(self.options.keyspace.clone());
    }
}

/// A session of the test's own, to look behind the store's back.
pub(crate) async fn session(options: &ScyllaOptions) -> Session {
    SessionBuilder::new().known_nodes(&options.contact_points).build().await.expect("a session")
}

/// Takes everything out. Safe with one database and one clock, where no write is under way.
async fn empty(session: &Session, keyspace: &str) {
    let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let tables =
        session.query_unpaged(tables, (keyspace,)).await.expect("tables").into_rows_result().expect("rows");
    for table in tables.rows::<(String,)>().expect("names") {
        let (table,) = table.expect("a name");
        if table.starts_with("schema_") {
            continue;
        }
        let first = session.query_unpaged(format!("SELECT * FROM {keyspace}.{table} LIMIT 1"), ()).await;
        if first.expect("a row or none").into_rows_result().expect("rows").rows_num() > 0 {
            session.query_unpaged(format!("TRUNCATE {keyspace}.{table}"), ()).await.expect("an empty table");
        }
    }
}
