//! A relay in front of a node that loses, delays and holds what it is told to.
//!
//! It listens on an address of its own and the node's port, since a driver takes one port for all nodes. It judges
//! whole frames of the native protocol, version 4, without compression and without TLS; anything else ends the
//! connection and is counted.
//!
//! ```text
//!            ┌ requests: a thread a connection, asks [`Faults`] ──▶┐
//! client ────┤                                                     ├──── node
//!            └◀── answers: a thread a connection, asks [`Faults`] ─┘
//! ```

use std::{
    collections::HashMap,
    io::{self, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle, Scope},
    time::{Duration, Instant},
};

use crate::{
    HarnessError,
    cql::Frame,
    faults::{ConnectionId, Counts, Faults, Rule, Verdict},
};

/// How far a node's proxy is from the node: 127.77.0.101 stands before 127.77.0.1.
pub(crate) const DISTANCE: u8 = 100;
/// How far a second proxy of the same node is from the first, so that none takes the place of another node's.
const STEP: usize = 10;
/// A node that takes longer to accept a connection is taken as one that does not.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A proxy before one node. All its connections are cut when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free address in the neighbourhood of `upstream`, on its port.
    ///
    /// For the first proxy before a node of a cluster with
    /// [`behind_proxies`](crate::ClusterOptions::behind_proxies), this is the address of the node that drivers are told.
    ///
    /// # Errors
    ///
    /// When no such address is free.
    pub fn start(upstream: SocketAddr) -> Result<Self, HarnessError> {
        let listener = listen_near(upstream).map_err(HarnessError::io("no address for a proxy"))?;
        let address = listener.local_addr().map_err(HarnessError::io("no address of a proxy"))?;
        let shared = Arc::new(Shared::default());
        let run = {
            let shared = Arc::clone(&shared);
            move || thread::scope(|scope| accept(scope, &shared, &listener, upstream))
        };
        let thread = thread::Builder::new().name(format!("proxy {address}")).spawn(run);
        let listener = Some(thread.map_err(HarnessError::io("can't start a thread"))?);
        Ok(Self { address, shared, listener })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a rule. Of several that are for the same request the oldest is applied.
    pub fn inject(&self, rule: Rule) {
        self.shared.state().faults.rules.push(rule);
    }

    /// Forgets all rules. Requests under way keep theirs.
    pub fn clear(&self) {
        self.shared.state().faults.rules.clear();
    }

    /// Cuts all connections now.
    pub fn cut(&self) {
        self.shared.state().cut();
        self.shared.changed.notify_all();
    }

    /// Closes each new connection at once, until [`Proxy::accept`]. Those that stand are not touched.
    pub fn refuse(&self) {
        self.shared.state().faults.is_refusing = true;
    }

    /// Lets new connections in again.
    pub fn accept(&self) {
        self.shared.state().faults.is_refusing = false;
    }

    /// Passes on the answers that are held, in the order in which they came.
    pub fn release(&self) {
        let held = std::mem::take(&mut self.shared.state().held);
        for (pair, frame) in held {
            // A client that has gone does not miss it.
            let _ = pair.answer(&frame);
        }
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.shared.state().faults.counts
    }

    /// Waits until it has done something; false when it does not in time.
    #[must_use]
    pub fn await_counts(&self, patience: Duration, mut holds: impl FnMut(&Counts) -> bool) -> bool {
        let not_yet = |state: &mut State| !holds(&state.faults.counts);
        let waited = self.shared.changed.wait_timeout_while(self.shared.state(), patience, not_yet);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_stopping = true;
        state.cut();
        drop(state);
        self.shared.changed.notify_all();
        // The listener looks up when somebody comes.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(listener) = self.listener.take().filter(|_| woken) {
            // It has nothing to say; a panic of it was printed.
            let _ = listener.join();
        }
    }
}

