//! What an operator may choose: the commented default file, a file over it, the environment over both.
//!
//! Nothing else reads the environment. An unknown key is an error, and so is a value that makes no sense, before
//! anything is opened. [`Config`] mirrors the default file; its fields are documented there.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use config::{Environment, File, FileFormat, Map, Value, ValueKind};
use gateway::limits::Network;
use serde::Deserialize;

#[cfg(test)]
mod tests;

/// The default file, as `rookery config` prints it.
pub(crate) const DEFAULTS: &str = include_str!("../config.default.toml");

/// Keys that are lists: in the environment their items are separated by commas.
const LISTS: &[&str] = &[
    "listen.trusted_proxies",
    "listen.origins",
    "scylla.contact_points",
    "cluster.seeds",
    "cluster.roles",
    "auth.signing_key_files",
    "admin.hosts",
];

/// Shortest secret of the admin listener.
pub(crate) const TOKEN_CHARS: usize = 32;

/// A key with a few words to choose from, which a wrong one is told.
macro_rules! choice {
    ($name:ident: $($word:literal = $variant:ident),+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        #[serde(try_from = "String")]
        pub(crate) enum $name {
            $($variant),+
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(word: String) -> std::result::Result<Self, String> {
                match word.as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("{word:?}: allowed are {:?}", [$($word),+])),
                }
            }
        }
    };
}

choice!(StoreKind: "sqlite" = Sqlite, "scylla" = Scylla);
choice!(Role: "rooms" = Rooms, "gateway" = Gateway);
choice!(Synchronous: "full" = Full, "normal" = Normal);
choice!(LogFormat: "auto" = Auto, "human" = Human, "json" = Json);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) listen: Listen,
    pub(crate) store: Store,
    pub(crate) scylla: Scylla,
    pub(crate) cluster: Cluster,
    pub(crate) auth: Auth,
    pub(crate) limits: Limits,
    pub(crate) rooms: Rooms,
    pub(crate) retention: Retention,
    pub(crate) admin: Admin,
    pub(crate) log: Log,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    address: String,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) behind_proxy: bool,
    trusted_proxies: Vec<String>,
    pub(crate) public_url: String,
    pub(crate) origins: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) kind: StoreKind,
    pub(crate) folder: PathBuf,
    pub(crate) synchronous: Synchronous,
    pub(crate) readers: usize,
    pub(crate) write_queue: usize,
    pub(crate) max_mib: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scylla {
    pub(crate) contact_points: Vec<String>,
    pub(crate) keyspace: String,
    replication: String,
    pub(crate) local_data_centre: String,
    pub(crate) user: String,
    pub(crate) password: Secret,
    pub(crate) password_file: PathBuf,
    pub(crate) ca_file: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) server_name: String,
    pub(crate) connections: usize,
    pub(crate) appends_in_flight: usize,
    pub(crate) connect_timeout_ms: u32,
    pub(crate) conditional_timeout_ms: u32,
    pub(crate) request_timeout_ms: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    pub(crate) enabled: bool,
    pub(crate) node: String,
    pub(crate) id: String,
    gossip: String,
    link: String,
    advertise: String,
    pub(crate) seeds: Vec<String>,
    pub(crate) roles: Vec<Role>,
    pub(crate) secret_file: PathBuf,
    pub(crate) previous_secret_file: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) ca: PathBuf,
    pub(crate) development_tls: PathBuf,
    pub(crate) interval_ms: u32,
    pub(crate) zone: String,
}

/// How copies are spread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    Anywhere(u32),
    ByCentre(Vec<(String, u32)>),
}

