//! HTTP for operators: everything over a Unix socket that only the server's user can open; health checks, metrics and a
//! page over TCP, and the rest there only to who shows the token.

use std::{
    convert::Infallible,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use gateway::rest::Health;
use http_body_util::{BodyExt, Full, Limited, channel::Channel, combinators::BoxBody};
use hyper::{
    HeaderMap, Method, Request as HttpRequest, Response, StatusCode, body::Incoming, header,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    office::{LINES, Office},
    request::{Line, Request},
};
use crate::{config, metrics::Metrics};

/// Connections of operators at a time; further ones wait in the listen queue.
const CONNECTIONS: usize = 16;
/// Largest request.
const REQUEST_BYTES: usize = 64 * 1024;
/// Longest a connection may take, a long export included.
const CONNECTION: Duration = Duration::from_secs(600);
/// Longest wait for a request's headers, and for its body.
const REQUEST: Duration = Duration::from_secs(5);
/// How long an answer that is under way may take when the server stops.
const LAST: Duration = Duration::from_secs(1);

/// The page for operators. It holds nothing of the cluster: it asks for the token, and with it for `/cluster.json`.
const PAGE: &str = include_str!("page.html");
/// What stands in it for a number that only this answer's scripts and styles know.
const NONCE: &str = "{nonce}";

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What is served.
#[derive(Clone)]
pub(crate) struct AdminServer {
    pub(crate) office: Office,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// What a connection may ask for.
#[derive(Debug, Clone)]
enum Door {
    /// The Unix socket: everything.
    Open,
    /// TCP.
    Guarded(Arc<Guard>),
}

#[derive(Debug)]
struct Guard {
    token: Option<Vec<u8>>,
    /// What `Host` may say.
    hosts: Vec<String>,
}

/// Removes the socket's file when the server stops.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already; a leftover is replaced at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where operators come in.
enum Listener {
    Socket(UnixListener),
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Socket(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

impl AdminServer {
    /// Serves everything on a Unix socket. The store's lock is held: a socket that lies there is a leftover.
    pub(crate) fn serve_socket(&self, path: &Path) -> Result<()> {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("admin.socket {} can't be replaced", path.display()));
        }
        let listener = UnixListener::bind(path)
            .with_context(|| format!("admin.socket {} can't be opened", path.display()))?;
        let file = SocketFile(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let server = self.clone();
        self.tasks.spawn(async move {
            let _file = file;
            server.accept(&Listener::Socket(listener), Door::Open).await;
        });
        Ok(())
    }

    /// Serves health checks and metrics over TCP; says where.
    pub(crate) async fn serve_tcp(&self, address: SocketAddr, config: &config::Admin) -> Result<SocketAddr> {
        let token = config.has_token().then(|| read_token(&config.token_file)).transpose()?;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("admin.listen {address} can't be opened"))?;
        let address = listener.local_addr()?;
        let hosts = config.hosts.iter().cloned().chain([address.to_string()]).collect();
        let door = Door::Guarded(Arc::new(Guard { token, hosts }));
        let server = self.clone();
        self.tasks.spawn(async move {
            server.accept(&Listener::Tcp(listener), door).await;
        });
        Ok(address)
    }

    async fn accept(&self, listener: &Listener, door: Door) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let next = async { (place.await, listener.accept().await) };
            let (place, stream) = tokio::select! {
                next = next => next,
                () = self.stop.cancelled() => return,
            };
            let Ok(stream) = stream else {
                // Out of file descriptors, as a rule: others may be given back.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (server, door) = (self.clone(), door.clone());
            self.tasks.spawn(async move {
                let _place = place;
                server.converse(stream, door).await;
            });
        }
    }

    async fn converse(&self, stream: Box<dyn Stream>, door: Door) {
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request, &door).await) });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(REQUEST).keep_alive(false);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        // How an operator's connection ends is the operator's business.
        tokio::select! {
            _ = timeout(CONNECTION, connection.as_mut()) => {}
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(LAST, connection).await;
            }
        }
    }

    async fn answer(&self, request: HttpRequest<Incoming>, door: &Door) -> Answer {
        let path = request.uri().path().to_owned();
        if let Err(refusal) = door.admit(&path, request.headers()) {
            return refusal;
        }
        match (request.method(), path.as_str()) {
            (&Method::GET, "/healthz/live") => whole(StatusCode::OK, "ok\n"),
            (&Method::GET, "/healthz/ready") => health(self.health.is_ready()),
            (&Method::GET, "/healthz/started") => health(self.health.is_started()),
            (&Method::GET, "/metrics") => typed(self.metrics.encode(), Metrics::CONTENT_TYPE),
            (&Method::GET, "/" | "/cluster") => page(self.office.chance.bits()),
            (&Method::GET, "/cluster.json") => self.cluster(),
            (&Method::POST, "/admin") => self.carry_out(request).await,
            _ => whole(StatusCode::NOT_FOUND, "there is no such path\n"),
        }
    }

    fn cluster(&self) -> Answer {
        let Some(fleet) = &self.office.fleet else { return health(false) };
        let mut text = fleet.sight().page(self.office.clock.now()).to_string();
        text.push('\n');
        typed(text, "application/json")
    }

    async fn carry_out(&self, request: HttpRequest<Incoming>) -> Answer {
        let body = Limited::new(request.into_body(), REQUEST_BYTES).collect();
        let Ok(Ok(body)) = timeout(REQUEST, body).await else {
            return whole(StatusCode::BAD_REQUEST, "no request in time, or a too large one\n");
        };
        let request: Request = match serde_json::from_slice(&body.to_bytes()) {
            Ok(request) => request,
            Err(error) => return whole(StatusCode::BAD_REQUEST, format!("no request: {error}\n")),
        };
        let (sender, receiver) = mpsc::channel(LINES);
        let (mut text, body) = Channel::<Bytes, Infallible>::new(LINES);
        let office = self.office.clone();
        // Ends by itself when the connection does: then nobody takes lines any more.
        self.tasks.spawn(async move { office.serve(request, sender).await });
        self.tasks.spawn(async move {
            let mut receiver = receiver;
            while let Some(line) = receiver.recv().await {
                if text.send_data(encoded(&line)).await.is_err() {
                    return;
                }
            }
        });
        Response::new(body.boxed())
    }
}

