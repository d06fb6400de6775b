//! The top of the tree: starts the supervisors, and stops them in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dashmap::DashMap;
use ractor::{Actor, ActorCell, ActorRef, SpawnErr};

use crate::{
    Rooms, Users, World,
    audience::Audiences,
    children::{Children, Parent, Supervisor, SupervisorMessage},
    heads::{Heads, HeadsActor},
    presence::{Presence, PresenceActor},
    room::RoomContext,
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
    root: ActorRef<SupervisorMessage>,
    sweeper: tokio::task::JoinHandle<()>,
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
        let (heads, _) =
            HeadsActor::spawn_linked(None, HeadsActor { world: world.clone() }, (), parent.clone()).await?;
        let (presence, _) =
            PresenceActor::spawn_linked(None, PresenceActor { world: world.clone() }, (), parent.clone())
                .await?;
        let (heads, presence) = (Heads(heads), Presence(presence));
        let audiences = start_audiences(&world, &parent).await?;
        let rooms = start_rooms(&world, &parent, audiences, (heads.clone(), presence.clone())).await?;
        let users = start_users(world, &parent, presence, heads).await?;
        let sweeper = tokio::spawn(sweep(rooms.clone()));
        Ok(Self { rooms, users, root, sweeper })
    }

    /// Stops everything. What is not durable by then was not acknowledged.
    pub async fn stop(self, deadline: Duration) {
        self.sweeper.abort();
        let children = self.root.get_cell();
        children.drain_children_and_wait(Some(deadline)).await;
        self.root.stop(None);
    }
}

async fn start_audiences(world: &World, parent: &ActorCell) -> Result<Audiences, SpawnErr> {
    let map = Children::new();
    let supervisor = Supervisor { what: "audience", children: Arc::clone(&map), on_end: Box::new(|_, _| {}) };
    let (supervisor, _) = Actor::spawn_linked(None, supervisor, (), parent.clone()).await?;
    Ok(Audiences { map, supervisor: supervisor.get_cell(), world: world.clone() })
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
                told.room_ended(room);
            }
        }),
    };
    let (supervisor, _) = Actor::spawn_linked(None, supervisor, (), parent.clone()).await?;
    let context = RoomContext { world: world.clone(), audiences, heads, presence, rooms: map };
    Ok(Rooms { context, supervisor: supervisor.get_cell(), since: Instant::now() })
}

async fn start_users(
    world: World,
    parent: &ActorCell,
    presence: Presence,
    heads: Heads,
) -> Result<Users, SpawnErr> {
    let (supervisor, _) = Parent::spawn_linked(None, Parent { of: "user" }, (), parent.clone()).await?;
    let map = Arc::new(UserMap {
        slots: DashMap::new(),
        supervisor: supervisor.get_cell(),
        world: world.clone(),
        presence: presence.clone(),
    });
    Ok(Users { map, world, presence, heads })
}

async fn sweep(rooms: Rooms) {
    let pause = (rooms.context.world.settings.room_idle_ms / 4).clamp(*SWEEP.start(), *SWEEP.end());
    loop {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        rooms.sweep();
    }
}
