//! Deliveries a second when each answer is followed by the next message: only what is written together counts. So each
//! server is measured with pacing, as it is by default, and without.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{
    contest::{self, Load},
    field::{Fields, Variant},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds of each server.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a round.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Rooms.
    #[arg(long, default_value_t = 10)]
    rooms: usize,
    /// Members of each.
    #[arg(long, default_value_t = 100)]
    members: usize,
    /// Members of each that speak.
    #[arg(long, default_value_t = 4)]
    senders: usize,
    /// Messages that each of them has on their way: it sends the next one when it hears its own. At most 32.
    #[arg(long, default_value_t = 8)]
    window: usize,
}

/// Measures and reports.
pub(crate) async fn run(builds: &[PathBuf], settings: &[String], options: &Options) -> Result<()> {
    let Options { rounds, seconds, rooms, members, senders, window } = *options;
    let paced = Variant::of_builds(builds, settings);
    let variants: Vec<Variant> = paced
        .into_iter()
        .flat_map(|paced| {
            let unpaced = paced.with("without pacing", "rooms.pacing=0");
            [paced, unpaced]
        })
        .collect();
    let fields = Fields::prepare(&variants, rooms).await?;
    let title =
        format!("{rooms} × {members} members, {senders} × {window} messages on their way in each room");
    let contestants = fields.in_rooms(rooms, members);
    contest::run(&title, &contestants, Load::Closed { senders, window }, rounds, seconds).await
}
