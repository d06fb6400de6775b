//! CPU and latency of a delivery at 4,000 deliveries a second: when there is little to do, the write call is the price.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{
    contest::{self, Load},
    field::{Fields, Variant},
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
    /// Only this shape of rooms.
    #[arg(long)]
    only: Option<Shape>,
}

/// Shapes of rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// One of 100.
    Hundred,
    /// One of 1,000.
    Thousand,
    /// Many of two.
    Pairs,
}

/// Measures and reports.
pub(crate) async fn run(builds: &[PathBuf], settings: &[String], options: &Options) -> Result<()> {
    let Options { rounds, seconds, people, only } = *options;
    let fields = Fields::prepare(&Variant::of_builds(builds, settings), people.max(1)).await?;
    for shape in Shape::value_variants().iter().filter(|shape| only.is_none_or(|only| only == **shape)) {
        let (rooms, members, contestants) = match shape {
            Shape::Hundred => (1, 100, fields.in_one_room(100)),
            Shape::Thousand => (1, 1_000, fields.in_one_room(1_000)),
            Shape::Pairs => (people, 2, fields.in_rooms(people, 2)),
        };
        let per_second = DELIVERIES / members as f64;
        let title = format!("{rooms} × {members} members, {per_second} messages/s");
        contest::run(&title, &contestants, Load::Paced { per_second }, rounds, seconds).await?;
    }
    Ok(())
}
