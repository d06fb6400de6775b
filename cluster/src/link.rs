//! Messages between two nodes: in order, at most once, over a session of ractor_cluster.
//!
//! ```text
//!  send ──► Peer: Outbox ──batch──► the peer's link actor, mirrored here ──session, TLS──► its Link ──► LinkHandler
//!              ▲  credit                                                                      │
//!              └─────────────────────────────── pulse: consumed ◄────────────────────────────┘
//! ```
//!
//! In reading order:
//!
//! * [`envelope`]: what is sent, as bytes;
//! * [`outbox`]: what waits, how it is batched, and how far credit goes;
//! * [`state`]: whom to dial, when a link is up, suspended or over;
//! * [`actor`]: the one remotable actor, which does what `state` says;
//! * [`peer`]: what a sender touches;
//! * [`connect`], [`stream`], [`tls`]: connections, their time-outs, and who may speak.
//!
//! The library gives sessions, authentication by a cookie (here the cluster's id: a guard against mistakes, not a secret)
//! and delivery to an actor. The rest is done here: it has no backpressure, does not reconnect, does not notice a silent
//! peer, and mirrors every remotable actor on every node, which is why there is one.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actors::{
    Chance, PeerId,
    peers::{Unsent, Worth},
};
use bytes::Bytes;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use ractor_cluster::{NodeServer, NodeServerMessage, node::NodeConnectionMode};
use telemetry::TraceContext;
use tokio::net::TcpListener;

mod actor;
mod connect;
mod envelope;
mod outbox;
mod peer;
mod shared;
mod state;
mod stats;
mod stream;
mod times;
mod tls;

pub use envelope::LONGEST_PAYLOAD;
pub use outbox::Limits;
pub use state::LinkPhase;
pub use stats::{LinkStats, LinksStats};
pub use times::Times;
pub use tls::{ANY_NODE, Tls, TlsError, TlsFiles};

use crate::NodeName;
use actor::{Link, LinkMessage, Sessions, actor_name};
use shared::{Actors, Shared};

/// The longest frame that a session reads: a batch with what the library adds to it. A peer that sends more is cut off.
const LONGEST_READ: u64 = 2 * envelope::LONGEST_FRAME as u64;

/// How long each part of a stop may take that has nothing to wait for.
const STOP: Duration = Duration::from_secs(2);

/// Between two looks at whether a flush is done.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// What links need to know.
#[derive(Clone)]
pub struct LinkSettings {
    /// This life of this node.
    pub name: NodeName,
    /// Where to listen for other nodes; port 0 for any.
    pub listen: SocketAddr,
    /// Nodes with another one are refused. A guard against mistakes; not a secret.
    pub cluster_id: String,
    /// How this node proves who it is.
    pub tls: Tls,
    /// For the numbers of sessions and the pauses between dials.
    pub chance: Arc<dyn Chance>,
    /// How long to wait for what.
    pub times: Times,
    /// How much may wait.
    pub limits: Limits,
    /// Another one in tests of strangers.
    version: u8,
}

impl LinkSettings {
    /// With the default times and limits.
    pub fn new(
        name: NodeName,
        listen: SocketAddr,
        cluster_id: &str,
        tls: Tls,
        chance: Arc<dyn Chance>,
    ) -> Self {
        Self {
            name,
            listen,
            cluster_id: cluster_id.to_owned(),
            tls,
            chance,
            times: Times::default(),
            limits: Limits::default(),
            version: envelope::VERSION,
        }
    }
}

/// Who is told. All methods are called from one actor, one after another, and must be quick: while one runs, nothing
/// comes from any peer. A panic ends the links.
pub trait LinkHandler: Send + Sync + 'static {
    /// Messages to and from this peer go from now on. It has heard nothing of before.
    fn up(&self, peer: PeerId);

    /// No more messages of this peer come, and what was not handled by it may be lost.
    fn down(&self, peer: PeerId);

    /// A message, after all that the peer sent before. It keeps its whole batch in memory: copy what is kept for long.
    fn received(&self, from: PeerId, message: Bytes, trace: TraceContext);

    /// The peer is silent: sends are refused until it is [`Self::resumed`] or [`Self::down`].
    fn suspended(&self, _peer: PeerId) {}

    /// The peer is heard again. Nothing was lost.
    fn resumed(&self, _peer: PeerId) {}
}

/// Why links can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("links can't listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The actor system refuses: the name of this node is taken in this process.
    #[error(transparent)]
    Spawn(#[from] ractor::SpawnErr),
}

/// The links of this node to all others. Cheap to clone. They run until [`Self::stop`], and are for one life of the node: if its name is to get a new
/// generation, its owner stops them and starts others.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
    root: ActorCell,
    local_addr: SocketAddr,
}

impl Links {
    /// Listens for other nodes. Dials none before [`Self::set_live`].
    ///
    /// # Errors
    /// When the address is taken, or links of the same name run in this process.
    pub async fn start(settings: LinkSettings, handler: Arc<dyn LinkHandler>) -> Result<Self, StartError> {
        let cannot = |error| StartError::Listen(settings.listen, error);
        let listener = TcpListener::bind(settings.listen).await.map_err(cannot)?;
        let local_addr = listener.local_addr().map_err(cannot)?;
        let shared = Shared::new(settings, handler);
        let root = start_actors(&shared).await?;
        shared.tasks.spawn(connect::accept(Arc::clone(&shared), listener));
        shared.tasks.spawn(shared::beat(Arc::clone(&shared)));
        shared.tasks.spawn(shared::pump(Arc::clone(&shared)));
        Ok(Self { shared, root, local_addr })
    }

