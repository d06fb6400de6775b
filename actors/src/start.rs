//! The top of the tree: starts the supervisors, and stops them in order.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use ractor::{Actor, ActorCell, ActorRef, SpawnErr};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    Inbound, Rooms, Users, World,
    audience::Audiences,
    children::{Children, Parent, Supervisor, SupervisorMessage},
    heads::{Heads, HeadsActor},
    mesh::{Mesh, inbound::Ticking, sockets::Sockets},
    presence::{Presence, PresenceActor},
    room::RoomContext,
    rooms::MOVING,
    user::UserMap,
};

/// Between two looks for rooms that retire: a quarter of their idle time, within these bounds.
const SWEEP: std::ops::RangeInclusive<u64> = 50..=15_000;

/// All actors of a node. Stops with [`Self::stop`].
pub struct Actors {
    /// Every room.
    pub rooms: Rooms,
    /// Every connected user.
    pub users: Users,
    /// The ear for other nodes.
    pub inbound: Inbound,
    root: ActorRef<SupervisorMessage>,
    sweeper: tokio::task::JoinHandle<()>,
    ticking: Option<Ticking>,
}

impl Actors {
    /// Starts the supervisors; rooms and users start on first use.
    ///
    /// # Errors
    /// When the actor system refuses, which is not to be expected.
    pub async fn start(world: World) -> Result<Self, SpawnErr> {
        #[expect(clippy::disallowed_methods, reason = "the root is the one actor without a supervisor")]
        let (root, _) = Parent::spawn(None, Parent { of: "supervisor" }, ()).await?;
        let parent = root.get_cell();
        let settings = &world.settings;
        let sockets = Sockets::new(settings.user_sends_per_s, settings.user_sends_burst);
        let mesh = Mesh::new(world.peers.clone(), sockets);
        let heads = HeadsActor { world: world.clone(), mesh: Arc::clone(&mesh) };
        let (heads, _) = HeadsActor::spawn_linked(None, heads, (), parent.clone()).await?;
        let (presence, _) =
            PresenceActor::spawn_linked(None, PresenceActor { world: world.clone() }, (), parent.clone())
                .await?;
        let (heads, presence) = (Heads(heads), Presence(presence));
        let audiences = start_audiences(&world, &parent, &mesh).await?;
        let rooms = start_rooms(&world, &parent, audiences, (heads.clone(), presence.clone())).await?;
        let users = start_users(world, &parent, mesh, presence, heads).await?;
        let sweeper = tokio::spawn(sweep(rooms.clone()));
        let inbound = Inbound { rooms: rooms.clone(), users: users.clone() };
        let ticking = inbound.start();
        Ok(Self { rooms, users, inbound, root, sweeper, ticking })
    }

    /// Stops everything. What is not durable by then was not acknowledged.
    pub async fn stop(self, deadline: Duration) {
        self.sweeper.abort();
        drop(self.ticking);
        let children = self.root.get_cell();
        children.drain_children_and_wait(Some(deadline)).await;
        self.root.stop(None);
    }
}

#[cfg(test)]
impl Actors {
    /// Ends everything at once, as a crash would.
    pub(crate) fn kill(self) {
        self.sweeper.abort();
        drop(self.ticking);
        self.root.get_cell().kill();
    }
}

async fn start_audiences(world: &World, parent: &ActorCell, mesh: &Arc<Mesh>) -> Result<Audiences, SpawnErr> {
    let map = Children::new();
    let supervisor = Supervisor { what: "audience", children: Arc::clone(&map), on_end: Box::new(|_, _| {}) };
    let (supervisor, _) = Actor::spawn_linked(None, supervisor, (), parent.clone()).await?;
    Ok(Audiences { map, supervisor: supervisor.get_cell(), world: world.clone(), mesh: Arc::clone(mesh) })
}

async fn start_rooms(
    world: &World,
    parent: &ActorCell,
    audiences: Audiences,
    (heads, presence): (Heads, Presence),
) -> Result<Rooms, SpawnErr> {
    let map = Children::new();
    let told = audiences.clone();
    let supervisor = Supervisor {
        what: "room",
        children: Arc::clone(&map),
        // What was in a failed room's mailbox is lost: those who wait for answers ask again.
        on_end: Box::new(move |room, failed| {
            if failed {
                told.room_failed(room);
            }
        }),
    };
    let (supervisor, _) = Actor::spawn_linked(None, supervisor, (), parent.clone()).await?;
    let (mesh, claims) =
        (Arc::clone(&audiences.mesh), Arc::new(Semaphore::new(world.settings.claims.max(1))));
    let context = RoomContext { world: world.clone(), mesh, claims, audiences, heads, presence, rooms: map };
    let moving = Arc::new(Semaphore::new(MOVING));
    Ok(Rooms { context, supervisor: supervisor.get_cell(), since: Instant::now(), moving })
}

async fn start_users(
    world: World,
    parent: &ActorCell,
    mesh: Arc<Mesh>,
    presence: Presence,
    heads: Heads,
) -> Result<Users, SpawnErr> {
    let (supervisor, _) = Parent::spawn_linked(None, Parent { of: "user" }, (), parent.clone()).await?;
    let map = Arc::new(UserMap {
        slots: DashMap::new(),
        supervisor: supervisor.get_cell(),
        world: world.clone(),
        mesh: Arc::clone(&mesh),
        presence: presence.clone(),
    });
    Ok(Users { map, world, mesh, presence, heads })
}

async fn sweep(rooms: Rooms) {
    let pause = (rooms.context.world.settings.room_idle_ms / 4).clamp(*SWEEP.start(), *SWEEP.end());
    loop {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        rooms.sweep();
    }
}
