//! What was done to accounts and by administrators. Never contents, tokens or passwords.

use async_trait::async_trait;
use protocol::{Millis, UserId};

use crate::{Listing, StoreError};

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Millis,
    /// By whom; `None` for the operator and for people who are not signed in.
    pub actor: Option<UserId>,
    /// What: `account.created`, `session.refused`, …
    pub action: String,
    /// On whom or what: an id or a name.
    pub subject: String,
    /// The client's address, where there is one.
    pub address: Option<String>,
    /// Anything else, short.
    pub detail: String,
}

/// The audit log.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Notes an act.
    async fn record(&self, record: &AuditRecord) -> Result<(), StoreError>;

    /// Acts, newest first.
    async fn audit(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<AuditRecord>, StoreError>;
}