impl Door {
    #[expect(clippy::result_large_err, reason = "the refusal is the answer")]
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<(), Answer> {
        let Self::Guarded(guard) = self else { return Ok(()) };
        let told = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if !told(header::HOST).is_some_and(|host| guard.hosts.iter().any(|known| known == host)) {
            return Err(whole(StatusCode::MISDIRECTED_REQUEST, "unknown host\n"));
        }
        let shown = told(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let is_known = match &guard.token {
            Some(token) => shown.is_some_and(|shown| same(shown.as_bytes(), token)),
            None => matches!(path, "/metrics" | "/cluster.json"),
        };
        if is_known || path.starts_with("/healthz/") || matches!(path, "/" | "/cluster") {
            return Ok(());
        }
        Err(whole(StatusCode::UNAUTHORIZED, "not without the token\n"))
    }
}

/// Compares in a time that tells nothing but the length.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

fn read_token(file: &Path) -> Result<Vec<u8>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("admin.token_file {} can't be read", file.display()))?;
    let token = text.trim().as_bytes().to_vec();
    if token.len() < config::TOKEN_CHARS {
        bail!(
            "admin.token_file {} holds {} characters: allowed are {} and more",
            file.display(),
            token.len(),
            config::TOKEN_CHARS
        );
    }
    Ok(token)
}

fn encoded(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).expect("lines have string keys and finite numbers");
    text.push(b'\n');
    text.into()
}

fn health(well: bool) -> Answer {
    if well { whole(StatusCode::OK, "ok\n") } else { whole(StatusCode::SERVICE_UNAVAILABLE, "not now\n") }
}

fn whole(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()).boxed());
    *answer.status_mut() = status;
    answer
}

fn typed(text: String, kind: &'static str) -> Answer {
    let mut answer = whole(StatusCode::OK, text);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}

/// The page, which runs its own scripts and asks its own server, and nothing else.
fn page(chance: u128) -> Answer {
    let nonce = format!("{chance:032x}");
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut answer = typed(PAGE.replace(NONCE, &nonce), "text/html; charset=utf-8");
    let headers = answer.headers_mut();
    let policy = policy.parse().expect("it is of printable ASCII");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(token: Option<&str>) -> Door {
        let hosts = vec!["127.0.0.1:9090".to_owned()];
        Door::Guarded(Arc::new(Guard { token: token.map(|token| token.as_bytes().to_vec()), hosts }))
    }

    fn status(door: &Door, path: &str, host: &str, token: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        door.admit(path, &headers).map_or_else(|refusal| refusal.status().as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_only_what_changes_nothing_is_served() {
        let door = door(None);
        assert_eq!(status(&door, "/metrics", "127.0.0.1:9090", None), 200);
        assert_eq!(status(&door, "/healthz/ready", "127.0.0.1:9090", None), 200);
        assert_eq!(status(&door, "/cluster.json", "127.0.0.1:9090", None), 200);
        assert_eq!(status(&door, "/admin", "127.0.0.1:9090", None), 401);
        assert_eq!(status(&door, "/admin", "127.0.0.1:9090", Some("guess")), 401);
    }

    #[test]
    fn with_a_token_everything_but_health_and_the_empty_page_needs_it() {
        let door = door(Some("secret"));
        assert_eq!(status(&door, "/healthz/ready", "127.0.0.1:9090", None), 200);
        assert_eq!(status(&door, "/", "127.0.0.1:9090", None), 200);
        for path in ["/metrics", "/admin", "/cluster.json"] {
            assert_eq!(status(&door, path, "127.0.0.1:9090", None), 401);
            assert_eq!(status(&door, path, "127.0.0.1:9090", Some("secreT")), 401);
            assert_eq!(status(&door, path, "127.0.0.1:9090", Some("secret")), 200);
        }
    }

    #[test]
    fn the_page_runs_its_own_scripts_only() {
        let answer = page(7);
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        // One style, one script, and none in attributes; nothing from elsewhere.
        assert_eq!(PAGE.matches(NONCE).count(), 2);
        for bad in ["style=", "onclick", "onsubmit", "src=", "href=", "url(", "innerHTML", "Storage"] {
            assert!(!PAGE.contains(bad), "{bad}");
        }
    }

    #[test]
    fn a_name_that_was_not_told_is_refused() {
        // A page in the operator's browser reaches loopback under a name of its own.
        assert_eq!(status(&door(None), "/metrics", "attacker.example", None), 421);
        assert_eq!(status(&door(Some("secret")), "/admin", "attacker.example:9090", Some("secret")), 421);
    }
}
