//! Nodes, people on all of them who talk without a pause, and what must hold in the end.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use client::{Client, Rest, net::Server as Address, record::Outcome};
use cluster::{
    NodeName,
    placement::{Candidate, Placement},
};
use protocol::{Body, Encoding, Kind, RoomId, Seq};
use rookery_test_cassandra::shared;
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::TcpStream,
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use crate::server::{CANARY, Chance, PASSWORD, Server, check, connect, within};

/// Between two messages of one writer.
const PACE: Duration = Duration::from_millis(50);
/// A writer waits while this many of its messages have no answer.
const MOST_UNSETTLED: usize = 200;
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);
/// Enough for a few who talk without a pause.
const LIMITS: &[(&str, &str)] = &[
    ("LIMITS__USER_SENDS_PER_SECOND", "2000"),
    ("LIMITS__USER_SENDS_BURST", "4000"),
    ("LIMITS__FRAMES_PER_SECOND", "2000"),
    ("LIMITS__FRAMES_BURST", "4000"),
    ("LIMITS__UNIDENTIFIED_PER_ADDRESS", "1000"),
    ("LIMITS__RETURN_SPREAD_S", "1"),
    ("ADMIN__LISTEN", "127.0.0.1:0"),
];

/// One test at a time: three nodes and a database are enough for a small machine.
static TURN: Mutex<()> = Mutex::const_new(());
/// Each test has a keyspace of its own.
static KEYSPACES: AtomicU64 = AtomicU64::new(0);

/// Nodes that know each other.
pub(crate) struct Nodes {
    pub(crate) servers: Vec<Server>,
    seeds: String,
    keyspace: String,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A port that nobody uses, for datagrams and streams: below those that the system gives to connections, which would take
/// the port of a node while it is down.
fn free_port() -> u16 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let step = u64::from(std::process::id()) * 64 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + u16::try_from(step % 20_000).unwrap();
        let place = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok() {
            return port;
        }
    }
}

/// A file with a secret.
pub(crate) fn secret(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("{name:-<40}")).unwrap();
    path.display().to_string()
}

/// What the node of this place is called.
pub(crate) fn name(place: usize) -> String {
    format!("node-{place}")
}

impl Nodes {
    /// Three nodes that serve and see one another.
    pub(crate) async fn three() -> Self {
        let turn = TURN.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let keyspace = format!("cluster_{}", KEYSPACES.fetch_add(1, Ordering::Relaxed));
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let seeds = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
        let mut nodes = Self { servers: Vec::new(), seeds, keyspace, folder, _turn: turn };
        for (place, port) in ports.into_iter().enumerate() {
            let server = nodes.prepare(&name(place), port, &[]);
            nodes.servers.push(server);
        }
        tokio::task::block_in_place(|| {
            let migrated = nodes.servers[0].output(&["migrate"], "");
            assert!(migrated.status.success(), "{migrated:?}");
            std::thread::scope(|scope| {
                for server in &mut nodes.servers {
                    scope.spawn(|| server.run());
                }
            });
        });
        nodes
    }

    /// A node that the others don't know yet. `own` are variables of its own.
    pub(crate) fn another(&self, name: &str, own: &[(&str, &str)]) -> Server {
        self.prepare(name, free_port(), own)
    }

    fn prepare(&self, name: &str, gossip: u16, own: &[(&str, &str)]) -> Server {
        let database = tokio::task::block_in_place(|| shared().unwrap().contact_points()[0].to_string());
        let secret = secret(self.folder.path(), "secret");
        let tls = self.folder.path().join("tls").display().to_string();
        let gossip = format!("127.0.0.1:{gossip}");
        let [link, listen] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let variables = [
            ("STORE__KIND", "scylla"),
            ("SCYLLA__CONTACT_POINTS", &database),
            ("SCYLLA__KEYSPACE", &self.keyspace),
            ("CLUSTER__ENABLED", "true"),
            ("CLUSTER__NODE", name),
            ("CLUSTER__SEEDS", &self.seeds),
            ("CLUSTER__SECRET_FILE", &secret),
            ("CLUSTER__DEVELOPMENT_TLS", &tls),
            ("CLUSTER__GOSSIP", &gossip),
            ("CLUSTER__LINK", &link),
            ("LISTEN__ADDRESS", &listen),
        ];
        // Of two values the later counts.
        Server::prepare(&[LIMITS, &variables, own].concat())
    }

