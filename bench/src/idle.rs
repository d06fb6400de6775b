//! Memory of an idle connection: signed in, one room open, nothing said.
//!
//! The server is started anew after the accounts were made, because a password hash takes 19 MiB that the allocator
//! keeps and that connections would be given unseen.

use std::{path::Path, time::Duration};

use anyhow::Result;
use clap::Args;
use protocol::entry::Durability;
use tokio::time::sleep;

use crate::{
    crowd::{Crowd, Manner},
    process, say,
    server::Server,
    socket::Place,
    town,
};

/// Sockets before the measurement, for what the server allocates once.
const BEFORE: usize = 100;

/// How long all are away before they come back.
const GONE: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connections.
    #[arg(long, default_value_t = 5_000)]
    connections: usize,
    /// People they belong to. Each costs a password hash beforehand.
    #[arg(long, default_value_t = 1_000)]
    people: usize,
    /// Durable rooms; everybody is in one.
    #[arg(long, default_value_t = 10)]
    rooms: usize,
    /// Most connections a second.
    #[arg(long, default_value_t = 1_000)]
    per_second: u32,
    /// Seconds of idleness: a user's actor, woken when their last socket went, becomes passive after 30.
    #[arg(long, default_value_t = 45)]
    seconds: u64,
}

/// Measures and reports.
pub(crate) async fn run(build: &Path, settings: &[String], options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::rookery(build, folder.path(), settings)?;
    let places = settle(&server, options).await?;
    server.stop()?;
    let server = Server::rookery(build, folder.path(), settings)?;
    let manner = Manner { per_second: options.per_second, ..Manner::default() };
    let _before = Crowd::connect(server.address, &places[..BEFORE.min(places.len())], manner).await?;
    sleep(Duration::from_secs(2)).await;
    let empty = process::resident_kib(server.pid())?;
    let crowd = Crowd::connect(server.address, &places, manner).await?;
    let kib_each = || -> Result<f64> {
        let grown = process::resident_kib(server.pid())?.saturating_sub(empty);
        Ok(grown as f64 / places.len() as f64)
    };
    sleep(Duration::from_secs(2)).await;
    let fresh = kib_each()?;
    drop(crowd);
    sleep(GONE).await;
    let crowd = Crowd::connect(server.address, &places, manner).await?;
    sleep(Duration::from_secs(options.seconds)).await;
    let (back, cpu) = (kib_each()?, process::cpu(server.pid())?);
    sleep(Duration::from_secs(10)).await;
    let idle_cpu = (process::cpu(server.pid())? - cpu).as_secs_f64() / 10.0;
    let Options { connections, people, rooms, .. } = options;
    say(&format!("\n{connections} connections of {people} people in {rooms} durable rooms\n"));
    say("| | KiB a connection |\n|---|---|");
    say(&format!("| just connected | {fresh:.1} |"));
    say(&format!("| {} s after all have gone and come back | {back:.1} |", options.seconds));
    say(&format!("\nserver before: {empty} KiB; {:.1} % of a core while idle", idle_cpu * 100.0));
    if let Some(odd) = crowd.tally.first_odd() {
        say(&format!("a frame that should not be: {odd}"));
    }
    Ok(())
}

/// A place for each connection: people in turn, each with a room.
async fn settle(server: &Server, options: &Options) -> Result<Vec<Place>> {
    let people = town::people(server, options.people).await?;
    let rooms = town::rooms(&people[..options.rooms.min(people.len())], Durability::Durable).await?;
    let mut places = Vec::new();
    for (number, person) in people.iter().enumerate() {
        let room = rooms[number % rooms.len()];
        person.join(room).await?;
        places.push(person.place(room));
    }
    Ok(places.iter().cycle().take(options.connections).cloned().collect())
}
