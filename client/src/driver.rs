//! The task behind a [`crate::Client`]: one socket at a time, and the way back to the next.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use protocol::{ClientFrame, CloseCode, Encoding, Millis, ServerFrame, client::Refresh, close::ComeBack};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{
    client::{Settings, Shared},
    net::{Received, Socket},
    rest::Rest,
};

/// How this client calls itself.
const NAME: &str = concat!("rookery-client/", env!("CARGO_PKG_VERSION"));
/// Longest wait for `welcome`.
const WELCOME: Duration = Duration::from_secs(10);
/// A token is refreshed when this part of its life is over.
const REFRESH_AT: f64 = 0.8;

/// How a connection ended.
struct Ending {
    come_back: ComeBack,
    not_before: Duration,
    /// A session stood: the next wait is short again.
    stood: bool,
}

impl Ending {
    const LOST: Self = Self { come_back: ComeBack::Resume, not_before: Duration::ZERO, stood: false };
}

/// Connects, serves and reconnects until the server says that coming back is of no use.
pub(crate) async fn run(mut settings: Settings, shared: Arc<Shared>) {
    let mut chance = Chance(settings.seed);
    let mut wait = settings.backoff.0;
    loop {
        let ending = serve(&mut settings.rest, settings.encoding, &shared).await;
        shared.state().lost(shared.now());
        changed(&shared);
        if ending.stood {
            wait = settings.backoff.0;
        }
        match ending.come_back {
            ComeBack::Resume => {}
            ComeBack::Reauthenticate => renew(&mut settings.rest).await,
            ComeBack::No => return,
        }
        sleep(ending.not_before + chance.below(wait)).await;
        wait = (wait * 2).min(settings.backoff.1);
    }
}

/// One connection from its beginning to its end.
async fn serve(rest: &mut Rest, encoding: Encoding, shared: &Shared) -> Ending {
    let Ok(socket) = Socket::connect(rest.server(), encoding, "").await else { return Ending::LOST };
    let mut connection = Connection {
        socket,
        shared,
        heartbeat: None,
        deadline: Instant::now() + WELCOME,
        clock: (0, Instant::now()),
        refresh: None,
        ending: Ending::LOST,
    };
    let identify = shared.state().identify(rest.session().access_token.clone(), NAME);
    if connection.socket.send(&identify).await.is_ok() {
        connection.run(rest).await;
    }
    connection.ending
}

async fn renew(rest: &mut Rest) {
    match rest.refresh().await {
        Ok(renewed) => *rest = renewed,
        // The next attempt to connect is refused, and renews again after a longer wait.
        Err(error) => tracing::debug!(error = format!("{error:#}"), "no new access token"),
    }
}

struct Connection<'a> {
    socket: Socket,
    shared: &'a Shared,
    /// Longest silence that is no end; known from `welcome` on.
    heartbeat: Option<Duration>,
    /// The connection is dead if nothing arrives until then.
    deadline: Instant,
    /// The server's clock at `welcome`, and ours.
    clock: (Millis, Instant),
    refresh: Option<Instant>,
    ending: Ending,
}

impl Connection<'_> {
    async fn run(&mut self, rest: &mut Rest) {
        loop {
            let Ok(due) = self.flush().await else { return };
            let due = due.map(|due| self.shared.instant(due));
            tokio::select! {
                received = timeout_at(self.deadline, self.socket.receive()) => match received {
                    Ok(received) => if !self.received(received) { return },
                    Err(_) => return,
                },
                () = self.shared.poke.notified() => {}
                () = self.shared.cut.notified() => return,
                () = at(due) => {}
                () = at(self.refresh) => {
                    if self.refresh_token(rest).await.is_err() { return }
                }
            }
        }
    }

    /// Sends what there is to send; says when to look again.
    async fn flush(&mut self) -> Result<Option<Duration>> {
        loop {
            let frame = {
                // One moment for both: what is not yet due now must not be overdue when the alarm is set.
                let (mut state, now) = (self.shared.state(), self.shared.now());
                match state.next_frame(now) {
                    Some(frame) => frame,
                    None => return Ok(state.due(now)),
                }
            };
            self.socket.send(&frame).await?;
        }
    }

    /// Takes what arrived; says whether the connection lives.
    fn received(&mut self, received: Received) -> bool {
        if let Some(heartbeat) = self.heartbeat {
            self.deadline = Instant::now() + heartbeat;
        }
        match received {
            Received::Frame(frame) => self.frame(*frame),
            Received::Alive => {}
            Received::Unreadable(error) => self.tell("unreadable", error.to_string()),
            Received::End(close) => {
                if let Some((code, reason)) = close {
                    self.ending.come_back =
                        CloseCode::from_code(code).map_or(ComeBack::Resume, CloseCode::come_back);
                    self.tell(&code.to_string(), reason);
                }
                return false;
            }
        }
        true
    }

    fn frame(&mut self, frame: ServerFrame) {
        match &frame {
            ServerFrame::Welcome(welcome) => {
                // The server pings about this often; silence of twice as long is an end.
                self.heartbeat = Some(Duration::from_millis(welcome.heartbeat_ms * 2));
                self.clock = (welcome.server_time, Instant::now());
                self.token_ends(welcome.expires_at);
                self.ending.stood = true;
            }
            ServerFrame::Refreshed(refreshed) => self.token_ends(refreshed.expires_at),
            ServerFrame::Goodbye(goodbye) => {
                self.ending.not_before = Duration::from_millis(goodbye.after_ms);
            }
            _ => {}
        }
        self.shared.state().received(frame, self.shared.now());
        changed(self.shared);
    }

    fn token_ends(&mut self, expires_at: Millis) {
        let (server_time, here) = self.clock;
        let ends = here + Duration::from_millis(expires_at.saturating_sub(server_time));
        let life = ends.saturating_duration_since(Instant::now());
        self.refresh = Some(Instant::now() + life.mul_f64(REFRESH_AT));
    }

    /// A fresh token for this session, before the old one ends.
    async fn refresh_token(&mut self, rest: &mut Rest) -> Result<()> {
        self.refresh = None;
        *rest = rest.refresh().await?;
        let token = rest.session().access_token.clone();
        self.socket.send(&ClientFrame::Refresh(Refresh { id: 0, token })).await
    }

    fn tell(&self, code: &str, message: String) {
        self.shared.state().record.told.push((code.to_owned(), message));
    }
}

fn changed(shared: &Shared) {
    shared.changed.send_modify(|version| *version += 1);
}

/// Waits until then, or for good.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The splitmix64 generator: enough to spread reconnects.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        most.mul_f64(bits as f64 / u64::MAX as f64)
    }
}
