//! Killed at random moments under load: nothing that was acknowledged is lost, doubled or reordered, and every client
//! resumes without a silent gap.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::{Duration, Instant},
};

use client::{Client, Rest, Settings, record::Outcome};
use protocol::{Body, Encoding, Kind, RoomId, Seq};
use rookery_test_cassandra::{Cluster, ClusterOptions};

use crate::support::{CANARY, Chance, PATIENCE, Server, check, within};

const KILLS: usize = 24;
const SLEEP: usize = 6;
const WAKE: usize = 18;
const PEOPLE: usize = 4;
const ROOMS: usize = 3;
/// Least acks that make the run worth its name.
const LEAST_ACKS: usize = 1_000;

/// The seed of this run: `CRASH_SEED`, or chance.
#[expect(clippy::disallowed_methods, reason = "a person repeats a run by its seed")]
fn seed() -> u64 {
    let chosen = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    chosen.unwrap_or_else(|| RandomState::new().build_hasher().finish())
}

/// Two clients for each of a few people, all in all rooms; one pair speaks MessagePack.
struct Crowd {
    people: Vec<Rest>,
    rooms: Vec<RoomId>,
    clients: Vec<Client>,
}

impl Crowd {
    async fn gather(server: &Server, chance: &mut Chance) -> Self {
        let mut people = Vec::new();
        for number in 0..PEOPLE {
            people.push(server.person(&format!("crash-{number}")).await);
        }
        let mut rooms = Vec::new();
        for number in 0..ROOMS {
            let room = people[0].create_room(&format!("crash room {number}")).await.unwrap();
            for person in &people[1..] {
                person.join(room).await.unwrap();
            }
            rooms.push(room);
        }
        let begun = tokio::time::Instant::now();
        let mut clients = Vec::new();
        for (number, person) in people.iter().chain(&people).enumerate() {
            let encoding = Encoding::ALL[number % PEOPLE % 2];
            let backoff = (Duration::from_millis(20), Duration::from_millis(400));
            let settings = Settings { encoding, backoff, ..Settings::new(person.clone(), chance.writer()) };
            let client = Client::start(settings, begun);
            rooms.iter().for_each(|room| client.open(*room));
            clients.push(client);
        }
        for client in &clients {
            for room in &rooms {
                within("the stream of a room", client.live(*room)).await;
            }
        }
        Self { people, rooms, clients }
    }
}

/// Says something now and then: messages mostly, and what speaks of the speaker's own earlier ones.
struct Talker {
    chance: Chance,
    said: Vec<(RoomId, usize)>,
}

impl Talker {
    fn speak(&mut self, client: &Client, rooms: &[RoomId]) {
        let room = rooms[self.chance.below(rooms.len() as u64) as usize];
        let (kind, target) = match self.chance.below(10) {
            0 => self.about(client, room, Kind::Deletion),
            1 => self.about(client, room, Kind::Reply),
            2 => self.about(client, room, Kind::Edit),
            _ => (Kind::Message, None),
        };
        let body = Body::text(&format!("{CANARY} {:016x}", self.chance.next())).unwrap();
        // A client that waits too long already says nothing: the server is away.
        if let Ok(message) = client.try_send(room, kind.clone(), target, body)
            && kind == Kind::Message
        {
            self.said.push((room, message));
        }
    }

    fn about(&mut self, client: &Client, room: RoomId, kind: Kind) -> (Kind, Option<Seq>) {
        let own = self.said.iter().rev().filter(|(said_in, _)| *said_in == room).take(20);
        let acked = own.filter_map(|(_, message)| match client.outcome(*message) {
            Outcome::Acked(seq) => Some(seq),
            Outcome::Open | Outcome::Stored(_) | Outcome::Refused(_) | Outcome::Unknown => None,
        });
        let acked: Vec<Seq> = acked.collect();
        match acked.len() {
            0 => (Kind::Message, None),
            many => (kind, Some(acked[self.chance.below(many as u64) as usize])),
        }
    }
}

/// Everybody talks for this long; now and then somebody's connection is cut.
async fn talk(crowd: &Crowd, talkers: &mut [Talker], chance: &mut Chance, time: Duration) {
    let end = Instant::now() + time;
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while Instant::now() < end {
        pace.tick().await;
        for (client, talker) in crowd.clients.iter().zip(&mut *talkers) {
            if talker.chance.below(3) == 0 && client.unsettled() < 40 {
                talker.speak(client, &crowd.rooms);
            }
        }
        if chance.below(100) == 0 {
            crowd.clients[chance.below(crowd.clients.len() as u64) as usize].cut();
        }
    }
}

