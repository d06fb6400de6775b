//! Links between nodes of one process, over loopback, with real TLS.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
};

use super::*;

mod proxy;
mod trouble;

use proxy::Proxy;

/// What a handler was told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Up(PeerId),
    Down(PeerId),
    Received(PeerId, Bytes),
    Suspended,
    Resumed,
}

/// Writes down what it is told; takes no message while it is blocked.
#[derive(Default)]
struct Recorder {
    told: Mutex<Vec<Told>>,
    blocked: AtomicBool,
    traced: Mutex<Vec<TraceContext>>,
}

impl Recorder {
    fn tell(&self, what: Told) {
        self.told.lock().unwrap().push(what);
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    fn count(&self, what: &Told) -> usize {
        self.told.lock().unwrap().iter().filter(|told| *told == what).count()
    }

    fn received(&self) -> usize {
        self.told.lock().unwrap().iter().filter(|told| matches!(told, Told::Received(..))).count()
    }

    /// The numbers in the messages, in the order in which they came.
    fn numbers(&self) -> Vec<u32> {
        let number = |told| match told {
            Told::Received(_, message) => Some(u32::from_le_bytes(message[..4].try_into().unwrap())),
            Told::Up(_) | Told::Down(_) | Told::Suspended | Told::Resumed => None,
        };
        self.told().into_iter().filter_map(number).collect()
    }
}

impl LinkHandler for Recorder {
    fn up(&self, peer: PeerId) {
        self.tell(Told::Up(peer));
    }

    fn down(&self, peer: PeerId) {
        self.tell(Told::Down(peer));
    }

    fn received(&self, from: PeerId, message: Bytes, trace: TraceContext) {
        while self.blocked.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if trace.is_some() {
            self.traced.lock().unwrap().push(trace);
        }
        self.tell(Told::Received(from, message));
    }

    fn suspended(&self, _: PeerId) {
        self.tell(Told::Suspended);
    }

    fn resumed(&self, _: PeerId) {
        self.tell(Told::Resumed);
    }
}

struct Node {
    name: NodeName,
    links: Links,
    handler: Arc<Recorder>,
}

impl Node {
    fn peer(&self) -> PeerId {
        self.name.peer()
    }

    fn address(&self) -> (NodeName, SocketAddr) {
        (self.name.clone(), self.links.local_addr())
    }

    fn send(&self, to: &Node, worth: Worth, message: impl Into<Bytes>) -> Result<(), Unsent> {
        self.links.send(to.peer(), worth, message.into(), TraceContext::NONE)
    }