/// A text that is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auth {
    pub(crate) issuer: String,
    pub(crate) access_token_minutes: u32,
    pub(crate) sign_in_days: u32,
    pub(crate) signing_key_days: u32,
    pub(crate) seal_secret_file: PathBuf,
    pub(crate) seal_secret_file_previous: PathBuf,
    pub(crate) signing_key_files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) connections_per_address: u32,
    pub(crate) unidentified_per_address: u32,
    pub(crate) sockets_per_user: usize,
    pub(crate) user_sends_per_second: u32,
    pub(crate) user_sends_burst: u32,
    pub(crate) frames_per_second: u32,
    pub(crate) frames_burst: u32,
    pub(crate) outbox_kib: usize,
    pub(crate) write_deadline_s: u32,
    pub(crate) heartbeat_s: u32,
    pub(crate) requests_per_address_per_second: u32,
    pub(crate) requests_per_address_burst: u32,
    pub(crate) requests_per_user_per_second: u32,
    pub(crate) requests_per_user_burst: u32,
    pub(crate) sign_ins_per_address_per_second: u32,
    pub(crate) sign_ins_per_address_burst: u32,
    pub(crate) return_spread_s: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rooms {
    pub(crate) idle_s: u32,
    pub(crate) waiting: usize,
    pub(crate) waiting_kib: usize,
    pub(crate) offline_after_ms: u32,
    pub(crate) pacing: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retention {
    pub(crate) max_age_days: u32,
    pub(crate) max_entries: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    socket: PathBuf,
    listen: String,
    pub(crate) token_file: PathBuf,
    pub(crate) hosts: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Config {
    /// The configuration of this process.
    ///
    /// # Errors
    /// Names the key, its value and what is allowed.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self> {
        let mut environment =
            Environment::with_prefix("ROOKERY").prefix_separator("__").separator("__").try_parsing(true);
        environment = environment.list_separator(",");
        for list in LISTS {
            environment = environment.with_list_parse_key(list);
        }
        Self::merge(file, environment)
    }

    fn merge(file: Option<&Path>, environment: Environment) -> Result<Self> {
        let defaults = File::from_str(DEFAULTS, FileFormat::Toml);
        let mut chosen = config::Config::builder();
        if let Some(file) = file {
            chosen = chosen.add_source(File::from(file).format(FileFormat::Toml));
        }
        let chosen = chosen.add_source(environment).build()?;
        let known = config::Config::builder().add_source(defaults.clone()).build()?;
        refuse_unknown("", &known.cache, &chosen.cache)?;
        let merged = config::Config::builder().add_source(defaults).add_source(chosen).build()?;
        let config: Self = merged.try_deserialize()?;
        config.check()?;
        Ok(config)
    }

    /// What no single value can tell.
    fn check(&self) -> Result<()> {
        self.listen.check()?;
        self.admin.check()?;
        at_least("store.readers", self.store.readers, 1)?;
        at_least("store.write_queue", self.store.write_queue, 1)?;
        self.scylla.check()?;
        self.cluster.check(self.store.kind)?;
        self.auth.check()?;
        self.limits.check()?;
        at_least("rooms.waiting", self.rooms.waiting, 1)?;
        at_least("rooms.waiting_kib", self.rooms.waiting_kib, 1)
    }

    /// The admin socket, unless it is switched off.
    pub(crate) fn admin_socket(&self) -> Option<PathBuf> {
        match self.admin.socket.to_str() {
            Some("off") => None,
            Some("") => Some(self.store.folder.join("admin.sock")),
            _ => Some(self.admin.socket.clone()),
        }
    }
}

impl Listen {
    /// Where to listen.
    pub(crate) fn address(&self) -> SocketAddr {
        address("listen.address", &self.address).expect("checked when the configuration was loaded")
    }

    /// Puts the address in its place by which it is known from now on.
    pub(crate) fn settle(&mut self, how: impl FnOnce(SocketAddr) -> Result<SocketAddr>) -> Result<()> {
        self.address = how(self.address())?.to_string();
        Ok(())
    }

    /// Whose `X-Forwarded-For` is believed.
    pub(crate) fn trusted_proxies(&self) -> Result<Vec<Network>> {
        let parse =
            |text: &String| text.parse().with_context(|| format!("listen.trusted_proxies holds {text:?}"));
        self.trusted_proxies.iter().map(parse).collect()
    }

    /// Whether this server speaks TLS itself.
    pub(crate) fn has_tls(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }

    fn check(&self) -> Result<()> {
        let address = address("listen.address", &self.address)?;
        let proxies = self.trusted_proxies()?;
        if self.has_tls() == self.key.as_os_str().is_empty() {
            bail!("listen.certificate and listen.key: allowed are both or none");
        }
        if self.behind_proxy && proxies.is_empty() {
            bail!(
                "listen.behind_proxy is true and listen.trusted_proxies is empty: name the proxy's address"
            );
        }
        if !address.ip().is_loopback() && !self.has_tls() && !self.behind_proxy {
            bail!(
                "listen.address is {address}, which other machines can reach, without encryption: allowed are a \
                 loopback address, listen.certificate with listen.key, or listen.behind_proxy = true with \
                 listen.trusted_proxies"
            );
        }
        for (key, url) in self.origins.iter().map(|origin| ("listen.origins", origin)) {
            origin(key, url)?;
        }
        if self.public_url.is_empty() { Ok(()) } else { origin("listen.public_url", &self.public_url) }
    }
}

impl Cluster {
    /// Where gossip is heard.
    pub(crate) fn gossip(&self) -> SocketAddr {
        address("cluster.gossip", &self.gossip).expect("checked when the configuration was loaded")
    }

    /// Where links are taken.
    pub(crate) fn link(&self) -> SocketAddr {
        address("cluster.link", &self.link).expect("checked when the configuration was loaded")
    }

    /// By which address the others reach this server.
    pub(crate) fn advertise(&self) -> Result<IpAddr> {
        let ip = match self.advertise.as_str() {
            "" => address("cluster.gossip", &self.gossip)?.ip(),
            text => text.parse().with_context(|| {
                format!("cluster.advertise is {text:?}: allowed is an IP address, such as \"10.0.0.1\"")
            })?,
        };
        if ip.is_unspecified() {
            bail!(
                "cluster.gossip is on all interfaces: cluster.advertise has to say which address others use"
            );
        }
        Ok(ip)
    }

    fn check(&self, store: StoreKind) -> Result<()> {
        if !self.enabled {
            return Ok(());
        }
        if store == StoreKind::Sqlite {
            bail!(
                "cluster.enabled is true and store.kind is \"sqlite\", which serves one server: allowed is \"scylla\""
            );
        }
        address("cluster.gossip", &self.gossip)?;
        address("cluster.link", &self.link)?;
        self.advertise()?;
        if self.secret_file.as_os_str().is_empty() {
            bail!("cluster.secret_file is empty: allowed is a file with a secret of at least 32 bytes");
        }
        let files = [&self.certificate, &self.key, &self.ca].map(|file| !file.as_os_str().is_empty());
        let makes_its_own = !self.development_tls.as_os_str().is_empty();
        if files.contains(&makes_its_own) {
            bail!(
                "cluster.certificate, cluster.key and cluster.ca, or cluster.development_tls: allowed are the three, \
                 or the one"
            );
        }
        if self.roles.is_empty() {
            bail!("cluster.roles is empty: allowed are \"rooms\", \"gateway\", or both");
        }
        if !(20..=1_000).contains(&self.interval_ms) {
            bail!("cluster.interval_ms is {}: allowed are 20 to 1000", self.interval_ms);
        }
        Ok(())
    }
}

impl Scylla {
    /// How copies are spread: a number, or a number for each data centre.
    pub(crate) fn replication(&self) -> Result<Copies> {
        let text = &self.replication;
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|copies| (1..=9).contains(copies));
        if let Some(copies) = number(text) {
            return Ok(Copies::Anywhere(copies));
        }
        let centre = |part: &str| {
            let (name, copies) = part.split_once(':')?;
            let is_name = |sign: char| sign.is_ascii_alphanumeric() || "-_.".contains(sign);
            let name = Some(name.trim()).filter(|name| !name.is_empty() && name.chars().all(is_name))?;
            Some((name.to_owned(), number(copies)?))
        };
        let centres: Option<Vec<_>> = text.split(',').map(centre).collect();
        centres.map(Copies::ByCentre).with_context(|| {
            format!(
                "scylla.replication is {text:?}: allowed are a number from 1 to 9, or one for each data centre, \
                 such as \"east:3,west:3\""
            )
        })
    }

    fn check(&self) -> Result<()> {
        self.replication()?;
        if self.contact_points.iter().all(String::is_empty) {
            bail!("scylla.contact_points is empty: allowed are hosts, such as \"10.0.0.1:9042\"");
        }
        if !self.password.0.is_empty() && !self.password_file.as_os_str().is_empty() {
            bail!("scylla.password and scylla.password_file: allowed is one of them");
        }
        if self.certificate.as_os_str().is_empty() != self.key.as_os_str().is_empty() {
            bail!("scylla.certificate and scylla.key: allowed are both or none");
        }
        if self.ca_file.as_os_str().is_empty()
            && !(self.certificate.as_os_str().is_empty() && self.server_name.is_empty())
        {
            bail!("scylla.certificate and scylla.server_name need scylla.ca_file");
        }
        at_least("scylla.connections", self.connections, 1)?;
        at_least("scylla.appends_in_flight", self.appends_in_flight, 1)?;
        at_least("scylla.connect_timeout_ms", self.connect_timeout_ms, 1)?;
        at_least("scylla.conditional_timeout_ms", self.conditional_timeout_ms, 1)?;
        at_least("scylla.request_timeout_ms", self.request_timeout_ms, 1)
    }
}