/// Enough for a few who talk without a pause.
pub(crate) const LIMITS: &[(&str, &str)] = &[
    ("LIMITS__USER_SENDS_PER_SECOND", "2000"),
    ("LIMITS__USER_SENDS_BURST", "4000"),
    ("LIMITS__FRAMES_PER_SECOND", "2000"),
    ("LIMITS__FRAMES_BURST", "4000"),
    ("LIMITS__UNIDENTIFIED_PER_ADDRESS", "1000"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_doubled_or_reordered_when_the_server_is_killed() {
    kill_again_and_again(Server::start(LIMITS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_with_a_database_beside_the_server() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(ClusterOptions::default()));
    let cluster = cluster.await.unwrap().unwrap();
    let address = cluster.contact_points()[0].to_string();
    let database = [("STORE__KIND", "scylla"), ("SCYLLA__CONTACT_POINTS", address.as_str())];
    let mut server = Server::prepare(&[LIMITS, &database].concat());
    let migrated = tokio::task::block_in_place(|| server.output(&["migrate"], ""));
    assert!(migrated.status.success(), "{migrated:?}");
    tokio::task::block_in_place(|| server.run());
    kill_again_and_again(server).await;
}

#[expect(clippy::print_stdout, reason = "shown when the test fails")]
async fn kill_again_and_again(mut server: Server) {
    let seed = seed();
    println!("repeat with CRASH_SEED={seed}");
    let mut chance = Chance(seed);
    let crowd = Crowd::gather(&server, &mut chance).await;
    let talker = |_| Talker { chance: Chance(chance.next()), said: Vec::new() };
    let mut talkers: Vec<Talker> = crowd.clients.iter().map(talker).collect();
    let sleeper = crowd.clients.last().unwrap();
    for kill in 1..=KILLS {
        // One client hears nothing for a while, and comes back behind more than a resume gives at once.
        match kill {
            SLEEP => crowd.rooms.iter().for_each(|room| sleeper.close(*room)),
            WAKE => crowd.rooms.iter().for_each(|room| sleeper.open(*room)),
            _ => {}
        }
        // Short ones hit start and recovery, long ones the flow.
        let time =
            Duration::from_millis(if chance.below(4) == 0 { chance.below(150) } else { chance.below(1200) });
        talk(&crowd, &mut talkers, &mut chance, time).await;
        server.kill();
        let away = Duration::from_millis(chance.below(200));
        println!("kill {kill} after {time:?}, away for {away:?}");
        talk(&crowd, &mut talkers, &mut chance, away).await;
        tokio::task::block_in_place(|| server.run());
    }
    talk(&crowd, &mut talkers, &mut chance, Duration::from_millis(500)).await;
    settle(&server, &crowd).await;
    let report = check(&server, &crowd.rooms, &crowd.clients);
    println!("{report}");
    assert!(report.violations.is_empty(), "seed {seed}: {report}");
    let records: Vec<_> = crowd.clients.iter().map(Client::record).collect();
    let resends: u64 = records.iter().map(|record| record.resends).sum();
    let told: Vec<_> = records.iter().flat_map(|record| &record.told).collect();
    let messages = records.iter().flat_map(|record| &record.messages);
    let others: Vec<_> = messages.filter(|message| !matches!(message.outcome, Outcome::Acked(_))).collect();
    println!("{resends} resends; told: {told:?}; not acknowledged: {others:?}");
    assert!(report.acks >= LEAST_ACKS, "too little was acknowledged to say anything: {report}");
    assert!(resends > 0, "resending was not exercised: {report}");
    assert!(report.resumed >= KILLS && report.gaps > 0, "resuming was not exercised: {report}");
    // Nobody asked the server to stop: it was killed each time.
    assert!(!server.log().contains("stopping"), "{}", server.log());
    server.assert_quiet(&crowd.people);
}

/// Every message has its answer, every stream is at its end, and REST tells what the operator's export tells.
async fn settle(server: &Server, crowd: &Crowd) {
    for client in &crowd.clients {
        if tokio::time::timeout(PATIENCE, client.settled()).await.is_err() {
            panic!("no answer to all messages: {}\n{}", client.waiting(), server.log());
        }
    }
    for room in &crowd.rooms {
        let entries = crowd.people[0].log(*room).await.unwrap();
        let head = entries.last().unwrap().seq;
        assert_eq!(head, server.export(*room).head());
        assert_eq!(head as usize, entries.len());
        for client in &crowd.clients {
            within("the end of a stream", client.caught_up(*room, head)).await;
        }
    }
}
