//! Accounts, rooms and members: made over REST before anything is measured.

use anyhow::{Context, Result};
use client::{Rest, net, rest::HttpMethod};
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{RoomId, entry::Durability};
use serde::Deserialize;
use serde_json::json;

use crate::{server::Server, socket::Place};

/// Requests at the same time: as many passwords as the server hashes at once, and one to wait.
const AT_ONCE: usize = 3;

/// Somebody with an account.
pub(crate) struct Person(Rest);

impl Person {
    /// Their place in a room.
    pub(crate) fn place(&self, room: RoomId) -> Place {
        Place { token: self.0.session().access_token.clone(), room: room.to_string() }
    }

    /// Makes a room.
    pub(crate) async fn make_room(&self, durability: Durability) -> Result<RoomId> {
        #[derive(Deserialize)]
        struct Made {
            id: RoomId,
        }
        let wish = json!({ "name": "bench", "visibility": "public", "durability": durability });
        let made: Made = self.0.call(HttpMethod::POST, "/v1/rooms", Some(wish)).await?.parse()?;
        Ok(made.id)
    }

    /// Comes into a room.
    pub(crate) async fn join(&self, room: RoomId) -> Result<()> {
        self.0.join(room).await
    }
}

/// Registers people. Each costs the server a password hash, some 20 ms of CPU.
pub(crate) async fn people(server: &Server, count: usize) -> Result<Vec<Person>> {
    let nobody = Rest::new(net::Server::at(&format!("http://{}", server.address))?);
    let registering = (0..count).map(|number| {
        let nobody = nobody.clone();
        async move {
            let person = nobody.register(&format!("person{number}"), "a long enough password").await;
            person.map(Person).with_context(|| format!("person {number} gets no account"))
        }
    });
    stream::iter(registering).buffered(AT_ONCE).try_collect().await
}

/// One room of each person's.
pub(crate) async fn rooms(people: &[Person], durability: Durability) -> Result<Vec<RoomId>> {
    stream::iter(people.iter().map(|person| person.make_room(durability)))
        .buffered(AT_ONCE)
        .try_collect()
        .await
}
