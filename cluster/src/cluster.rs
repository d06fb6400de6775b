//! A node among others, from joining to leaving: gossip, links and presence put together.
//!
//! One task owns what is decided here. Gossip tells it who is there and what they say of their users; links tell it of
//! questions about users; time tells it when to write and to look. Rooms and users hear of all that through
//! [`actors::Inbound`], and ask through [`Peering`].

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actors::{Chance, Clock, Inbound, PeerId, peers::Worth};
use bytes::Bytes;
use telemetry::TraceContext;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    NodeName, Peering,
    gossip::{self, Change, Event, Gossip, Load, Meta, Role, Secrets, State, View},
    link::{LinkHandler, LinkSettings, Links, LinksStats, Tls},
    presence::{Directory, Output, Tally},
};

/// Questions and answers about users that wait for the task. Each is repeated by who asked; more are dropped.
const ASKED: usize = 256;
/// How long a node waits for the others before it serves: whoever is first has nobody to wait for.
const ALONE: Duration = Duration::from_secs(3);
/// How long it waits at most to be linked with all it sees, and to know their users; half of them is the least.
const JOIN: Duration = Duration::from_secs(15);
/// Between two looks at how busy this node is.
const LOAD: Duration = Duration::from_secs(5);
/// How long the last messages may take when a node leaves.
const FLUSH: Duration = Duration::from_secs(2);
/// What begins a message about presence; none of the actors' messages does.
const PRESENCE: u8 = 0xff;
/// What follows it.
const ASK: u8 = 0;
const ANSWER: u8 = 1;

/// What a node needs to be one of several.
pub struct ClusterSettings {
    /// What it is called, and when it began.
    pub name: NodeName,
    /// Where gossip is heard (UDP).
    pub gossip: SocketAddr,
    /// Where links are taken (TCP).
    pub link: SocketAddr,
    /// The address by which the others reach both.
    pub advertise: IpAddr,
    /// `host:port` of nodes that may be there already; names are looked up again and again.
    pub seeds: Vec<String>,
    /// Which cluster.
    pub cluster_id: String,
    /// What its members share.
    pub secrets: Secrets,
    /// Between two rounds of gossip.
    pub interval: Duration,
    /// What runs on this node.
    pub roles: Vec<Role>,
    /// Where clients reach it.
    pub public: Option<String>,
    /// Where it stands.
    pub zone: Option<String>,
    /// Version and revision of the program.
    pub build: String,
    /// Certificates of links.
    pub tls: Tls,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
}

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Gossip does not start.
    #[error(transparent)]
    Gossip(#[from] gossip::StartError),
    /// Links do not start.
    #[error(transparent)]
    Link(#[from] crate::link::StartError),
}

/// A node among others. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    gossip: Gossip,
    peering: Arc<Peering>,
    figures: Arc<Figures>,
    task: Arc<Task>,
}