    /// Sends, again and again while there is no room.
    async fn push(&self, to: &Node, message: Bytes) {
        while self.links.send(to.peer(), Worth::Needed, message.clone(), TraceContext::NONE).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn phase(&self, of: &Node) -> LinkPhase {
        let name = of.name.to_string();
        let stats = self.links.stats();
        stats.peers.iter().find(|peer| peer.name == name).map_or(LinkPhase::Down, |peer| peer.phase)
    }
}

/// Numbers that no two nodes of this process draw alike.
#[derive(Default)]
struct Dice(std::hash::RandomState);

impl Chance for Dice {
    fn bits(&self) -> u128 {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        std::hash::BuildHasher::hash_one(&self.0, DRAWN.fetch_add(1, Ordering::Relaxed)).into()
    }
}

fn quick() -> Times {
    Times {
        heartbeat: Duration::from_millis(50),
        suspend: Duration::from_millis(400),
        close: Duration::from_millis(1500),
        ..Times::default()
    }
}

/// Tests share a process, and with it the names of actors: each takes names that no other does.
fn settings(folder: &Path, id: &str) -> LinkSettings {
    let name = NodeName::new(id, 1).unwrap();
    let tls = Tls::development(folder, id).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    LinkSettings { times: quick(), ..LinkSettings::new(name, listen, "test", tls, Arc::new(Dice::default())) }
}

async fn start(settings: LinkSettings) -> Node {
    let handler = Arc::new(Recorder::default());
    let name = settings.name.clone();
    let links = Links::start(settings, Arc::clone(&handler) as Arc<dyn LinkHandler>).await.unwrap();
    Node { name, links, handler }
}

async fn node(folder: &Path, id: &str) -> Node {
    start(settings(folder, id)).await
}

/// Gossip says that all of them live.
fn meet(nodes: &[&Node]) {
    for node in nodes {
        node.links.set_live(nodes.iter().map(|node| node.address()).collect());
    }
}

async fn linked(a: &Node, b: &Node) {
    until("both are linked", || a.phase(b) == LinkPhase::Ready && b.phase(a) == LinkPhase::Ready).await;
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.links.stop(Duration::ZERO).await;
    }
}

fn numbered(number: u32, length: usize) -> Bytes {
    let mut message = vec![0; length.max(4)];
    message[..4].copy_from_slice(&number.to_le_bytes());
    message.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_messages_arrive_in_order_and_a_stop_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (node(folder.path(), "order-a").await, node(folder.path(), "order-b").await);
    meet(&[&a, &b]);
    linked(&a, &b).await;
    for number in 0..50_000 {
        a.push(&b, numbered(number, 64)).await;
    }
    a.links.stop(Duration::from_secs(20)).await;
    assert!(b.handler.numbers().into_iter().eq(0..50_000), "{} came", b.handler.received());
    until("the other side notices", || b.handler.count(&Told::Down(a.peer())) == 1).await;
    assert_eq!(b.handler.told().first(), Some(&Told::Up(a.peer())));
    stop([b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_link_all_with_all_and_traces_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let nodes = [node(path, "mesh-a").await, node(path, "mesh-b").await, node(path, "mesh-c").await];
    let [a, b, c] = &nodes;
    meet(&[a, b, c]);
    linked(a, b).await;
    linked(b, c).await;
    linked(a, c).await;
    let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    c.links.send(a.peer(), Worth::Needed, Bytes::from_static(b"hello"), trace).unwrap();
    until("it came", || a.handler.received() == 1).await;
    assert_eq!(*a.handler.traced.lock().unwrap(), [trace]);
    assert!(a.handler.told().contains(&Told::Received(c.peer(), Bytes::from_static(b"hello"))));
    until("a round trip is measured", || a.links.stats().peers[0].rtt.is_some()).await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_longer_live_is_closed_and_a_new_life_is_another_peer() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (node(folder.path(), "life-a").await, node(folder.path(), "life-b").await);
    meet(&[&a, &b]);
    linked(&a, &b).await;
    let again =
        LinkSettings { name: NodeName::new("life-b", 2).unwrap(), ..settings(folder.path(), "life-b") };
    // The earlier life still runs: a frozen process that was replaced.
    let next = start(again).await;
    meet(&[&a, &next]);
    linked(&a, &next).await;
    until("the earlier one is told", || a.handler.count(&Told::Down(b.peer())) == 1).await;
    assert_eq!(a.send(&b, Worth::Needed, "late"), Err(Unsent));
    a.send(&next, Worth::Needed, "in time").unwrap();
    until("it came", || next.handler.received() == 1).await;
    stop([a, b, next]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_is_refused_and_the_longest_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (node(folder.path(), "long-a").await, node(folder.path(), "long-b").await);
    meet(&[&a, &b]);
    linked(&a, &b).await;
    assert_eq!(a.send(&b, Worth::Needed, vec![0; LONGEST_PAYLOAD + 1]), Err(Unsent));
    a.send(&b, Worth::Needed, vec![0; LONGEST_PAYLOAD]).unwrap();
    until("it came", || b.handler.received() == 1).await;
    assert_eq!(a.links.stats().oversized, 1);
    assert_eq!(b.handler.count(&Told::Down(a.peer())), 0);
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_handle_bounds_what_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (node(folder.path(), "slow-a").await, node(folder.path(), "slow-b").await);
    meet(&[&a, &b]);
    linked(&a, &b).await;
    b.handler.blocked.store(true, Ordering::Relaxed);
    let limits = Limits::default();
    let mut taken = 0;
    let mut droppable = 0;
    for number in 0..20_000 {
        let worth = if number % 4 == 0 { Worth::Droppable } else { Worth::Needed };
        let sent = a.links.send(b.peer(), worth, numbered(number, 1024), TraceContext::NONE).is_ok();
        taken += usize::from(sent);
        droppable += usize::from(sent && worth == Worth::Droppable);
    }
    let stats = a.links.stats().peers.remove(0);
    assert!(stats.outstanding <= limits.credit && stats.queued <= limits.queue, "{stats:?}");
    assert!(stats.refused > 5_000 && stats.dropped > 2_000, "{stats:?}");
    assert!(taken * 1024 <= usize::try_from(limits.credit).unwrap() + 2 * limits.queue, "{taken}");
    b.handler.blocked.store(false, Ordering::Relaxed);
    assert!(a.links.flush(Duration::from_secs(20)).await, "it goes on by itself");
    let numbers = b.handler.numbers();
    assert!(numbers.is_sorted_by(|a, b| a < b));
    let needed = numbers.iter().filter(|number| *number % 4 != 0).count();
    assert_eq!(needed, taken - droppable, "what was taken and needed has come");
    stop([a, b]).await;
}
