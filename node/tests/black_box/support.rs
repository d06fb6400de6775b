//! A server in a folder of its own, and people who talk to it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use client::{
    Client, Rest, Settings,
    check::{Log, Phase, Report},
    net::{Received, Server as Address, Socket},
    rest::HttpMethod,
};
use protocol::{
    ClientFrame, Encoding, Incarnation, RoomId, ServerFrame, WriterId,
    client::{Identify, Resume},
    server::Welcome,
};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything: for failures only.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Everybody's password. It must never be in a log.
pub(crate) const PASSWORD: &str = "canary-password-7Qd2";
/// Stands in every message body. It must never be in a log.
pub(crate) const CANARY: &str = "canary-body-x81B";

/// Waits for something, and says what did not come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

/// Numbers that a seed decides.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// The splitmix64 generator.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn writer(&mut self) -> WriterId {
        WriterId::from_u128(u128::from(self.next()) << 64 | u128::from(self.next()))
    }
}

/// A server process, its folder and its log. Killed with its value.
pub(crate) struct Server {
    folder: TempDir,
    variables: BTreeMap<String, String>,
    child: Option<Child>,
    url: String,
}

impl Server {
    /// Starts on any free port. `variables` are `SECTION__KEY` and its value.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let mut server = Self::prepare(variables);
        server.run();
        server
    }

    /// Everything but the process.
    pub(crate) fn prepare(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let set = |(key, value): &(&str, &str)| (format!("ROOKERY__{key}"), (*value).to_owned());
        let mut all: BTreeMap<String, String> = variables.iter().map(set).collect();
        let mut default = |key: &str, value: String| {
            all.entry(format!("ROOKERY__{key}")).or_insert(value);
        };
        default("LISTEN__ADDRESS", "127.0.0.1:0".to_owned());
        default("STORE__FOLDER", folder.path().join("data").display().to_string());
        default("LIMITS__SIGN_INS_PER_ADDRESS_BURST", "1000".to_owned());
        default("LIMITS__REQUESTS_PER_ADDRESS_BURST", "5000".to_owned());
        default("LIMITS__REQUESTS_PER_USER_BURST", "5000".to_owned());
        Self { folder, variables: all, child: None, url: String::new() }
    }

    /// The folder that holds data and log.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The command `rookery` with this server's configuration and these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.args(arguments).env_clear().envs(&self.variables).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command that ends by itself.
    pub(crate) fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts the process; waits until it says where it is.
    pub(crate) fn run(&mut self) {
        let receiver = self.spawn();
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no start:\n{}", self.log()));
        let url = line.strip_prefix("Rookery is at ").and_then(|url| url.strip_suffix('/')).unwrap();
        self.url = url.to_owned();
        let (_, address) = url.split_once("//").unwrap();
        self.variables.insert("ROOKERY__LISTEN__ADDRESS".to_owned(), address.to_owned());
    }

    /// Starts the process; gives the lines that it says.
    pub(crate) fn spawn(&mut self) -> mpsc::Receiver<String> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut child = self.command(&["serve"]).stderr(log).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        self.child = Some(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                // The test may have what it wanted; the pipe is read on all the same.
                let _ = sender.send(line);
            }
        });
        receiver
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same for clients.
    pub(crate) fn address(&self) -> Address {
        Address::at(&self.url).unwrap()
    }

    /// Requests as nobody.
    pub(crate) fn rest(&self) -> Rest {
        Rest::new(self.address())
    }

    /// A new account, signed in.
    pub(crate) async fn person(&self, name: &str) -> Rest {
        self.rest().register(name, PASSWORD).await.unwrap()
    }

    /// Ends the process as a loss of power would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for the end of the process; says how long it took.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let mut child = self.child.take().unwrap();
        let waiting = tokio::task::spawn_blocking(move || child.wait().unwrap());
        let status = within("the end of the process", waiting).await.unwrap();
        (status, begun.elapsed())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// What the server has logged, over all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The log tells no secret and no panic.
    pub(crate) fn assert_quiet(&self, people: &[Rest]) {
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        let mut secrets = vec![PASSWORD, CANARY];
        for person in people {
            secrets.push(&person.session().access_token);
            secrets.extend(person.session().refresh_token.as_deref());
        }
        for secret in secrets {
            assert!(!log.contains(secret), "the log tells {secret}");
        }
    }

    /// Asks the admin listener, as Prometheus does.
    pub(crate) async fn ask_listener(&self, token: Option<&str>, path: &str) -> (u16, String) {
        let (status, body) = self.ask_listener_for_json(token, path).await;
        (status, body.as_str().unwrap_or_default().to_owned())
    }

    /// The same of what answers in JSON.
    pub(crate) async fn ask_listener_for_json(&self, token: Option<&str>, path: &str) -> (u16, Value) {
        let log = self.log();
        // The latest life's.
        let line = log.lines().rfind(|line| line.contains("health checks and metrics")).unwrap();
        let address = serde_json::from_str::<Value>(line).unwrap()["address"].as_str().unwrap().to_owned();
        let rest = Rest::new(Address::at(&format!("http://{address}")).unwrap());
        let rest = match token {
            Some(token) => rest.with_token(token),
            None => rest,
        };
        let answer = rest.call(HttpMethod::GET, path, None).await.unwrap();
        (answer.status, answer.body)
    }

    /// A number of its metrics; 0 if it was not counted yet.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, metrics) = self.ask_listener(None, "/metrics").await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// The process's resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let id = self.child.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// A room's log as an operator reads it.
    pub(crate) fn export(&self, room: RoomId) -> Log {
        let output = self.output(&["admin", "export-room", &room.to_string()], "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Log::from_json_lines(Incarnation(1), &String::from_utf8(output.stdout).unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client that comes back quickly.
pub(crate) fn connect(rest: &Rest, encoding: Encoding, writer: WriterId) -> Client {
    let backoff = (Duration::from_millis(20), Duration::from_millis(500));
    let settings = Settings { encoding, backoff, ..Settings::new(rest.clone(), writer) };
    Client::start(settings, tokio::time::Instant::now())
}

/// A bare socket, identified.
pub(crate) async fn socket(
    rest: &Rest,
    encoding: Encoding,
    resume: BTreeMap<RoomId, Resume>,
) -> (Socket, Welcome) {
    let mut socket = Socket::connect(rest.server(), encoding, "").await.unwrap();
    let token = Some(rest.session().access_token.clone());
    let identify = Identify { id: None, token, ticket: None, client: None, resume };
    socket.send(&ClientFrame::Identify(identify)).await.unwrap();
    match frame(&mut socket).await {
        ServerFrame::Welcome(welcome) => (socket, welcome),
        other => panic!("no welcome but {other:?}"),
    }
}

/// The next frame.
pub(crate) async fn frame(socket: &mut Socket) -> ServerFrame {
    within("a frame", async {
        loop {
            match socket.receive().await {
                Received::Frame(frame) => return *frame,
                Received::Alive => {}
                other => panic!("no frame but {other:?}"),
            }
        }
    })
    .await
}

/// The next frame that `pick` wants; others are passed over.
pub(crate) async fn frame_that<T>(socket: &mut Socket, mut pick: impl FnMut(ServerFrame) -> Option<T>) -> T {
    loop {
        if let Some(picked) = pick(frame(socket).await) {
            return picked;
        }
    }
}

/// How the server ends a socket; frames before that are passed over, those that refuse something are told.
pub(crate) async fn end(socket: &mut Socket) -> (Option<u16>, Vec<ServerFrame>) {
    let mut told = Vec::new();
    let code = within("the end of the socket", async {
        loop {
            match socket.receive().await {
                Received::Frame(frame) => told.push(*frame),
                Received::End(close) => return close.map(|(code, _)| code),
                Received::Alive | Received::Unreadable(_) => {}
            }
        }
    })
    .await;
    (code, told)
}

/// Checks settled clients against the logs of these rooms.
pub(crate) fn check(server: &Server, rooms: &[RoomId], clients: &[Client]) -> Report {
    let logs = rooms.iter().map(|room| (*room, server.export(*room))).collect();
    let records: Vec<_> = clients.iter().map(Client::record).collect();
    client::check::check(&logs, &records, Phase::Settled)
}

/// A file with this content in the server's folder.
pub(crate) fn write(server: &Server, name: &str, content: &str) -> PathBuf {
    let path = server.folder().join(name);
    File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
    path
}
