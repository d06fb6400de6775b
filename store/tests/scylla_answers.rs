//! Answers that Cassandra can't be made to give: the shape in which ScyllaDB answers a condition, an overloaded
//! coordinator, an error that nobody has heard of. A proxy between driver and database gives them.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::{net::SocketAddr, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use protocol::{Body, Kind, RoomId, UserId, WriterId};
use rookery_store::{
    RoomLog,
    log::Row,
    members::Derived,
    owner::{AppendEnd, Batch, Ownership, claim},
    scylla::{ScyllaOptions, ScyllaStore, migrate},
};
use rookery_test_cassandra::{Cluster, ClusterOptions};
use scylla::errors::DbError;
use scylla_proxy::{
    Condition, Node, Proxy, Reaction, RequestOpcode, RequestReaction, RequestRule, ResponseFrame,
    ResponseOpcode, ResponseReaction, ResponseRule, RunningProxy, ShardAwareness,
};

const ROOM: RoomId = RoomId::from_u128(0xb0);
const APPLIED: &str = "[applied]";
const BOOLEAN: u16 = 0x04;
const BIGINT: u16 = 0x02;
const BLOB: u16 = 0x03;

struct Database {
    _cluster: Cluster,
    proxy: RunningProxy,
    store: ScyllaStore,
}

impl Database {
    async fn start() -> Self {
        let options = ClusterOptions { behind_proxies: true, ..ClusterOptions::default() };
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(options)).await.unwrap().unwrap();
        let real = cluster.contact_points()[0];
        let SocketAddr::V4(v4) = real else { panic!("{real} is of another family") };
        // Where the node says that it is.
        let [a, b, c, d] = v4.ip().octets();
        let told = SocketAddr::from(([a, b, c, d + 100], real.port()));
        let node =
            Node::builder().real_address(real).proxy_address(told).shard_awareness(ShardAwareness::Unaware);
        let proxy = Proxy::builder().with_node(node.build()).build().run().await.unwrap();
        let options = ScyllaOptions {
            contact_points: vec![told.to_string()],
            conditional_timeout: std::time::Duration::from_secs(20),
            request_timeout: std::time::Duration::from_secs(20),
            ..ScyllaOptions::default()
        };
        migrate(&options, 1, &mut |_| {}).await.unwrap();
        let store = ScyllaStore::open(&options).await.unwrap();
        Self { _cluster: cluster, proxy, store }
    }

    async fn claim(&self, first: u128) -> Ownership {
        let mut nonce = first << 32;
        let mut nonces = || {
            nonce += 1;
            nonce
        };
        claim(&self.store, ROOM, &mut nonces).await.unwrap().ownership
    }

    async fn append(&self, owner: Ownership) -> AppendEnd {
        let n = owner.head() + 1;
        let row = Row {
            seq: n,
            epoch: owner.epoch(),
            writer: WriterId::from_u128(7),
            n,
            from: UserId::from_u128(1),
            at: 1_000 + n,
            kind: Kind::Message,
            target: None,
            body: Some(Body::text("hello").unwrap()),
        };
        let batch = Batch { rows: vec![row], write_id: u128::from(n), derived: Derived::default() };
        owner.append(&self.store, batch).await
    }

    async fn committed(&self, owner: Ownership) -> Ownership {
        match self.append(owner).await {
            AppendEnd::Committed(owner) => owner,
            end => panic!("{end:?}"),
        }
    }

    async fn assert_rows(&self, count: u64) {
        let rows = self.store.rows_after(ROOM, 0, 1_000, 1_000).await.unwrap();
        let places: Vec<_> = rows.iter().map(|row| (row.seq, row.n)).collect();
        assert_eq!(places, (1..=count).map(|n| (n, n)).collect::<Vec<_>>());
    }

    async fn finish(self) {
        let Self { proxy, store, .. } = self;
        drop(store);
        // What the driver's connections tell at their end is of no interest.
        let _ = proxy.finish().await;
    }
}

fn batches(times: usize, reaction: RequestReaction) -> RequestRule {
    let opcode = Condition::RequestOpcode(RequestOpcode::Batch);
    RequestRule(opcode.and(Condition::TrueForLimitedTimes(times)), reaction)
}

