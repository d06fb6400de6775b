//! Memory for a reader that has stopped reading, while others go on; and whether it gets everything in the end.

use std::{
    path::Path,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use protocol::entry::Durability;
use tokio::time::sleep;

use crate::{
    crowd::{Crowd, Manner},
    process, say,
    server::Server,
    socket::{Place, TEXT_CHARS},
    town,
};

/// Others in the room.
const OTHERS: usize = 10;
/// A reader that stops is neither cut off nor taken for gone before it reads again.
const PATIENT: [&str; 2] = ["limits.write_deadline_s=3600", "limits.heartbeat_s=3600"];
/// Messages said at once; the others have heard them before the next ones.
const AT_ONCE: usize = 32;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// MiB of message texts published while the reader reads nothing.
    #[arg(long, default_value_t = 20)]
    mib: usize,
}

/// Measures and reports.
pub(crate) async fn run(build: &Path, settings: &[String], options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings: Vec<String> =
        PATIENT.map(str::to_owned).into_iter().chain(settings.iter().cloned()).collect();
    let server = Server::rookery(build, folder.path(), &settings)?;
    let people = town::people(&server, 1).await?;
    let room = town::rooms(&people, Durability::Durable).await?[0];
    let place = people[0].place(room);
    let messages = options.mib * 1024 * 1024 / TEXT_CHARS / AT_ONCE * AT_ONCE;
    // The first time for what the server allocates once: the page caches want some 60,000 messages.
    let _ = publish(&server, &place, messages / 2, false).await?;
    let alone = publish(&server, &place, messages, false).await?;
    let stopped = publish(&server, &place, messages, true).await?;
    say(&format!("\n{messages} messages to {OTHERS} readers of a durable room\n"));
    say("| | growth KiB | p99 ms of the others | caught up |\n|---|---|---|---|");
    say(&alone.line("all read"));
    say(&stopped.line("and one that has stopped"));
    Ok(())
}

struct Outcome {
    growth_kib: i64,
    p99_ms: f64,
    caught_up: Option<Duration>,
}

impl Outcome {
    fn line(&self, name: &str) -> String {
        let caught_up =
            self.caught_up.map_or_else(String::new, |took| format!("in {:.1} s", took.as_secs_f64()));
        format!("| {name} | {} | {:.1} | {caught_up} |", self.growth_kib, self.p99_ms)
    }
}

async fn publish(server: &Server, place: &Place, messages: usize, one_stops: bool) -> Result<Outcome> {
    let places = vec![place.clone(); OTHERS];
    let crowd = Crowd::connect(server.address, &places, Manner::default()).await?;
    let stopped =
        Crowd::connect(server.address, &places[..1], Manner { looks: usize::MAX, ..Manner::default() });
    let stopped = if one_stops { Some(stopped.await?) } else { None };
    sleep(Duration::from_secs(1)).await;
    if let Some(stopped) = &stopped {
        stopped.deafen(0);
    }
    let had = stopped.as_ref().map_or(0, |stopped| stopped.tally.heard.load(Relaxed));
    let before = process::resident_kib(server.pid())?;
    let mut mouth = crowd.mouth(0, place)?;
    crowd.tally.measure(true);
    let mut expected = crowd.tally.heard.load(Relaxed);
    for _ in 0..messages / AT_ONCE {
        mouth.say(crowd.tally.now(), AT_ONCE).await?;
        expected += (OTHERS * AT_ONCE) as u64;
        crowd.heard(expected).await?;
    }
    let growth_kib = i64::try_from(process::resident_kib(server.pid())?)? - i64::try_from(before)?;
    let mut caught_up = None;
    if let Some(stopped) = &stopped {
        let began = Instant::now();
        stopped.listen_again(0);
        stopped.heard(had + messages as u64).await?;
        caught_up = Some(began.elapsed());
    }
    Ok(Outcome { growth_kib, p99_ms: crowd.tally.quantile(0.99), caught_up })
}
