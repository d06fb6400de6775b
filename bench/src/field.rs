//! The servers of a comparison with rooms of both kinds: the bare one first, then each variant of Rookery.

use std::{path::PathBuf, rc::Rc};

use anyhow::Result;
use protocol::{RoomId, entry::Durability};
use tempfile::TempDir;

use crate::{
    contest::Contestant,
    server::Server,
    socket::Place,
    town::{self, Person},
};

/// A Rookery: which binary, and with which settings.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) build: PathBuf,
    pub(crate) settings: Vec<String>,
}

impl Variant {
    /// One of each build.
    pub(crate) fn of_builds(builds: &[PathBuf], settings: &[String]) -> Vec<Self> {
        let name =
            |number| if builds.len() > 1 { format!("Rookery {}", number + 1) } else { "Rookery".to_owned() };
        let variant = |(number, build): (usize, &PathBuf)| Self {
            name: name(number),
            build: build.clone(),
            settings: settings.to_vec(),
        };
        builds.iter().enumerate().map(variant).collect()
    }

    /// The same with another setting.
    pub(crate) fn with(&self, name: &str, setting: &str) -> Self {
        let mut other = self.clone();
        other.name = format!("{} {name}", self.name);
        other.settings.push(setting.to_owned());
        other
    }
}

/// A server, and who is where in it.
pub(crate) struct Field {
    name: String,
    server: Rc<Server>,
    /// Everybody in a room of their own.
    alone: Vec<Place>,
    /// Everybody in one room.
    together: Vec<Place>,
}

/// All of them, and the folders of their data.
pub(crate) struct Fields {
    fields: Vec<Field>,
    #[expect(dead_code, reason = "removed when the servers have ended")]
    folders: Vec<TempDir>,
}

impl Fields {
    /// Starts the servers, and registers `people` with each.
    pub(crate) async fn prepare(variants: &[Variant], people: usize) -> Result<Self> {
        let (mut fields, mut folders) = (vec![Field::bare(people)?], Vec::new());
        for Variant { name, build, settings } in variants {
            let folder = tempfile::tempdir()?;
            let server = Rc::new(Server::rookery(build, folder.path(), settings)?);
            let people = town::people(&server, people).await?;
            for (kind, durability) in [("ephemeral", Durability::Ephemeral), ("durable", Durability::Durable)]
            {
                let name = format!("{name}, {kind}");
                fields.push(Field::rookery(name, server.clone(), &people, durability).await?);
            }
            folders.push(folder);
        }
        Ok(Self { fields, folders })
    }

    /// The servers with so many sockets, each of another person if there are enough, in one room.
    pub(crate) fn in_one_room(&self, members: usize) -> Vec<Contestant> {
        self.contestants(|field| field.together.iter().cycle().take(members).cloned().collect())
    }

    /// The servers with so many sockets in each of so many rooms. All of a room are one person's, so that nobody hears
    /// of rooms that they have not open.
    pub(crate) fn in_rooms(&self, rooms: usize, members: usize) -> Vec<Contestant> {
        // One of each room after the other, so that rooms fill alike.
        self.contestants(|field| field.alone[..rooms].iter().cycle().take(rooms * members).cloned().collect())
    }

    fn contestants(&self, places: impl Fn(&Field) -> Vec<Place>) -> Vec<Contestant> {
        let contestant = |field: &Field| {
            let (name, server) = (field.name.clone(), field.server.clone());
            Contestant { name, server, places: places(field) }
        };
        self.fields.iter().map(contestant).collect()
    }
}

impl Field {
    fn bare(people: usize) -> Result<Self> {
        let place = |room: u128| Place { token: String::new(), room: RoomId::from_u128(room).to_string() };
        let alone = (1..=people).map(|room| place(room as u128)).collect();
        Ok(Self {
            name: "bare loop".to_owned(),
            server: Rc::new(Server::bare()?),
            alone,
            together: vec![place(0); people],
        })
    }

    async fn rookery(
        name: String,
        server: Rc<Server>,
        people: &[Person],
        durability: Durability,
    ) -> Result<Self> {
        let rooms = town::rooms(people, durability).await?;
        let alone = people.iter().zip(rooms).map(|(person, room)| person.place(room)).collect();
        let room = people[0].make_room(durability).await?;
        let mut together = Vec::new();
        for person in people {
            person.join(room).await?;
            together.push(person.place(room));
        }
        Ok(Self { name, server, alone, together })
    }
}
