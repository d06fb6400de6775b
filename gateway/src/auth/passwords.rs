//! Passwords: Argon2id in a few threads of their own, so that signing in never starves the rooms.

use std::sync::Arc;

use actors::{Chance, session::Refusal};
use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use protocol::ErrorCode;
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

/// What a hash costs and how many are made at once.
#[derive(Debug, Clone, Copy)]
pub struct PasswordSettings {
    /// Memory in KiB. Default 19,456: the floor that OWASP names.
    pub memory_kib: u32,
    /// Passes over it. Default 2.
    pub passes: u32,
    /// Lanes. Default 1.
    pub lanes: u32,
    /// Hashes at once. Default 2.
    pub threads: usize,
    /// Sign-ins that wait for a thread; more are refused with `overloaded`. Default 64, a few seconds of work.
    pub waiting: usize,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1, threads: 2, waiting: 64 }
    }
}

/// Whether a password is the account's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verified {
    /// No.
    Wrong,
    /// Yes.
    Right,
    /// Yes, and its hash was made with other costs than today's: make it anew.
    RightButOutdated,
}

/// The workers.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    chance: Arc<dyn Chance>,
    /// Who is working or waiting. Full: refused.
    places: Arc<Semaphore>,
    /// Who is working.
    threads: Arc<Semaphore>,
    /// Stands in for the hash of an account that does not exist, so that the answer takes as long.
    nobody: String,
}

impl Passwords {
    /// Ready to work.
    ///
    /// # Panics
    /// When the costs are outside of what Argon2 takes; the configuration checks them before.
    pub(crate) fn new(settings: &PasswordSettings, chance: Arc<dyn Chance>) -> Self {
        let params = Params::new(settings.memory_kib, settings.passes, settings.lanes, None)
            .expect("the configuration holds valid Argon2 costs");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = make(&argon2, b"nobody's password", &*chance);
        let threads = settings.threads.max(1);
        Self {
            argon2,
            chance,
            places: Arc::new(Semaphore::new(threads + settings.waiting)),
            threads: Arc::new(Semaphore::new(threads)),
            nobody,
        }
    }

    /// A password's hash, in PHC format.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Refusal> {
        let password = normalised(password);
        let chance = Arc::clone(&self.chance);
        self.work(move |argon2| make(argon2, password.as_bytes(), &*chance)).await
    }

    /// Compares. Without a `hash` (no such account) it takes as long and says no.
    pub(crate) async fn verify(&self, password: &str, hash: Option<&str>) -> Result<Verified, Refusal> {
        let password = normalised(password);
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        let verified = self.work(move |argon2| compare(argon2, password.as_bytes(), &hash)).await?;
        Ok(if known { verified } else { Verified::Wrong })
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Refusal::new(ErrorCode::Overloaded, "too many sign-ins at once").retry_after(1_000));
        };
        let thread = Arc::clone(&self.threads).acquire_owned().await.expect("the semaphore is never closed");
        let argon2 = self.argon2.clone();
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work, not by who waits for it: a caller that went away frees nothing early.
            let _held = (place, thread);
            job(&argon2)
        });
        done.await.map_err(|_| Refusal::new(ErrorCode::Internal, "the password was not compared"))
    }
}

/// The same text typed on two keyboards is the same password.
fn normalised(password: &str) -> String {
    password.nfc().collect()
}

fn make(argon2: &Argon2<'_>, password: &[u8], chance: &dyn Chance) -> String {
    let salt = chance.bits().to_be_bytes();
    let hash: PasswordHash = argon2
        .hash_password_with_salt(password, &salt)
        .expect("a salt of 16 bytes and checked costs are always accepted");
    hash.to_string()
}

fn compare(argon2: &Argon2<'_>, password: &[u8], hash: &str) -> Verified {
    let Ok(parsed) = PasswordHash::new(hash) else {
        tracing::error!("an account's password hash can't be read");
        return Verified::Wrong;
    };
    if PasswordVerifier::<PasswordHash>::verify_password(argon2, password, &parsed).is_err() {
        return Verified::Wrong;
    }
    let today = argon2.params();
    let same = Params::try_from(&parsed).is_ok_and(|params| {
        (params.m_cost(), params.t_cost(), params.p_cost())
            == (today.m_cost(), today.t_cost(), today.p_cost())
    });
    if same && parsed.algorithm.as_str() == "argon2id" { Verified::Right } else { Verified::RightButOutdated }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicU64);

    impl Chance for Counting {
        fn bits(&self) -> u128 {
            u128::from(self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    fn cheap(passes: u32, threads: usize, waiting: usize) -> Passwords {
        let settings = PasswordSettings { memory_kib: 8, passes, lanes: 1, threads, waiting };
        Passwords::new(&settings, Arc::new(Counting::default()))
    }

    #[tokio::test]
    async fn a_password_is_recognised_and_another_is_not() {
        let passwords = cheap(1, 1, 8);
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert_eq!(passwords.verify("correct horse", Some(&hash)).await, Ok(Verified::Right));
        assert_eq!(passwords.verify("correct house", Some(&hash)).await, Ok(Verified::Wrong));
        assert_eq!(passwords.verify("nobody's password", None).await, Ok(Verified::Wrong));
    }

    #[tokio::test]
    async fn the_same_text_in_another_unicode_form_is_the_same_password() {
        let passwords = cheap(1, 1, 8);
        let hash = passwords.hash("caf\u{e9} au lait").await.unwrap();
        assert_eq!(passwords.verify("cafe\u{301} au lait", Some(&hash)).await, Ok(Verified::Right));
    }

    #[tokio::test]
    async fn a_hash_with_other_costs_is_outdated() {
        let old = cheap(1, 1, 8).hash("correct horse").await.unwrap();
        assert_eq!(cheap(2, 1, 8).verify("correct horse", Some(&old)).await, Ok(Verified::RightButOutdated));
    }

    #[tokio::test]
    async fn more_than_may_wait_are_refused_as_overload() {
        let passwords = cheap(1, 1, 0);
        let (one, other) = tokio::join!(passwords.hash("correct horse"), passwords.hash("battery staple"));
        assert!(one.is_ok());
        assert_eq!(other.unwrap_err().code, ErrorCode::Overloaded);
    }
}