/// What is counted of presence.
#[derive(Debug, Default)]
pub struct Figures {
    /// Users that are shown as being there, on all nodes.
    pub shown: AtomicU64,
    /// Nodes whose users are not all known.
    pub unknown: AtomicU64,
    /// Sequences of changes that had a gap.
    pub gaps: AtomicU64,
    /// Sets of users that differed from their node's.
    pub mismatches: AtomicU64,
    /// Sets of users that were asked for.
    pub asked: AtomicU64,
    is_ready: AtomicBool,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How busy this node is.
pub type Busy = Box<dyn Fn() -> Load + Send + Sync>;

impl Cluster {
    /// Joins: hears and is heard. Serves rooms once it is ready, which [`Self::is_ready`] tells.
    ///
    /// # Errors
    /// When an address can't be used, or a certificate can't be read.
    pub async fn join(
        settings: ClusterSettings,
        peering: Arc<Peering>,
        inbound: Inbound,
        busy: Busy,
    ) -> Result<Self, JoinError> {
        let (asked, questions) = mpsc::channel(ASKED);
        let ear = Arc::new(Ear { inbound: inbound.clone(), asked });
        let mut link = LinkSettings::new(
            settings.name.clone(),
            settings.link,
            &settings.cluster_id,
            settings.tls.clone(),
            Arc::clone(&settings.chance),
        );
        let links = Links::start(link.clone(), Arc::clone(&ear) as _).await?;
        // The same again after another life of gossip.
        link.listen = links.local_addr();
        let (events, heard) = mpsc::channel(gossip::EVENTS);
        let interval = settings.interval;
        let directory = Directory::new(&settings.name, settings.chance.bits() as u64);
        let clock = Arc::clone(&settings.clock);
        let gossip = Gossip::start(gossip_settings(settings, links.local_addr()), events)?;
        peering.set_links(Some(links));
        let figures = Arc::new(Figures::default());
        let keeper = Keeper {
            gossip: gossip.clone(),
            peering: Arc::clone(&peering),
            inbound,
            ear,
            link,
            clock,
            directory,
            values: HashMap::new(),
            figures: Arc::clone(&figures),
            busy,
            joined_at: Instant::now(),
        };
        let task = Arc::new(Task(tokio::spawn(keeper.run(heard, questions, interval))));
        Ok(Self { gossip, peering, figures, task })
    }

    /// Where gossip is heard.
    pub fn gossip_addr(&self) -> SocketAddr {
        self.gossip.address()
    }

    /// Who is there, in the eyes of this node.
    pub fn view(&self) -> Arc<View> {
        self.gossip.view()
    }

    /// How links fare.
    pub fn links(&self) -> Option<LinksStats> {
        self.peering.links().map(|links| links.stats())
    }

    /// What gossip counts.
    pub fn gossip(&self) -> Arc<gossip::Metrics> {
        self.gossip.metrics()
    }

    /// What presence counts.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Whether this node serves: it is linked with the others and knows their users, and is not cut off from most.
    pub fn is_ready(&self) -> bool {
        self.figures.is_ready.load(Ordering::Relaxed) && !self.view().isolated && !self.task.0.is_finished()
    }

    /// Where a key lives, by name.
    pub fn home(&self, key: u128) -> Option<NodeName> {
        let peer = actors::Peers::home(&*self.peering, key)?;
        self.peering.name(peer)
    }

    /// From now on nothing new is placed here, and what is here moves to others.
    pub fn drain(&self) {
        self.gossip.set_state(State::Draining);
    }

    /// Tells the others that this node goes, and goes.
    pub async fn leave(&self) {
        if let Some(links) = self.peering.links() {
            links.flush(FLUSH).await;
        }
        self.gossip.stop().await;
        if let Some(links) = self.peering.links() {
            self.peering.set_links(None);
            links.stop(FLUSH).await;
        }
    }
}

fn gossip_settings(settings: ClusterSettings, link: SocketAddr) -> gossip::Settings {
    let meta = Meta {
        protocol: gossip::PROTOCOL,
        build: settings.build,
        roles: settings.roles,
        link: SocketAddr::new(settings.advertise, link.port()),
        public: settings.public,
        zone: settings.zone,
    };
    gossip::Settings {
        name: settings.name,
        listen: settings.gossip,
        advertise: SocketAddr::new(settings.advertise, settings.gossip.port()),
        seeds: settings.seeds,
        cluster_id: settings.cluster_id,
        secrets: settings.secrets,
        interval: settings.interval,
        meta,
        clock: settings.clock,
        chance: settings.chance,
    }
}

/// What links tell.
struct Ear {
    inbound: Inbound,
    asked: mpsc::Sender<Asked>,
}

/// A message about presence.
struct Asked {
    peer: PeerId,
    kind: u8,
    bytes: Bytes,
}

impl LinkHandler for Ear {
    fn up(&self, peer: PeerId) {
        self.inbound.up(peer);
    }

    fn down(&self, peer: PeerId) {
        self.inbound.down(peer);
    }

    fn suspended(&self, peer: PeerId) {
        self.inbound.down(peer);
    }