    /// Where this node listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Whom to be linked with: all nodes that live, by gossip, and where they listen for links. This node is passed over.
    /// Links to others are closed.
    pub fn set_live(&self, live: Vec<(NodeName, SocketAddr)>) {
        self.shared.set_live(live);
    }

    /// Takes a message for a peer. Does not wait; the queue's lock is held for as long as it takes to copy a batch.
    ///
    /// # Errors
    /// When it was not taken: the link is down or suspended, its queue is full, or the message is longer than
    /// [`LONGEST_PAYLOAD`]. A droppable message that was taken may be dropped later.
    pub fn send(&self, to: PeerId, worth: Worth, message: Bytes, trace: TraceContext) -> Result<(), Unsent> {
        if message.len() > LONGEST_PAYLOAD {
            self.shared.totals.oversized.fetch_add(1, Ordering::Relaxed);
            return Err(Unsent);
        }
        let peer = self.shared.peers.get(&to).ok_or(Unsent)?;
        if peer.send(self.shared.now(), worth, message, trace)?.is_some() {
            self.shared.ask_to_pump();
        }
        Ok(())
    }

    /// Waits until all peers have handled all that was taken for them before, for `deadline` at most; says if they have.
    pub async fn flush(&self, deadline: Duration) -> bool {
        let done = async {
            while !self.ask_whether_done() {
                tokio::time::sleep(FLUSH_LOOK).await;
            }
        };
        tokio::time::timeout(deadline, done).await.is_ok()
    }

    fn ask_whether_done(&self) -> bool {
        let now = self.shared.now();
        let mut done = true;
        for peer in self.shared.peers.iter().filter(|peer| !peer.is_done()) {
            done = false;
            peer.hurry(now);
            peer.pulse(now, true);
        }
        done
    }

    /// Flushes for `deadline` at most, then closes all links and the listener.
    pub async fn stop(&self, deadline: Duration) {
        if !self.flush(deadline).await {
            tracing::warn!("links end with messages that were not handled");
        }
        self.shared.stop.cancel();
        self.shared.tell(LinkMessage::Stop);
        if let Some(actors) = self.shared.actors.get() {
            // Takes what is before it in the mailbox with it, the order to stop among them.
            let _ = actors.link.drain_and_wait(Some(STOP)).await;
            let _ = actors.server.stop_and_wait(None, Some(STOP)).await;
        }
        for wire in &self.shared.wires {
            wire.closed.cancel();
        }
        self.root.stop(None);
        self.shared.tasks.close();
        let _ = tokio::time::timeout(STOP, self.shared.tasks.wait()).await;
        let _ = tokio::time::timeout(STOP, self.shared.ended.cancelled()).await;
    }

    /// Ends when the links have ended: after [`Self::stop`], or because one of their actors failed, which is not to be
    /// expected. The owner then starts others, of a new generation.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Numbers of now.
    pub fn stats(&self) -> LinksStats {
        stats::stats(&self.shared)
    }
}

/// Names of this process's actors that other nodes can send to. To be the link actor's alone: each of them would be
/// mirrored on every node.
pub fn remotable() -> Vec<String> {
    let all = ractor::registry::get_all_pids().into_iter();
    all.filter(ActorCell::supports_remoting).map(|actor| actor.get_name().unwrap_or_default()).collect()
}

async fn start_actors(shared: &Arc<Shared>) -> Result<ActorCell, ractor::SpawnErr> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the root has no supervisor; its end is told by Links::ended"
    )]
    let (root, _) = Root::spawn(None, Root(Arc::clone(shared)), ()).await?;
    let root = root.get_cell();
    let started = start_children(shared, &root).await;
    if started.is_err() {
        root.stop(None);
    }
    started.map(|()| root)
}

async fn start_children(shared: &Arc<Shared>, root: &ActorCell) -> Result<(), ractor::SpawnErr> {
    let settings = &shared.settings;
    let name = actor_name(&settings.name);
    let (link, _) = Link::spawn_linked(Some(name), Link(Arc::clone(shared)), (), root.clone()).await?;
    let (server, _) = NodeServer::spawn_linked(None, node_server(settings), (), root.clone()).await?;
    let subscription = Box::new(Sessions(link.clone()));
    let subscribe = NodeServerMessage::SubscribeToEvents { id: "links".to_owned(), subscription };
    let _ = server.cast(subscribe);
    let _ = shared.actors.set(Actors { link, server });
    Ok(())
}

/// The library always listens, in plain text: here where nobody comes, and whoever does is turned away.
fn node_server(settings: &LinkSettings) -> NodeServer {
    NodeServer::new(
        0,
        settings.cluster_id.clone(),
        settings.name.to_string(),
        // Two nodes with the same host and port are taken for one: the id is no host, but unique.
        settings.name.id().to_owned(),
        None,
        Some(NodeConnectionMode::Isolated),
    )
    .with_listen_addr(std::net::Ipv4Addr::LOCALHOST.into())
    .with_max_inbound_frame_size(LONGEST_READ)
}

/// Supervises the link actor and the node server: neither is of use without the other, and both end with it.
struct Root(Arc<Shared>);

impl Actor for Root {
    type Msg = RootMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RootMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<RootMessage>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        if !self.0.stop.is_cancelled() {
            tracing::error!("an actor of the links failed: they end");
        }
        self.0.stop.cancel();
        self.0.ended.cancel();
        Ok(())
    }
}

/// Nothing is said to the root.
enum RootMessage {}

impl ractor::Message for RootMessage {}

#[cfg(test)]
mod live_tests;