/// An answer's frame to a condition, if it is one: whether it held.
fn is_applied(body: &[u8]) -> Option<bool> {
    let number = |at: usize| body.get(at..at + 4).map(|bytes| i32::from_be_bytes(bytes.try_into().unwrap()));
    let short = |at: usize| {
        body.get(at..at + 2).map(|bytes| usize::from(u16::from_be_bytes(bytes.try_into().unwrap())))
    };
    let (kind, flags, columns) = (number(0)?, number(4)?, number(8)?);
    // Rows, with one table for all columns, without pages.
    if kind != 2 || flags != 1 {
        return None;
    }
    let mut at = 12;
    for _ in 0..2 {
        at += 2 + short(at)?;
    }
    for column in 0..columns {
        let length = short(at)?;
        if column == 0 && body.get(at + 2..at + 2 + length)? != APPLIED.as_bytes() {
            return None;
        }
        // The types of our tables are all without parameters.
        at += 2 + length + 2;
    }
    Some(*body.get(at + 4 + 4)? == 1)
}

/// What ScyllaDB answers: the key and the old values of the condition's columns too, whether it held or not.
fn as_scylla(applied: bool, is_last: bool) -> Bytes {
    let mut columns =
        vec![("room", BLOB), ("bucket", BIGINT), ("seq", BIGINT), ("epoch", BIGINT), ("last_seq", BIGINT)];
    columns.insert(if is_last { columns.len() } else { 0 }, (APPLIED, BOOLEAN));
    let mut body = BytesMut::new();
    let text = |body: &mut BytesMut, text: &str| {
        body.put_u16(u16::try_from(text.len()).unwrap());
        body.put_slice(text.as_bytes());
    };
    body.put_i32(2);
    body.put_i32(1);
    body.put_i32(i32::try_from(columns.len()).unwrap());
    text(&mut body, "rookery");
    text(&mut body, "room_log");
    for (name, kind) in &columns {
        text(&mut body, name);
        body.put_u16(*kind);
    }
    body.put_i32(1);
    for (name, _) in &columns {
        match *name {
            APPLIED => {
                body.put_i32(1);
                body.put_u8(u8::from(applied));
            }
            "epoch" | "last_seq" => {
                body.put_i32(8);
                body.put_i64(1);
            }
            _ => body.put_i32(-1),
        }
    }
    body.freeze()
}

fn answer_as_scylla(is_last: bool) -> ResponseRule {
    let transform = move |frame: ResponseFrame| match is_applied(&frame.body) {
        Some(applied) => ResponseFrame::new(frame.params, frame.opcode, as_scylla(applied, is_last)),
        None => frame,
    };
    let opcode = Condition::ResponseOpcode(ResponseOpcode::Result);
    ResponseRule(opcode, ResponseReaction::transform_frame(Arc::new(transform)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_understood_whatever_their_shape() {
    let mut database = Database::start().await;
    let mut owner = database.claim(1).await;
    for is_last in [false, true] {
        database.proxy.running_nodes[0].change_response_rules(Some(vec![answer_as_scylla(is_last)]));
        owner = database.committed(owner).await;
    }
    let stale = owner;
    let owner = database.claim(2).await;
    let end = database.append(stale).await;
    assert!(matches!(end, AppendEnd::Fenced { committed: false }), "{end:?}");
    database.committed(owner).await;
    database.proxy.running_nodes[0].change_response_rules(None);
    database.assert_rows(3).await;
    database.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_tell_nothing_of_the_effect_are_followed_by_another_try() {
    let mut database = Database::start().await;
    let mut owner = database.claim(1).await;
    let unheard = || {
        RequestReaction::forge_response(Arc::new(|request| {
            let mut body = BytesMut::new();
            body.put_i32(0x4242);
            body.put_u16(3);
            body.put_slice(b"???");
            ResponseFrame::new(request.params.for_response(), ResponseOpcode::Error, body.freeze())
        }))
    };
    for reaction in [
        RequestReaction::forge_with_error(DbError::Overloaded),
        RequestReaction::forge_with_error(DbError::ServerError),
        unheard(),
    ] {
        let before = database.store.stats().unknown;
        database.proxy.running_nodes[0].change_request_rules(Some(vec![batches(2, reaction)]));
        owner = database.committed(owner).await;
        assert_eq!(database.store.stats().unknown, before + 2, "two were told, the third was answered");
    }
    database.proxy.running_nodes[0].change_request_rules(None);
    database.assert_rows(3).await;
    database.finish().await;
}
