//! The configuration in the words of the parts. What is not configurable keeps the part's own default.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use gateway::{
    SocketSettings, TlsFiles,
    auth::{AuthSettings, Seal},
    limits::Rate,
    rest::{RestSettings, rates::PerSecond},
};
use store::{
    retention::Policy,
    scylla::{Credentials, Replication, ScyllaOptions, TlsOptions},
    sqlite::{SqliteOptions, Synchronous},
};

use crate::config::{self, Config, reachable};

const DAY_MS: u64 = 24 * 60 * 60_000;
/// Pages of the database a MiB.
const PAGES_PER_MIB: u32 = 256;

pub(crate) fn sqlite(config: &config::Store) -> SqliteOptions {
    let synchronous = match config.synchronous {
        config::Synchronous::Full => Synchronous::Full,
        config::Synchronous::Normal => Synchronous::Normal,
    };
    let max_pages = (config.max_mib > 0).then(|| config.max_mib.saturating_mul(PAGES_PER_MIB));
    SqliteOptions { synchronous, readers: config.readers, write_queue: config.write_queue, max_pages }
}

pub(crate) fn scylla(config: &config::Scylla) -> Result<ScyllaOptions> {
    let milliseconds = |number: u32| Duration::from_millis(number.into());
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let file = |path: &Path| Some(path.to_owned()).filter(|path| !path.as_os_str().is_empty());
    let tls = file(&config.ca_file).map(|ca_file| TlsOptions {
        ca_file,
        certificate_file: file(&config.certificate),
        key_file: file(&config.key),
        server_name: some(&config.server_name),
    });
    let credentials = match some(&config.user) {
        None => None,
        Some(user) => Some(Credentials { user, password: password(config)? }),
    };
    let replication = match config.replication()? {
        config::Copies::Anywhere(copies) => Replication::Simple(copies),
        config::Copies::ByCentre(centres) => Replication::Network(centres),
    };
    Ok(ScyllaOptions {
        contact_points: config.contact_points.clone(),
        keyspace: config.keyspace.clone(),
        replication,
        local_data_centre: some(&config.local_data_centre),
        credentials,
        tls,
        connections: config.connections,
        appends_in_flight: config.appends_in_flight,
        connect_timeout: milliseconds(config.connect_timeout_ms),
        conditional_timeout: milliseconds(config.conditional_timeout_ms),
        request_timeout: milliseconds(config.request_timeout_ms),
    })
}

