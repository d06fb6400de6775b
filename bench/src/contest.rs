//! Who is compared with whom: rounds in turn, so that what else the machine does hits all alike, and their medians.

use std::{
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    crowd::{Crowd, Manner},
    process, say,
    server::Server,
    socket::{Mouth, Place},
};

/// From the last room that is opened to the first delivery that counts.
const WARM_UP: Duration = Duration::from_secs(2);
/// After a round, for the server to see the sockets go.
const REST: Duration = Duration::from_millis(1_500);

/// A server with the sockets that it gets.
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) server: Rc<Server>,
    pub(crate) places: Vec<Place>,
}

/// What the sockets of a round say.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// This many messages a second, the rooms in turn, by the first socket of each.
    Paced { per_second: f64 },
    /// In each room this many sockets keep this many messages on their way.
    Closed { senders: usize, window: usize },
}

/// What one round came to.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    cpu_us: f64,
    per_second: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    /// Cores that the server, the clients and everybody else used.
    cores: [f64; 3],
    odd: u64,
}

/// Lets the contestants take turns, and reports. The first one is what the others are compared with.
pub(crate) async fn run(
    title: &str,
    contestants: &[Contestant],
    load: Load,
    rounds: usize,
    seconds: u32,
) -> Result<()> {
    let mut all: Vec<Vec<Round>> = vec![Vec::new(); contestants.len()];
    for _ in 0..rounds {
        for (contestant, rounds) in contestants.iter().zip(&mut all) {
            rounds.push(round(contestant, load, seconds).await?);
        }
    }
    say(&format!("\n{title}: {rounds} rounds in turn of {seconds} s, medians (lowest to highest)\n"));
    say(
        "| server | µs CPU a delivery | ratio | deliveries/s | p50 ms | p95 ms | p99 ms | cores: server, clients, others |",
    );
    say("|---|---|---|---|---|---|---|---|");
    for (contestant, rounds) in contestants.iter().zip(&all) {
        say(&line(&contestant.name, rounds, &all[0]));
    }
    Ok(())
}

async fn round(contestant: &Contestant, load: Load, seconds: u32) -> Result<Round> {
    let Contestant { server, places, name } = contestant;
    let manner = match load {
        Load::Paced { .. } => Manner::default(),
        // Looking at every delivery would keep the clients busier than the server.
        Load::Closed { senders, window } => Manner { looks: 25, senders, window, ..Manner::default() },
    };
    let crowd = Crowd::connect(server.address, places, manner).await?;
    let mut mouths = match load {
        Load::Paced { .. } => first_of_each_room(&crowd, places)?,
        Load::Closed { .. } => Vec::new(),
    };
    let speaking = async {
        match load {
            Load::Paced { per_second } => speak(&crowd, &mut mouths, per_second).await,
            Load::Closed { .. } => std::future::pending().await,
        }
    };
    let round = tokio::select! {
        round = measure(&crowd, server, seconds) => round?,
        Err(error) = speaking => return Err(error),
    };
    if let Some(odd) = crowd.tally.first_odd() {
        say(&format!("{name}: {} frames that should not be, first {odd}", round.odd));
    }
    drop(crowd);
    sleep(REST).await;
    Ok(round)
}

fn first_of_each_room(crowd: &Crowd, places: &[Place]) -> Result<Vec<Mouth>> {
    let mut seen = std::collections::HashSet::new();
    let firsts = places.iter().enumerate().filter(|(_, place)| seen.insert(&place.room));
    firsts.map(|(index, place)| crowd.mouth(index, place)).collect()
}

/// Says as many messages as are due, every millisecond.
async fn speak(crowd: &Crowd, mouths: &mut [Mouth], per_second: f64) -> Result<()> {
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (began, count) = (Instant::now(), mouths.len());
    let mut said = 0;
    loop {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * per_second) as usize;
        while said < due {
            mouths[said % count].say(crowd.tally.now(), 1).await?;
            said += 1;
        }
    }
}

async fn measure(crowd: &Crowd, server: &Server, seconds: u32) -> Result<Round> {
    sleep(WARM_UP).await;
    let tally = &crowd.tally;
    let used = || -> Result<[Duration; 3]> {
        Ok([process::cpu(server.pid())?, process::cpu(std::process::id())?, process::machine_cpu()?])
    };
    let (heard, before, began) = (tally.heard.load(Relaxed), used()?, Instant::now());
    tally.measure(true);
    sleep(Duration::from_secs(seconds.into())).await;
    let (heard, after, took) = (tally.heard.load(Relaxed) - heard, used()?, began.elapsed().as_secs_f64());
    tally.measure(false);
    let [server, clients, machine] = [0, 1, 2].map(|index| (after[index] - before[index]).as_secs_f64());
    Ok(Round {
        cpu_us: server * 1e6 / heard as f64,
        per_second: heard as f64 / took,
        p50_ms: tally.quantile(0.50),
        p95_ms: tally.quantile(0.95),
        p99_ms: tally.quantile(0.99),
        cores: [server / took, clients / took, (machine - server - clients).max(0.0) / took],
        odd: tally.odd.load(Relaxed),
    })
}

fn line(name: &str, rounds: &[Round], first: &[Round]) -> String {
    let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
    let cpu: Vec<f64> = rounds.iter().map(|round| round.cpu_us).collect();
    let ratio = median(rounds.iter().zip(first).map(|(round, first)| round.cpu_us / first.cpu_us));
    let (low, high) = (cpu.iter().copied().fold(f64::MAX, f64::min), cpu.iter().copied().fold(0.0, f64::max));
    let cores = [0, 1, 2].map(|index| median(rounds.iter().map(|round| round.cores[index])));
    format!(
        "| {name} | {:.2} ({low:.2} to {high:.2}) | {ratio:.2} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2}, {:.2}, {:.2} |",
        median(cpu.iter().copied()),
        of(|round| round.per_second),
        of(|round| round.p50_ms),
        of(|round| round.p95_ms),
        of(|round| round.p99_ms),
        cores[0],
        cores[1],
        cores[2],
    )
}

/// The middle one; of an even number the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