impl Auth {
    fn check(&self) -> Result<()> {
        at_least("auth.access_token_minutes", self.access_token_minutes, 1)?;
        at_least("auth.sign_in_days", self.sign_in_days, 1)?;
        at_least("auth.signing_key_days", self.signing_key_days, 1)?;
        let has_seal = !self.seal_secret_file.as_os_str().is_empty();
        if !has_seal && !self.seal_secret_file_previous.as_os_str().is_empty() {
            bail!("auth.seal_secret_file_previous needs auth.seal_secret_file");
        }
        if has_seal && !self.signing_key_files.is_empty() {
            bail!("auth.seal_secret_file and auth.signing_key_files: allowed is one of them");
        }
        if self.signing_key_files.iter().any(|file| file.as_os_str().is_empty()) {
            bail!("auth.signing_key_files holds \"\": allowed are paths of files");
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<()> {
        let Self { connections, sockets_per_user, outbox_kib, .. } = *self;
        at_least("limits.connections", connections, 1)?;
        at_least("limits.connections_per_address", self.connections_per_address, 1)?;
        at_least("limits.unidentified_per_address", self.unidentified_per_address, 1)?;
        at_least("limits.sockets_per_user", sockets_per_user, 1)?;
        let rates = [
            ("user_sends_per_second", self.user_sends_per_second),
            ("user_sends_burst", self.user_sends_burst),
            ("frames_per_second", self.frames_per_second),
            ("frames_burst", self.frames_burst),
            ("requests_per_address_per_second", self.requests_per_address_per_second),
            ("requests_per_address_burst", self.requests_per_address_burst),
            ("requests_per_user_per_second", self.requests_per_user_per_second),
            ("requests_per_user_burst", self.requests_per_user_burst),
            ("sign_ins_per_address_per_second", self.sign_ins_per_address_per_second),
            ("sign_ins_per_address_burst", self.sign_ins_per_address_burst),
        ];
        for (key, rate) in rates {
            at_least(&format!("limits.{key}"), rate, 1)?;
        }
        at_least("limits.outbox_kib", outbox_kib, 128)?;
        at_least("limits.write_deadline_s", self.write_deadline_s, 1)?;
        at_least("limits.heartbeat_s", self.heartbeat_s, 1)
    }
}

impl Admin {
    /// Where health and metrics are served, if anywhere.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        address("admin.listen", &self.listen).ok()
    }

    /// Whether the admin commands are served there too.
    pub(crate) fn has_token(&self) -> bool {
        !self.token_file.as_os_str().is_empty()
    }

    fn check(&self) -> Result<()> {
        if self.listen.is_empty() {
            return Ok(());
        }
        let address = address("admin.listen", &self.listen)?;
        if !address.ip().is_loopback() && !self.has_token() {
            bail!(
                "admin.listen is {address}, which other machines can reach: allowed are a loopback address, or \
                 admin.token_file with a secret"
            );
        }
        Ok(())
    }
}

fn address(key: &str, text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| {
        format!("{key} is {text:?}: allowed are an address and a port, such as \"127.0.0.1:8080\"")
    })
}