/// The first line of the file, or what the configuration itself holds.
fn password(config: &config::Scylla) -> Result<String> {
    let file = &config.password_file;
    if file.as_os_str().is_empty() {
        return Ok(config.password.0.clone());
    }
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("scylla.password_file is {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

pub(crate) fn actors(config: &Config) -> actors::world::Settings {
    let config::Rooms { idle_s, waiting, waiting_kib, offline_after_ms, pacing } = config.rooms;
    actors::world::Settings {
        room_idle_ms: u64::from(idle_s) * 1000,
        offline_after_ms: offline_after_ms.into(),
        room_waiting: waiting,
        room_waiting_bytes: waiting_kib.saturating_mul(1024),
        user_sessions: config.limits.sockets_per_user,
        user_sends_per_s: config.limits.user_sends_per_second,
        user_sends_burst: config.limits.user_sends_burst,
        pacing,
        retention: retention(Some(config.retention.max_age_days), Some(config.retention.max_entries)),
        ..actors::world::Settings::default()
    }
}

/// What is kept within these limits, where 0 is none too.
pub(crate) fn retention(max_age_days: Option<u32>, max_entries: Option<u64>) -> Policy {
    Policy {
        max_age_days: max_age_days.filter(|days| *days > 0),
        max_entries: max_entries.filter(|entries| *entries > 0),
    }
}

pub(crate) fn auth(config: &config::Auth) -> Result<AuthSettings> {
    Ok(AuthSettings {
        issuer: config.issuer.clone(),
        access_ms: u64::from(config.access_token_minutes) * 60_000,
        sign_in_ms: u64::from(config.sign_in_days) * DAY_MS,
        key_ms: u64::from(config.signing_key_days) * DAY_MS,
        seal: seal(config)?,
        key_files: config.signing_key_files.clone(),
        ..AuthSettings::default()
    })
}

/// What seals the signing keys in the store, if anything.
fn seal(config: &config::Auth) -> Result<Option<Seal>> {
    let current = secret("auth.seal_secret_file", &config.seal_secret_file)?;
    let previous = secret("auth.seal_secret_file_previous", &config.seal_secret_file_previous)?;
    let Some(current) = current else { return Ok(None) };
    // Both are long enough: whichever is not has been named above.
    Ok(Some(Seal::new(&current, previous.as_deref())?))
}

/// What the file holds, without white space around it; `None` where no file is named.
fn secret(key: &str, file: &Path) -> Result<Option<Vec<u8>>> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let bytes = std::fs::read(file).with_context(|| format!("{key} {} can't be read", file.display()))?;
    let secret = bytes.trim_ascii();
    Seal::new(secret, None).with_context(|| format!("{key} {}", file.display()))?;
    Ok(Some(secret.to_vec()))
}

pub(crate) fn sockets(config: &Config) -> Result<SocketSettings> {
    let (listen, limits) = (&config.listen, &config.limits);
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let tls = listen
        .has_tls()
        .then(|| TlsFiles { certificate: listen.certificate.clone(), key: listen.key.clone() });
    let public = Some(listen.public_url.clone()).filter(|url| !url.is_empty());
    Ok(SocketSettings {
        listen: listen.address(),
        tls,
        origins: listen.origins.iter().cloned().chain(public).collect(),
        trusted_proxies: listen.trusted_proxies()?,
        max_connections: limits.connections,
        max_connections_per_address: limits.connections_per_address,
        max_unidentified_per_address: limits.unidentified_per_address,
        outbox_bytes: limits.outbox_kib * 1024,
        write_deadline: seconds(limits.write_deadline_s),
        heartbeat: seconds(limits.heartbeat_s),
        frames: Rate { per_second: limits.frames_per_second, burst: limits.frames_burst },
        return_spread: seconds(limits.return_spread_s),
        ..SocketSettings::default()
    })
}

pub(crate) fn rest(config: &Config) -> RestSettings {
    let (listen, limits) = (&config.listen, &config.limits);
    RestSettings {
        public_url: public_url(listen),
        allowed_origins: listen.origins.clone(),
        per_address: PerSecond::new(
            limits.requests_per_address_per_second,
            limits.requests_per_address_burst,
        ),
        per_stranger: PerSecond::new(
            limits.sign_ins_per_address_per_second,
            limits.sign_ins_per_address_burst,
        ),
        per_user: PerSecond::new(limits.requests_per_user_per_second, limits.requests_per_user_burst),
        ..RestSettings::default()
    }
}

/// Where people find this server, without a slash at the end.
pub(crate) fn public_url(listen: &config::Listen) -> String {
    if !listen.public_url.is_empty() {
        return listen.public_url.clone();
    }
    let scheme = if listen.has_tls() { "https" } else { "http" };
    format!("{scheme}://{}", reachable(listen.address()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Config {
        Config::load(None).unwrap()
    }

    /// What the default file says is what the parts do without it.
    fn agrees(ours: impl std::fmt::Debug, theirs: impl std::fmt::Debug) {
        assert_eq!(format!("{ours:#?}"), format!("{theirs:#?}"));
    }

    #[test]
    fn the_default_file_says_what_the_parts_do_by_themselves() {
        let config = defaults();
        agrees(sqlite(&config.store), SqliteOptions::default());
        agrees(scylla(&config.scylla).unwrap(), ScyllaOptions::default());
        agrees(actors(&config), actors::world::Settings::default());
        agrees(auth(&config.auth).unwrap(), AuthSettings::default());
        agrees(sockets(&config).unwrap(), SocketSettings::default());
        agrees(rest(&config), RestSettings::default());
    }

    #[test]
    fn a_seal_is_made_of_the_files_and_a_short_secret_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let seal_of = |current, previous| {
            let mut config = defaults().auth;
            (config.seal_secret_file, config.seal_secret_file_previous) = (current, previous);
            auth(&config).map(|settings| settings.seal)
        };
        let good = file("good", &format!("{}\n", "s".repeat(32)));
        assert!(seal_of(good.clone(), Path::new("").into()).unwrap().is_some());
        assert!(seal_of(good.clone(), good.clone()).unwrap().is_some());
        // White space does not count.
        let short = file("short", &format!("{}\n ", "s".repeat(31)));
        for (key, current, previous) in [
            ("auth.seal_secret_file ", short.clone(), good.clone()),
            ("auth.seal_secret_file_previous ", good.clone(), short.clone()),
            ("auth.seal_secret_file ", folder.path().join("missing"), good.clone()),
        ] {
            let error = format!("{:#}", seal_of(current, previous).unwrap_err());
            assert!(error.contains(key) && !error.contains("sss"), "{error}");
        }
    }

    #[test]
    fn the_public_url_is_the_address_unless_told() {
        let mut listen = defaults().listen;
        listen.settle(|_| Ok("0.0.0.0:81".parse()?)).unwrap();
        assert_eq!(public_url(&listen), "http://127.0.0.1:81");
        listen.settle(|_| Ok("[::1]:82".parse()?)).unwrap();
        listen.certificate = "c.pem".into();
        assert_eq!(public_url(&listen), "https://[::1]:82");
        listen.public_url = "https://chat.example".into();
        assert_eq!(public_url(&listen), "https://chat.example");
    }
}
