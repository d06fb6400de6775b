//! Rings and directories of several nodes against a bad network, with seeds: loss, delay, partitions, pauses, deaths and
//! restarts, in every order that chance finds. A failing run prints its seed.

mod gossip;
mod host;
mod network;

use protocol::client::PresenceStatus;

use gossip::SILENCE;
use network::{Network, Weather, own_users};

const STORM: Weather = Weather { loss: 15, accidents: 40, changes: 4 };
const CALM: Weather = Weather { loss: 5, accidents: 0, changes: 0 };
const CALM_BUT_BUSY: Weather = Weather { loss: 10, accidents: 0, changes: 6 };

/// Runs of every seed from 0, or of the one that failed.
fn seeds(count: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let one = std::option_env!("ROOKERY_SEED").and_then(|seed| seed.parse().ok());
    for seed in one.map_or(0..count, |seed: u64| seed..seed + 1) {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed} fails: run again with ROOKERY_SEED={seed}");
    }
}

fn storm_and_calm(seed: u64) -> Network {
    let mut network = Network::new(seed, STORM);
    network.run(60_000);
    network.heal(CALM);
    network.run(75_000);
    network.check();
    network
}

fn a_kill(seed: u64) {
    let mut network = Network::new(seed, CALM);
    network.everybody_online();
    network.kill(0);
    network.run(SILENCE + 10_000 + 3_000);
    for host in network.hosts.iter().flatten() {
        for user in own_users(0) {
            assert_eq!(host.directory.status(user), PresenceStatus::Offline, "{}", host.name);
        }
    }
}

fn a_pause(seed: u64) {
    let mut network = Network::new(seed, CALM);
    network.everybody_online();
    network.hosts.iter_mut().flatten().for_each(|host| host.changes.clear());
    network.pause(0, 10_000);
    network.run(40_000);
    for host in network.hosts.iter().flatten() {
        assert!(host.changes.is_empty(), "{} saw {:?}", host.name, host.changes);
    }
}

fn a_busy_calm(seed: u64) {
    let mut network = Network::new(seed, CALM_BUT_BUSY);
    network.run(30_000);
    network.heal(CALM);
    network.run(75_000); // some answers fail several times
    network.check();
}

#[test]
fn after_any_storm_every_directory_is_the_union_of_the_living() {
    seeds(60, |seed| drop(storm_and_calm(seed)));
}

#[test]
fn nobody_haunts_after_a_death_and_the_hold() {
    seeds(60, a_kill);
}

#[test]
fn a_pause_of_ten_seconds_shows_nowhere() {
    seeds(60, a_pause);
}

#[test]
fn a_busy_cluster_in_calm_agrees_soon() {
    seeds(60, a_busy_calm);
}

#[test]
#[ignore = "takes minutes: the same as above with thousands of seeds"]
fn thousands_of_storms_deaths_and_pauses() {
    seeds(3_000, |seed| {
        storm_and_calm(seed);
        a_kill(seed);
        a_pause(seed);
        a_busy_calm(seed);
    });
}

#[test]
fn the_simulation_reaches_what_it_is_for() {
    let runs: Vec<_> = (0..30).map(storm_and_calm).collect();
    let sum = |count: fn(&Network) -> u64| runs.iter().map(count).sum::<u64>();
    assert!(runs.iter().any(|run| run.kills > 2));
    assert!(sum(|run| run.tally.gaps) > 100 && sum(|run| run.tally.asked) > 100);
    assert!(sum(|run| run.tally.failed) > 20);
}