/// An origin: scheme, host and port, nothing behind them.
fn origin(key: &str, text: &str) -> Result<()> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.filter(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']));
    if host.is_none() {
        bail!(
            "{key} is {text:?}: allowed are a scheme and a host, such as \"https://chat.example\", without a path"
        );
    }
    Ok(())
}

fn at_least<T: PartialOrd + fmt::Display>(key: &str, value: T, least: T) -> Result<()> {
    if value < least {
        bail!("{key} is {value}: allowed are {least} and more");
    }
    Ok(())
}

fn refuse_unknown(path: &str, known: &Value, chosen: &Value) -> Result<()> {
    let (ValueKind::Table(known), ValueKind::Table(chosen)) = (&known.kind, &chosen.kind) else {
        return Ok(());
    };
    for (key, value) in chosen {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match known.get(key) {
            Some(known) => refuse_unknown(&path, known, value)?,
            None => bail!("unknown key {path} with value {}: allowed are {}", shown(value), names(known)),
        }
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    let place = value.origin().map(|origin| format!(" (in {origin})")).unwrap_or_default();
    format!("{value:?}{place}", value = value.to_string())
}

fn names(table: &Map<String, Value>) -> String {
    let mut names: Vec<&str> = table.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(", ")
}

/// How this server is called from here: loopback for an address that means all interfaces.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