    fn resumed(&self, peer: PeerId) {
        self.inbound.up(peer);
    }

    fn received(&self, peer: PeerId, message: Bytes, trace: TraceContext) {
        match message.as_ref() {
            [PRESENCE, kind, ..] => {
                // Full: asked again.
                let _ = self.asked.try_send(Asked { peer, kind: *kind, bytes: message.slice(2..) });
            }
            bytes => self.inbound.received(peer, bytes, trace),
        }
    }
}

/// The task.
struct Keeper {
    gossip: Gossip,
    peering: Arc<Peering>,
    inbound: Inbound,
    ear: Arc<Ear>,
    link: LinkSettings,
    clock: Arc<dyn Clock>,
    directory: Directory,
    /// What nodes say of their users: kept, since it may come before the node is known to be there.
    values: HashMap<NodeName, HashMap<Box<str>, Box<str>>>,
    figures: Arc<Figures>,
    busy: Busy,
    joined_at: Instant,
}

impl Keeper {
    async fn run(
        mut self,
        mut heard: mpsc::Receiver<Event>,
        mut questions: mpsc::Receiver<Asked>,
        every: Duration,
    ) {
        let mut views = self.gossip.views();
        let mut rounds = interval(every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut loads = interval(LOAD);
        self.viewed();
        loop {
            tokio::select! {
                event = heard.recv() => match event {
                    Some(event) => self.event(event).await,
                    None => return,
                },
                changed = views.changed() => match changed {
                    Ok(()) => self.viewed(),
                    Err(_) => return,
                },
                Some(asked) = questions.recv() => self.asked(asked),
                _ = rounds.tick() => self.round(),
                _ = loads.tick() => self.tell_load(),
            }
            self.poll();
        }
    }

    /// Who is there has changed, or how they fare.
    fn viewed(&mut self) {
        let view = self.gossip.view();
        if let Some(links) = self.peering.links() {
            let others = view.members.iter().filter(|member| member.name != view.me);
            links.set_live(others.map(|member| (member.name.clone(), member.meta.link)).collect());
        }
        if self.peering.see(&view) {
            self.inbound.placement_changed();
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Members(change) => self.changed(change),
            Event::Value { node, key, value } => {
                let now = self.clock.now();
                self.directory.heard(&node, [(&*key, &*value)], now);
                self.values.entry(node).or_default().insert(key, value);
            }
            Event::Reborn { was, now } => self.reborn(&was, now).await,
        }
    }

    fn changed(&mut self, change: Change) {
        let now = self.clock.now();
        match change {
            Change::Joined(member) => {
                let values = self.values.entry(member.name.clone()).or_default();
                self.directory.alive(&member.name, values.iter().map(|(key, value)| (&**key, &**value)), now);
            }
            Change::Changed(_) => {}
            Change::Leaving(name) => self.directory.left(&name, now),
            Change::Left(name) => self.gone(&name, Directory::left),
            Change::Lost(name) => self.gone(&name, Directory::lost),
            Change::Superseded { old, .. } => self.gone(&old, Directory::left),
            Change::Isolated(_) => self.directory.isolate(true, now),
            Change::Rejoined => {
                self.directory.isolate(false, now);
                self.inbound.rejoined();
            }
        }
    }

    fn gone(&mut self, name: &NodeName, tell: fn(&mut Directory, &NodeName, u64)) {
        self.values.remove(name);
        tell(&mut self.directory, name, self.clock.now());
        self.inbound.gone(name.peer());
    }

    /// Gossip has begun another life of this node: so do its links.
    async fn reborn(&mut self, was: &NodeName, now: NodeName) {
        tracing::warn!(%was, %now, "gossip was restarted: the others see another life of this node");
        self.link.name = now.clone();
        if let Some(links) = self.peering.links() {
            self.peering.set_links(None);
            links.stop(Duration::ZERO).await;
        }
        match Links::start(self.link.clone(), Arc::clone(&self.ear) as _).await {
            Ok(links) => self.peering.set_links(Some(links)),
            Err(error) => {
                tracing::error!(%error, "links do not start again: this node is alone until it is restarted")
            }
        }
        self.viewed();
        // Its users are told anew before the last life's are forgotten, so that nobody sees them leave.
        self.directory.reborn(&now);
        self.peering.ring(|ring| ring.reborn(&now));
        self.round();
        self.directory.left(was, self.clock.now());
    }

    /// Writes what has changed, and looks whether this node is ready.
    fn round(&mut self) {
        let now = self.clock.now();
        let flush = self.peering.ring(|ring| ring.is_due().then(|| ring.flush(now)));
        if let Some(flush) = flush {
            if let Err(error) = self.gossip.put(flush.values.iter().cloned()) {
                tracing::error!(%error, "what changed of users can't be told");
            }
            self.directory.flushed(&flush);
        }
        // One that was told to go meanwhile does not come back.
        let is_joining = self.gossip.view().state == State::Joining;
        if is_joining && !self.figures.is_ready.load(Ordering::Relaxed) && self.has_joined() {
            tracing::info!("this node serves");
            self.gossip.set_state(State::Ready);
            self.figures.is_ready.store(true, Ordering::Relaxed);
        }
    }

    fn has_joined(&self) -> bool {
        let view = self.gossip.view();
        let waited = self.joined_at.elapsed();
        let others = view.members.len().saturating_sub(1);
        if others == 0 {
            return waited >= ALONE;
        }
        let linked = self.peering.links().map_or(0, |links| {
            links.stats().peers.iter().filter(|peer| peer.phase == crate::link::LinkPhase::Ready).count()
        });
        // A node that the others do not let in, because of its certificate or a network that lets only gossip pass,
        // never serves: nobody could reach what is placed on it.
        let is_let_in = linked * 2 >= others;
        (linked >= others && self.directory.unknown() == 0) || (waited >= JOIN && is_let_in)
    }

    fn tell_load(&self) {
        self.gossip.set_load((self.busy)());
    }

    /// Somebody asks for this node's users, or answers about theirs.
    fn asked(&mut self, asked: Asked) {
        let Asked { peer, kind, bytes } = asked;
        match kind {
            ASK => self.answer(peer, &bytes),
            ANSWER => {
                if let Some(name) = self.peering.name(peer) {
                    self.directory.answered(&name, &bytes, self.clock.now());
                }
            }
            _ => tracing::warn!(%peer, kind, "a peer says something unknown about presence"),
        }
    }

    fn answer(&self, peer: PeerId, request: &[u8]) {
        let answer = match self.peering.ring(|ring| ring.answer(request)) {
            Ok(answer) => answer,
            Err(error) => return tracing::warn!(%peer, %error, "a peer asks what nobody understands"),
        };
        for page in answer {
            if !self.tell(peer, ANSWER, &page) {
                return; // asked again
            }
        }
    }

    fn tell(&self, peer: PeerId, kind: u8, bytes: &[u8]) -> bool {
        let message = [&[PRESENCE, kind], bytes].concat();
        actors::Peers::send(&*self.peering, peer, Worth::Needed, message.into(), TraceContext::NONE).is_ok()
    }

    fn poll(&mut self) {
        let polled = self.directory.poll(self.clock.now());
        for output in polled.outputs {
            match output {
                Output::Shown { user, status, at } => self.inbound.shown(user, status, at),
                Output::Ask { node, request } => _ = self.tell(node.peer(), ASK, &request),
            }
        }
        self.figures.take(self.directory.tally(), self.directory.users(), self.directory.unknown());
    }
}

impl Figures {
    fn take(&self, tally: Tally, shown: usize, unknown: usize) {
        self.shown.store(shown as u64, Ordering::Relaxed);
        self.unknown.store(unknown as u64, Ordering::Relaxed);
        self.gaps.store(tally.gaps, Ordering::Relaxed);
        self.mismatches.store(tally.mismatches, Ordering::Relaxed);
        self.asked.store(tally.asked, Ordering::Relaxed);
    }
}
