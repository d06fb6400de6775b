//! CPU and latency of a delivery at 4,000 deliveries a second: when there is little to do, the write call is the price.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{
    contest::{self, Contestant, Load},
    field::Fields,
};

/// Deliveries a second, whatever the shape of the rooms.
const DELIVERIES: f64 = 4_000.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds of each server.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a round.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// People, and rooms of two. Each costs a password hash beforehand.
    #[arg(long, default_value_t = 1_000)]
    people: usize,
}

/// Measures and reports.
pub(crate) async fn run(builds: &[PathBuf], settings: &[String], options: &Options) -> Result<()> {
    let Options { rounds, seconds, people } = *options;
    let fields = Fields::prepare(builds, settings, people.max(1)).await?;
    let compare = async |rooms: usize, members: usize, contestants: &[Contestant]| {
        let per_second = DELIVERIES / members as f64;
        let title = format!("{rooms} × {members} members, {per_second} messages/s");
        contest::run(&title, contestants, Load::Paced { per_second }, rounds, seconds).await
    };
    compare(1, 100, &fields.in_one_room(100)).await?;
    compare(1, 1_000, &fields.in_one_room(1_000)).await?;
    compare(people, 2, &fields.in_rooms(people, 2)).await
}