fn listen_near(upstream: SocketAddr) -> io::Result<TcpListener> {
    let IpAddr::V4(ip) = upstream.ip() else {
        return Err(io::Error::other("a proxy has an address of version 4, as all nodes have"));
    };
    let [a, b, c, host] = ip.octets();
    let mut refusal = io::Error::other(format!("{ip} is too high up for a proxy"));
    for host in (host.saturating_add(DISTANCE)..u8::MAX).step_by(STEP) {
        match TcpListener::bind((Ipv4Addr::new(a, b, c, host), upstream.port())) {
            Ok(listener) => return Ok(listener),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something was counted, or the end has come.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    connections: HashMap<ConnectionId, Arc<Pair>>,
    held: Vec<(Arc<Pair>, Frame)>,
    is_stopping: bool,
}

impl State {
    fn cut(&mut self) {
        for (id, pair) in std::mem::take(&mut self.connections) {
            pair.shut();
            self.faults.ended(id);
            self.faults.counts.cut += 1;
        }
        self.held.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock fails the test that hears of it; nothing here is worse for it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides under the lock, and cuts under the same one: no connection comes in between.
    fn judge(&self, judge: impl FnOnce(&mut State) -> Verdict) -> Verdict {
        let mut state = self.state();
        let verdict = judge(&mut state);
        if verdict == Verdict::Cut {
            state.cut();
        }
        drop(state);
        self.changed.notify_all();
        verdict
    }

    fn register(&self, pair: &Arc<Pair>) -> Option<ConnectionId> {
        let mut state = self.state();
        let id = if state.is_stopping { None } else { state.faults.connection() };
        state.connections.extend(id.map(|id| (id, Arc::clone(pair))));
        drop(state);
        self.changed.notify_all();
        id
    }

    fn end(&self, id: ConnectionId) {
        let mut state = self.state();
        state.connections.remove(&id);
        state.faults.ended(id);
    }

    /// Waits so long, or until the proxy stops.
    fn delay(&self, duration: Duration) {
        let until = Instant::now() + duration;
        let mut state = self.state();
        while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|_| !state.is_stopping) {
            let waited = self.changed.wait_timeout(state, rest);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A client's connection and the one to the node that belongs to it.
#[derive(Debug)]
struct Pair {
    client: TcpStream,
    upstream: TcpStream,
    /// Delayed and released answers are written by other threads: whoever holds this writes a whole frame.
    answering: Mutex<()>,
}

impl Pair {
    fn answer(&self, frame: &Frame) -> io::Result<()> {
        let _turn = self.answering.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.client).write_all(frame.bytes())
    }

    fn shut(&self) {
        // One that has ended already refuses.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.upstream.shutdown(Shutdown::Both);
    }
}

fn accept<'scope>(
    scope: &'scope Scope<'scope, '_>,
    shared: &'scope Shared,
    listener: &TcpListener,
    upstream: SocketAddr,
) {
    for client in listener.incoming() {
        if shared.state().is_stopping {
            return;
        }
        if let Ok(client) = client {
            // An error is the client's or the node's, and ends their connection as it would without the proxy.
            scope.spawn(move || connect(scope, shared, client, upstream));
        }
    }
}

fn connect<'scope>(
    scope: &'scope Scope<'scope, '_>,
    shared: &'scope Shared,
    client: TcpStream,
    upstream: SocketAddr,
) -> io::Result<()> {
    let upstream = TcpStream::connect_timeout(&upstream, CONNECT_PATIENCE)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let pair = Arc::new(Pair { client, upstream, answering: Mutex::new(()) });
    let Some(id) = shared.register(&pair) else { return Ok(()) };
    let other = Arc::clone(&pair);
    scope.spawn(move || until_the_end(shared, id, &other, || pass_answers(scope, shared, id, &other)));
    until_the_end(shared, id, &pair, || pass_requests(shared, id, &pair));
    Ok(())
}

/// Whichever direction ends first ends both.
fn until_the_end(shared: &Shared, id: ConnectionId, pair: &Pair, pass: impl FnOnce() -> io::Result<()>) {
    if pass().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
        shared.state().faults.counts.unreadable += 1;
        shared.changed.notify_all();
    }
    pair.shut();
    shared.end(id);
}

fn pass_requests(shared: &Shared, id: ConnectionId, pair: &Pair) -> io::Result<()> {
    let mut requests = BufReader::new(&pair.client);
    while let Some(frame) = Frame::read(&mut requests)? {
        match shared.judge(|state| state.faults.request(id, &frame)) {
            Verdict::Cut => break,
            Verdict::Pass | Verdict::Delay(_) | Verdict::Hold => (&pair.upstream).write_all(frame.bytes())?,
        }
    }
    Ok(())
}

fn pass_answers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    shared: &'scope Shared,
    id: ConnectionId,
    pair: &Arc<Pair>,
) -> io::Result<()> {
    let mut answers = BufReader::new(&pair.upstream);
    while let Some(frame) = Frame::read(&mut answers)? {
        let judge = |state: &mut State| {
            let verdict = state.faults.answer(id, &frame);
            if verdict == Verdict::Hold {
                state.held.push((Arc::clone(pair), frame.clone()));
            }
            verdict
        };
        match shared.judge(judge) {
            Verdict::Pass => pair.answer(&frame)?,
            Verdict::Cut => break,
            Verdict::Hold => {}
            Verdict::Delay(duration) => {
                let pair = Arc::clone(pair);
                scope.spawn(move || {
                    shared.delay(duration);
                    // A client that has gone does not miss it.
                    let _ = pair.answer(&frame);
                });
            }
        }
    }
    Ok(())
}
