//! The embedded store: one SQLite file in a data folder.
//!
//! * `schema`: tables, and how an older file becomes a newer one;
//! * `writer`: one thread commits all writes that wait, in one transaction, with one sync;
//! * `readers`: a few threads with read-only connections;
//! * `log`, `members`, `accounts`, `marks`: the traits, as SQL; `retention`: which rows are kept; `codec`: rows ↔
//!   values.
//!
//! ```text
//!   append, put_… ─▶ bounded queue ─▶ writer ─▶ WAL, synced ─▶ answers
//!   rows, statics ─▶ bounded queue ─▶ readers (see all that was answered)
//! ```
//!
//! Write-ahead log in the normal locking mode, so an operator's `sqlite3` may read the file while it is served. Each
//! log row carries its checksum, which is compared at every read.

mod accounts;
mod codec;
mod log;
mod marks;
mod members;
mod readers;
mod retention;
mod schema;
mod writer;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::{StoreError, folder};
use codec::Fault;
use readers::Readers;
use writer::Writer;

/// Name of the database in its folder.
const DATABASE: &str = "rookery.db";

/// When a commit counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Once it is on the disk: survives loss of power.
    #[default]
    Full,
    /// Once the operating system has it: survives the end of the process, not loss of power.
    Normal,
}

/// How a SQLite store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// When a commit counts as durable.
    pub synchronous: Synchronous,
    /// Threads that read, 1 to 16.
    pub readers: usize,
    /// Writes that may wait for the writer, at least 1; further ones are refused as unavailable.
    pub write_queue: usize,
    /// Largest size of the file in pages of 4 KiB; without it the disk decides. A write beyond it is refused as full.
    pub max_pages: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { synchronous: Synchronous::Full, readers: 3, write_queue: 4096, max_pages: None }
    }
}

/// What a store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SqliteStats {
    /// Transactions committed.
    pub commits: u64,
    /// Writes in them.
    pub writes: u64,
    /// Most writes of one transaction.
    pub largest_group: u64,
    /// Transactions that failed as a whole.
    pub failures: u64,
}

/// The store.
#[derive(Debug)]
pub struct SqliteStore {
    folder: PathBuf,
    readers: Readers,
    writer: Writer,
    _lock: folder::Lock,
}

impl SqliteStore {
    /// Opens the store in `folder`, which is made if it does not exist. Blocks, for milliseconds as a rule.
    ///
    /// # Errors
    /// * [`StoreError::InUse`]: another process, or another store of this one, has the folder open;
    /// * [`StoreError::NewerSchema`]: a later version wrote it;
    /// * [`StoreError::Corrupt`]: it is no database, or a damaged one;
    /// * [`StoreError::Unavailable`] and [`StoreError::Full`]: the folder can't be made or written.
    ///
    /// Each names the folder or file.
    pub fn open(folder: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        let lock = folder::Lock::take(folder)?;
        let file = folder.join(DATABASE);
        folder::create_private(&file)?;
        let named = |fault: Fault| fault.at_open(&file);
        let mut db = open_for_writing(&file, &options).map_err(named)?;
        schema::migrate(&mut db).map_err(named)?;
        let connections = (0..options.readers.clamp(1, 16)).map(|_| open_for_reading(&file));
        let connections = connections.collect::<Result<Vec<_>, _>>().map_err(named)?;
        let started =
            |error: std::io::Error| StoreError::Unavailable(format!("can't start a thread: {error}"));
        Ok(Self {
            folder: folder.to_owned(),
            readers: Readers::start(connections).map_err(started)?,
            writer: Writer::start(db, options.write_queue.max(1)).map_err(started)?,
            _lock: lock,
        })
    }

    /// Answers what waits, writes everything into the one file, and ends the threads; every later call is refused as
    /// unavailable. Blocks meanwhile. Dropping the store does the same; the folder is free for others once it is
    /// dropped.
    pub fn close(&self) {
        // The writer's connection is the last to close: then SQLite leaves one file without a log beside it.
        self.readers.stop();
        self.writer.stop();
        tracing::debug!(folder = %self.folder.display(), "store closed");
    }

    /// What was done so far.
    pub fn stats(&self) -> SqliteStats {
        self.writer.stats()
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.run(query).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(work).await
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

fn open_for_writing(file: &Path, options: &SqliteOptions) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(file, flags)?;
    prepare(&db)?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Unavailable(format!("no write-ahead log possible, only {mode}")).into());
    }
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    db.pragma_update(None, "synchronous", synchronous)?;
    db.pragma_update(None, "wal_autocheckpoint", writer::CHECKPOINT_PAGES)?;
    db.pragma_update(None, "journal_size_limit", writer::LOG_BYTES)?;
    // What is removed or erased is overwritten; appends remove nothing.
    db.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    if let Some(pages) = options.max_pages {
        db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(db)
}

fn open_for_reading(file: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(file, flags)?;
    prepare(&db)?;
    Ok(db)
}

fn prepare(db: &Connection) -> Result<(), Fault> {
    // Only an operator's own tool can hold a lock, and only for moments.
    db.busy_timeout(std::time::Duration::from_secs(2))?;
    db.set_prepared_statement_cache_capacity(128);
    db.pragma_update(None, "cache_size", -16 * 1024)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(())
}
