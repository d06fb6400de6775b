//! Noting what was done to accounts and rooms. A note that fails does not undo the act: it is logged.

use std::net::IpAddr;

use protocol::UserId;
use store::audit::AuditRecord;

use crate::rest::Shared;

/// Something worth noting.
pub(crate) struct Act {
    actor: Option<UserId>,
    action: &'static str,
    subject: String,
    address: Option<IpAddr>,
    detail: String,
}

impl Act {
    /// Done by somebody.
    pub(crate) fn by(actor: UserId, action: &'static str) -> Self {
        Self { actor: Some(actor), ..Self::by_nobody(action) }
    }

    /// Done by nobody that is known.
    pub(crate) fn by_nobody(action: &'static str) -> Self {
        Self { actor: None, action, subject: String::new(), address: None, detail: String::new() }
    }

    /// On whom or what.
    pub(crate) fn on(mut self, subject: impl ToString) -> Self {
        self.subject = subject.to_string();
        self
    }

    /// From where.
    pub(crate) fn from(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Anything else, short.
    pub(crate) fn saying(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

impl Shared {
    /// Notes an act.
    pub(crate) async fn note(&self, act: Act) {
        let record = AuditRecord {
            at: self.clock.now(),
            actor: act.actor,
            action: act.action.to_owned(),
            subject: act.subject,
            address: act.address.map(|address| address.to_string()),
            detail: act.detail,
        };
        if let Err(error) = self.store.record(&record).await {
            tracing::error!(%error, action = record.action, subject = record.subject, "an act was not noted");
        }
    }
}
