//! What an operator may choose about REST.

use std::time::Duration;

use crate::rest::rates::PerSecond;

/// Settings of the REST API.
#[derive(Debug, Clone)]
pub struct RestSettings {
    /// Where people find this server, without a slash at the end: the beginning of invitation links, and an allowed
    /// origin. Default `http://127.0.0.1:8080`.
    pub public_url: String,
    /// Origins besides the server's own whose pages may use cookies and read answers (CORS), exact:
    /// `https://chat.example`. Default none.
    pub allowed_origins: Vec<String>,
    /// Longest time for one request. Default 30 s.
    pub request_timeout: Duration,
    /// Everything from one address. Default 100 a second, 400 at once.
    pub per_address: PerSecond,
    /// New accounts and sign-ins from one address. Default 2 a second, 60 at once.
    pub per_stranger: PerSecond,
    /// Everything of one user. Default 20 a second, 100 at once.
    pub per_user: PerSecond,
}

impl Default for RestSettings {
    fn default() -> Self {
        Self {
            public_url: "http://127.0.0.1:8080".into(),
            allowed_origins: Vec::new(),
            request_timeout: Duration::from_secs(30),
            per_address: PerSecond::new(100, 400),
            per_stranger: PerSecond::new(2, 60),
            per_user: PerSecond::new(20, 100),
        }
    }
}
