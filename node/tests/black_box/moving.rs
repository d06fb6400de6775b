//! From the embedded store into a database: everybody finds everything where it was.

use protocol::{Body, Encoding, Kind, RoomId};
use rookery_test_cassandra::{Cluster, ClusterOptions};

use crate::{
    admin::{ask, refusal},
    crash::LIMITS,
    support::{CANARY, Chance, PASSWORD, Server, connect, within, write},
};

const MESSAGES: usize = 300;

async fn talk(server: &Server, room: RoomId, chance: &mut Chance) {
    let alice = server.rest().sign_in("alice", PASSWORD).await.unwrap();
    let client = connect(&alice, Encoding::Json, chance.writer());
    client.open(room);
    within("the stream", client.live(room)).await;
    for number in 0..MESSAGES {
        while client.unsettled() >= 20 {
            within("an answer", client.settled()).await;
        }
        let body = Body::text(&format!("{CANARY} {number}")).unwrap();
        client.try_send(room, Kind::Message, None, body).unwrap();
    }
    within("all answers", client.settled()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_moves_into_a_database_and_goes_on() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(ClusterOptions::default()));
    let cluster = cluster.await.unwrap().unwrap();
    let address = cluster.contact_points()[0].to_string();
    let mut server = Server::start(LIMITS);
    let alice = server.person("alice").await;
    let room = alice.create_room("moving").await.unwrap();
    let mut chance = Chance(7);
    talk(&server, room, &mut chance).await;
    let before = server.export(room);
    let entries = ask(&server, &["export-room", &room.to_string()], "");
    let target = format!("[store]\nkind = \"scylla\"\n[scylla]\ncontact_points = [\"{address}\"]\n");
    let target = write(&server, "target.toml", &target);
    let target = target.to_str().unwrap();
    assert!(refusal(&server, &["copy-store", target], "").contains("open in another process"));

    server.signal("TERM");
    assert!(server.ended().await.0.success());
    assert!(refusal(&server, &["copy-store", target], "").contains("rookery migrate"));
    let migrated = server.output(&["migrate", "--config", target], "");
    assert!(migrated.status.success(), "{migrated:?}");
    for _ in 0..2 {
        let lines = ask(&server, &["copy-store", target], "");
        let (told, whole) = (&lines[0], lines.last().unwrap());
        assert_eq!(told["entries"], before.head(), "{told}");
        assert_eq!((&whole["accounts"], &whole["rooms"]), (&1.into(), &1.into()), "{whole}");
        assert_eq!((&whole["entries"], &whole["same"]), (&before.head().into(), &true.into()), "{whole}");
    }

    let moved = [("STORE__KIND", "scylla"), ("SCYLLA__CONTACT_POINTS", address.as_str())];
    let moved = Server::start(&[LIMITS, &moved].concat());
    let export = ["export-room", &room.to_string()];
    assert_eq!(ask(&moved, &export, ""), entries);
    talk(&moved, room, &mut chance).await;
    assert_eq!(moved.export(room).head(), before.head() + MESSAGES as u64);
    moved.assert_quiet(&[]);
}
