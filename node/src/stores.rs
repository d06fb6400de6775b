//! Opens the store that the configuration names, and tells what it counts.

use std::sync::Arc;

use anyhow::{Context, Result};
use store::{
    Store,
    folder::Lock,
    scylla::{self, ScyllaStore},
    sqlite::SqliteStore,
};

use crate::{
    cli::say,
    config::{Config, StoreKind},
    settings,
};

/// An open store. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Opened {
    Sqlite(Arc<SqliteStore>),
    Scylla(Arc<ScyllaStore>),
}

impl Opened {
    /// Opens what the configuration names.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        match config.store.kind {
            StoreKind::Sqlite => {
                let folder = &config.store.folder;
                let store = SqliteStore::open(folder, settings::sqlite(&config.store));
                Ok(Self::Sqlite(Arc::new(store.with_context(|| format!("store.folder is {folder:?}"))?)))
            }
            StoreKind::Scylla => {
                let options = settings::scylla(&config.scylla)?;
                let store = ScyllaStore::open(&options).await;
                Ok(Self::Scylla(Arc::new(store.context("store.kind is \"scylla\"")?)))
            }
        }
    }

    /// The right to the data folder, for a server: an embedded store has it already.
    pub(crate) fn lock(&self, config: &Config) -> Result<Option<Lock>> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Scylla(_) => Ok(Some(Lock::take(&config.store.folder)?)),
        }
    }

    /// Finishes what the store has begun, and ends it; what is asked of it later is refused. To be called at the end of a
    /// server, since some task may still hold the store then, and nobody waits for the last of them.
    pub(crate) async fn close(self) {
        let Self::Sqlite(store) = self else { return };
        if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
            tracing::error!("closing the store panicked");
        }
    }

    /// What the parts work with.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Scylla(store) => store.clone(),
        }
    }
}

/// Brings the store's tables to this program's version, and says what was done.
pub(crate) async fn migrate(config: &Config, nonce: u128) -> Result<()> {
    match config.store.kind {
        StoreKind::Sqlite => {
            Opened::open(config).await?;
            say("the tables are up to date: an embedded store brings them there whenever it is opened")
        }
        StoreKind::Scylla => {
            let options = settings::scylla(&config.scylla)?;
            let mut told = Ok(());
            let mut progress = |step: &str| {
                if told.is_ok() {
                    told = say(step);
                }
            };
            let done = scylla::migrate(&options, nonce, &mut progress).await?;
            told?;
            if done.from == done.to {
                return say(&format!("the tables are of version {} already", done.to));
            }
            say(&format!("the tables went from version {} to {}", done.from, done.to))
        }
    }
}
