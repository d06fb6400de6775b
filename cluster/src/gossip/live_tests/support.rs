//! Nodes to gossip with, and a member that is made of the codec and the seal alone.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use protocol::Millis;
use tokio::net::UdpSocket;

use super::{
    super::{codec::Codec, seal::Sealer},
    *,
};

/// Twice as fast as in life, so that a node is dead after 1.7 s.
const FAST: Duration = Duration::from_millis(100);

const DEADLINE: Duration = Duration::from_secs(60);

const CLUSTER: &str = "test";

/// The time of the test's own start, going on.
struct TestClock(Instant);

const START: Millis = 1_800_000_000_000;

impl Clock for TestClock {
    fn now(&self) -> Millis {
        START + self.0.elapsed().as_millis() as u64
    }
}

struct Counting(AtomicU64);

impl Chance for Counting {
    fn bits(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

pub(super) fn secret(id: u8) -> Secret {
    Secret::new(id, &[id; 32]).unwrap()
}

/// The first is current.
pub(super) fn secrets(ids: &[u8]) -> Secrets {
    Secrets { current: secret(ids[0]), also: ids.get(1).copied().map(secret) }
}

pub(super) struct Net {
    clock: Arc<TestClock>,
    chance: Arc<Counting>,
    seeds: Vec<String>,
    numbers: u64,
}

impl Default for Net {
    fn default() -> Self {
        let clock = Arc::new(TestClock(Instant::now()));
        Self { clock, chance: Arc::new(Counting(AtomicU64::new(1))), seeds: Vec::new(), numbers: 0 }
    }
}

impl Net {
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn settings(&mut self, id: &str) -> Settings {
        let anywhere = "127.0.0.1:0".parse().unwrap();
        Settings {
            name: NodeName::new(id, self.next_number()).unwrap(),
            listen: anywhere,
            advertise: anywhere,
            seeds: self.seeds.clone(),
            cluster_id: CLUSTER.into(),
            secrets: secrets(&[1]),
            interval: FAST,
            meta: Meta {
                protocol: PROTOCOL,
                build: "test".into(),
                roles: vec![Role::Rooms, Role::Gateway],
                link: "127.0.0.1:1".parse().unwrap(),
                public: Some("wss://chat.example/ws".into()),
                zone: None,
            },
            clock: self.clock.clone(),
            chance: self.chance.clone(),
        }
    }

    pub(super) async fn start(&mut self, id: &str) -> Node {
        self.start_with(id, |_| {}).await
    }

    /// Starts a node and waits until it sees itself.
    pub(super) async fn start_with(&mut self, id: &str, change: impl FnOnce(&mut Settings)) -> Node {
        let mut settings = self.settings(id);
        change(&mut settings);
        let (sender, events) = mpsc::channel(EVENTS);
        let gossip = Gossip::start(settings, sender).unwrap();
        if self.seeds.len() < 2 {
            self.seeds.push(gossip.address().to_string());
        }
        let node = Node { gossip, events };
        node.until("it sees itself", |view| view.member(&view.me).is_some()).await;
        node
    }

    /// Starts nodes and waits until each sees all.
    pub(super) async fn start_all(&mut self, ids: &[&str]) -> Vec<Node> {
        let mut nodes = Vec::new();
        for id in ids {
            nodes.push(self.start(id).await);
        }
        for node in &nodes {
            node.until("all are there", |view| view.members.len() == ids.len()).await;
        }
        nodes
    }
}

pub(super) struct Node {
    pub(super) gossip: Gossip,
    events: mpsc::Receiver<Event>,
}

impl Node {
    /// Waits until the view is so.
    pub(super) async fn until(&self, what: &str, mut so: impl FnMut(&View) -> bool) {
        let mut views = self.gossip.views();
        let waited = tokio::time::timeout(DEADLINE, views.wait_for(|view| so(view))).await.map(drop);
        assert!(waited.is_ok(), "{what}: {:?}", self.gossip.view());
    }

    /// Waits until a counter or the like is so.
    pub(super) async fn wait(&self, what: &str, mut so: impl FnMut(&Metrics) -> bool) {
        let metrics = self.gossip.metrics();
        let begun = Instant::now();
        while !so(&metrics) {
            assert!(begun.elapsed() < DEADLINE, "{what}: {metrics:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until it is told.
    pub(super) async fn until_told(&mut self, mut so: impl FnMut(&Event) -> bool) {
        while !so(&self.next().await) {}
    }

    /// The changes of membership up to this one.
    pub(super) async fn changes_until(&mut self, last: &Change) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.last() != Some(last) {
            if let Event::Members(change) = self.next().await {
                changes.push(change);
            }
        }
        changes
    }

    /// What was told and not read yet.
    pub(super) fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// The next value: who, key, value.
    pub(super) async fn next_value(&mut self) -> (String, String, String) {
        loop {
            if let Event::Value { node, key, value } = self.next().await {
                return (node.id().to_owned(), key.into(), value.into());
            }
        }
    }

    async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(DEADLINE, self.events.recv()).await;
        event.expect("told in time").expect("gossip goes on")
    }
}

/// Datagrams that are none.
pub(super) async fn junk(to: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for datagram in [&[1; 5][..], &[1; 2_000], &[9; 200], &[0; 200]] {
        socket.send_to(datagram, to).await.unwrap();
    }
}

/// A member of the cluster without gossip of its own.
pub(super) struct Member {
    socket: UdpSocket,
    codec: Codec,
    sealer: Sealer,
}

impl Member {
    pub(super) async fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self { socket, codec: Codec::open().await.unwrap(), sealer: Sealer::new(u64::MAX) }
    }

    pub(super) fn seal(&mut self, to: SocketAddr, message: &[u8]) -> Vec<Vec<u8>> {
        self.sealer.seal(&Keys::new(CLUSTER, &secrets(&[1])), to, START + 15_000, message).unwrap()
    }

    /// A first greeting, of a node that knows nobody.
    pub(super) async fn syn(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        // Magic number, protocol version 0, SYN, no nodes, cluster id.
        let mut bytes = 45_139_u16.to_le_bytes().to_vec();
        bytes.extend([0, 0, 0, 0]);
        bytes.extend((CLUSTER.len() as u16).to_le_bytes());
        bytes.extend(CLUSTER.as_bytes());
        let envelope = self.codec.decode(&bytes).await.unwrap();
        let encoded = self.codec.encode(envelope).await.unwrap();
        self.seal(to, &encoded)
    }

    pub(super) async fn send(&self, datagrams: &[Vec<u8>], to: SocketAddr) {
        for datagram in datagrams {
            self.socket.send_to(datagram, to).await.unwrap();
        }
    }
}