    /// The folder of what they share.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a node that was ended; waits until it serves.
    pub(crate) fn restart(&mut self, place: usize) {
        tokio::task::block_in_place(|| self.servers[place].run());
    }

    /// Lines of a node's log that have all of these words.
    pub(crate) fn logged(&self, place: usize, words: &[&str]) -> Vec<String> {
        let log = self.servers[place].log();
        let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        lines.map(str::to_owned).collect()
    }

    /// The address of a balancer that prefers the node of this place, and takes the next ones while it is away.
    async fn balancer(&self, first: usize) -> Address {
        let address = |server: &Server| server.url().split_once("//").unwrap().1.parse().unwrap();
        let mut targets: Vec<SocketAddr> = self.servers.iter().map(address).collect();
        targets.rotate_left(first);
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let targets = targets.clone();
                tokio::spawn(async move {
                    for target in targets {
                        if let Ok(mut server) = TcpStream::connect(target).await {
                            // Whoever ends the connection ends it for both.
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            }
        });
        Address::at(&url).unwrap()
    }

    /// The place of the node that owns a room while the first `count` nodes run.
    pub(crate) fn owner(room: RoomId, count: usize) -> usize {
        let names: Vec<_> = (0..count).map(|place| NodeName::new(&name(place), 1).unwrap()).collect();
        let home = Placement::new(names.iter().cloned().map(Candidate::new)).home(room.as_u128());
        names.iter().position(|name| Some(name.peer()) == home).unwrap()
    }

    /// No node has panicked or logged a secret.
    pub(crate) fn assert_quiet(&self, crowd: &Crowd) {
        self.servers.iter().for_each(|server| server.assert_quiet(&crowd.people));
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}

/// Somebody who talks on one node, in all rooms in turn.
struct Talk {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// People with a client on each node, all in all rooms, and one room for each node that owns it.
pub(crate) struct Crowd {
    pub(crate) people: Vec<Rest>,
    /// The room at place `n` is owned by node `n`.
    pub(crate) rooms: Vec<RoomId>,
    /// The client at place `n` is on node `n`, counted around, as long as that node is there.
    pub(crate) clients: Vec<Arc<Client>>,
    talks: Vec<Talk>,
}

impl Crowd {
    /// Two clients on each node, and a room for each.
    pub(crate) async fn gather(nodes: &Nodes) -> Self {
        Self::gather_for(nodes, nodes.servers.len()).await
    }

    /// The same, with a room for each of so many nodes, some of which may come later.
    pub(crate) async fn gather_for(nodes: &Nodes, owners: usize) -> Self {
        let mut chance = Chance(0x5eed);
        let mut people = Vec::new();
        for place in 0..2 * nodes.servers.len() {
            let rest = Rest::new(nodes.balancer(place % nodes.servers.len()).await);
            people.push(rest.register(&format!("talker-{place}"), PASSWORD).await.unwrap());
        }
        let rooms = Self::rooms(owners, &people).await;
        let mut clients = Vec::new();
        for (place, person) in people.iter().enumerate() {
            let client = connect(person, Encoding::ALL[place % 2], chance.writer());
            rooms.iter().for_each(|room| client.open(*room));
            clients.push(Arc::new(client));
        }
        for client in &clients {
            for room in &rooms {
                within("the stream of a room", client.live(*room)).await;
            }
        }
        Self { people, rooms, clients, talks: Vec::new() }
    }

    async fn rooms(owners: usize, people: &[Rest]) -> Vec<RoomId> {
        let mut owned = vec![None; owners];
        while owned.contains(&None) {
            let room = people[0].create_room("cluster").await.unwrap();
            owned[Nodes::owner(room, owners)].get_or_insert(room);
        }
        let rooms: Vec<RoomId> = owned.into_iter().flatten().collect();
        for room in &rooms {
            for person in &people[1..] {
                person.join(*room).await.unwrap();
            }
        }
        rooms
    }

    /// Four of them talk, on all nodes, until [`Self::settle`].
    pub(crate) fn talk(&mut self) {
        for (place, client) in self.clients.iter().take(4).enumerate() {
            let stop = Arc::new(AtomicBool::new(false));
            let (client, rooms, stopped) = (Arc::clone(client), self.rooms.clone(), Arc::clone(&stop));
            let task = tokio::spawn(async move {
                let mut pace = tokio::time::interval(PACE);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                for number in 0_usize.. {
                    pace.tick().await;
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    if client.unsettled() < MOST_UNSETTLED {
                        let body = Body::text(&format!("{CANARY} {place} {number}")).unwrap();
                        client.try_send(rooms[number % rooms.len()], Kind::Message, None, body).unwrap();
                    }
                }
            });
            self.talks.push(Talk { stop, task });
        }
    }

    /// Says something in a room through a client, until it is in the log; tells where.
    pub(crate) async fn say(&self, client: usize, room: usize) -> Seq {
        let body = Body::text(&format!("{CANARY} and this")).unwrap();
        let client = &self.clients[client];
        let message = client.try_send(self.rooms[room], Kind::Message, None, body).unwrap();
        match within("an answer", client.answered(message)).await {
            Outcome::Acked(seq) | Outcome::Stored(Some(seq)) => seq,
            other => panic!("not in the log: {other:?}"),
        }
    }

    /// From now until something new that this client says in a room is acknowledged.
    pub(crate) async fn unavailable(&self, client: usize, room: usize) -> Duration {
        let begun = Instant::now();
        self.say(client, room).await;
        begun.elapsed()
    }

    /// Everybody has said something more in each room.
    pub(crate) async fn say_around(&self) {
        for client in 0..self.clients.len() {
            for room in 0..self.rooms.len() {
                self.say(client, room).await;
            }
        }
    }

    /// Nobody talks any more; every message has its answer, every stream is at its end, and all rules hold.
    #[expect(clippy::print_stdout, reason = "shown when the test fails")]
    pub(crate) async fn settle(&mut self, nodes: &Nodes) {
        for talk in self.talks.drain(..) {
            talk.stop.store(true, Ordering::Relaxed);
            talk.task.await.unwrap();
        }
        for (place, client) in self.clients.iter().enumerate() {
            let settled = tokio::time::timeout(crate::server::PATIENCE, client.settled()).await;
            assert!(settled.is_ok(), "client {place} has no answer to all messages: {}", client.waiting());
        }
        for room in &self.rooms {
            let head = self.people[0].log(*room).await.unwrap().last().unwrap().seq;
            for (place, client) in self.clients.iter().enumerate() {
                let caught_up = client.caught_up(*room, head);
                let caught_up = tokio::time::timeout(crate::server::PATIENCE, caught_up).await;
                assert!(caught_up.is_ok(), "client {place} is behind {head} in {room}: {}", client.waiting());
            }
        }
        let clients = std::mem::take(&mut self.clients).into_iter();
        let clients: Vec<Client> = clients.map(|client| Arc::into_inner(client).unwrap()).collect();
        let report = tokio::task::block_in_place(|| check(&nodes.servers[0], &self.rooms, &clients));
        println!("{report}");
        assert!(report.violations.is_empty(), "{report}");
        assert!(report.acks > 100 && report.delivered > report.acks, "too little was said: {report}");
        for message in clients.iter().flat_map(|client| client.record().messages) {
            let is_stored = matches!(message.outcome, Outcome::Acked(_) | Outcome::Stored(_));
            assert!(is_stored, "{message:?}");
        }
        self.clients = clients.into_iter().map(Arc::new).collect();
    }

    /// The longest that anybody waited for an answer.
    pub(crate) fn slowest(&self) -> Duration {
        let messages = self.clients.iter().flat_map(|client| client.record().messages);
        let waits = messages.filter_map(|message| Some(message.settled_at? - message.asked_at?));
        waits.max().unwrap_or_default()
    }

    /// What servers told clients of failed requests: closes are not among it.
    pub(crate) fn errors(&self) -> Vec<(String, String)> {
        let told = self.clients.iter().flat_map(|client| client.record().told);
        told.filter(|(code, _)| code.parse::<u16>().is_err()).collect()
    }
}
