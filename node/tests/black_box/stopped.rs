//! A reader that stops while 100 MB pass its room: the server's memory does not grow for it, nobody else waits for it,
//! and it misses nothing.
//!
//! What waits for it is bounded by the kernel's send buffer, 64 KiB (the default, which no configuration changes; not
//! the process's own memory), and the outbox, 256 KiB (set here). The rest is read from the log when it wants it, so
//! the room is durable.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use client::{
    Rest,
    net::{Received, Socket},
};
use protocol::{
    Body, ClientFrame, Encoding, Entry, Incarnation, Kind, RoomId, Seq, ServerFrame, WriterId,
    client::{Resume, Send},
    limits::{BODY_BYTES, WINDOW_BYTES},
    server::Opened,
};

use crate::support::{Server, frame, frame_that, socket, within};

/// Characters of a text whose body is as large as it may be.
const TEXT_CHARS: usize = BODY_BYTES - r#"{"text":""}"#.len();
/// Messages said at once: all that a session may have unanswered.
const AT_ONCE: usize = WINDOW_BYTES / BODY_BYTES - 1;
/// 24 MB, for what the server allocates once: rings, page caches, buffers of its threads.
const WARM_UP: usize = 24_000_000 / BODY_BYTES / AT_ONCE;
/// 100 MB.
const PASSED: usize = 100_000_000 / BODY_BYTES / AT_ONCE;
/// 10 MB, after which one looks at the clock and at the server's memory.
const SLICE: usize = PASSED / 10;
/// Most that the server's resident memory may grow meanwhile, in KiB.
const GROWTH_KIB: u64 = 2 * 1024;
/// How much longer others may wait than without a stopped reader. Other tests run at the same time.
const SLOWER: u32 = 4;
/// Counts sockets that were cut off because nothing could be written to them.
const CUT: &str = r#"rookery_closes_total{code="4001"}"#;
/// Counts pages that were read because somebody was behind.
const PAGES: &str = "rookery_catch_up_pages_total";
const WRITER: WriterId = WriterId::from_u128(0x510);

/// Somebody who hears a room, and sees whether all of it comes in order.
struct Ear {
    socket: Socket,
    room: RoomId,
    incarnation: Incarnation,
    at: Seq,
}

impl Ear {
    /// Hears the room after `at`.
    async fn open(rest: &Rest, room: RoomId, at: Seq, incarnation: Option<Incarnation>) -> Self {
        let resume = Resume { after: at, open: true, incarnation };
        let (mut socket, _) = socket(rest, Encoding::Json, BTreeMap::from([(room, resume)])).await;
        let opened = |frame| match frame {
            ServerFrame::Opened(Opened { incarnation, .. }) => Some(incarnation),
            _ => None,
        };
        let incarnation = frame_that(&mut socket, opened).await;
        Self { socket, room, incarnation, at }
    }

    /// Hears everything up to this entry, on this socket.
    async fn hear(&mut self, upto: Seq) {
        while self.at < upto {
            match frame(&mut self.socket).await {
                ServerFrame::Entries(entries) => self.take(entries.entries),
                ServerFrame::Gap(gap) => panic!("a gap at {}: {gap:?}", self.at),
                ServerFrame::Reset(reset) => panic!("{reset:?}"),
                ServerFrame::Closed(closed) => panic!("{closed:?}"),
                _ => {}
            }
        }
    }

    fn take(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            assert_eq!(entry.seq, self.at + 1, "in order, without a hole");
            self.at = entry.seq;
        }
    }

    /// Hears what still comes until the socket ends without a close frame.
    async fn hear_the_end(&mut self) {
        let end = async {
            loop {
                match self.socket.receive().await {
                    Received::Frame(frame) => {
                        if let ServerFrame::Entries(entries) = *frame {
                            self.take(entries.entries);
                        }
                    }
                    Received::Alive => {}
                    Received::Unreadable(error) => panic!("{error}"),
                    Received::End(close) => return close,
                }
            }
        };
        assert_eq!(within("the end", end).await, None, "nobody can be told who takes nothing");
    }

    /// Comes back where it was. A resume names what lies before the newest entries; that is read from the log.
    async fn resume(&mut self, rest: &Rest) {
        let before = self.incarnation;
        *self = Self::open(rest, self.room, self.at, Some(before)).await;
        assert_eq!(self.incarnation, before);
        let gap = frame_that(&mut self.socket, |frame| match frame {
            ServerFrame::Gap(gap) => Some(gap),
            _ => None,
        });
        let gap = gap.await;
        assert_eq!(gap.after, self.at, "it begins where the client is");
        while self.at < gap.upto {
            let page = rest.page_after(self.room, self.at).await.unwrap();
            self.take(page.entries.into_iter().filter(|entry| entry.seq <= gap.upto).collect());
        }
    }
}

/// A room, one who speaks in it, one who reads all the time, and one who will stop.
struct Scene {
    server: Server,
    room: RoomId,
    alice: Socket,
    said: u64,
    carol: Ear,
    bob: Rest,
}

impl Scene {
    async fn set(write_deadline_s: &str) -> Self {
        let mut server = Server::start(&[
            ("ADMIN__LISTEN", "127.0.0.1:0"),
            ("STORE__SYNCHRONOUS", "normal"),
            ("LIMITS__USER_SENDS_PER_SECOND", "1000"),
            ("LIMITS__USER_SENDS_BURST", "100000"),
            ("LIMITS__FRAMES_PER_SECOND", "10000"),
            ("LIMITS__FRAMES_BURST", "100000"),
            ("LIMITS__OUTBOX_KIB", "256"),
            ("LIMITS__WRITE_DEADLINE_S", write_deadline_s),
            // Who answers no ping is not to be taken for gone before the deadline.
            ("LIMITS__HEARTBEAT_S", "300"),
        ]);
        let (alice, bob, carol) =
            (server.person("alice").await, server.person("bob").await, server.person("carol").await);
        let room = alice.create_room("much").await.unwrap();
        bob.join(room).await.unwrap();
        carol.join(room).await.unwrap();
        // A password takes 19 MiB that an allocator keeps: growth would be given from it, unseen.
        server.signal("TERM");
        server.ended().await;
        server.run();
        let head = alice.log(room).await.unwrap().len() as Seq;
        let carol = Ear::open(&carol, room, head, None).await;
        let (alice, _) = socket(&alice, Encoding::Json, BTreeMap::new()).await;
        Self { server, room, alice, said: 0, carol, bob }
    }

    /// The room's newest entry.
    fn head(&self) -> Seq {
        self.carol.at
    }

    /// Alice says as much as she may at once, and carol hears it.
    async fn speak(&mut self) {
        for _ in 0..AT_ONCE {
            self.said += 1;
            let body = Body::text(&format!("{:0>TEXT_CHARS$}", self.said)).unwrap();
            let (room, kind) = (self.room, Kind::Message);
            let send =
                Send { room, writer: WRITER, n: self.said, kind, target: None, body, traceparent: None };
            self.alice.send(&ClientFrame::Send(send)).await.unwrap();
        }
        let (upto, last) = (self.head() + AT_ONCE as Seq, self.said);
        tokio::join!(acknowledged(&mut self.alice, last), self.carol.hear(upto));
    }

    /// Speaks so often. Gives the median of how long once took, until carol had heard it.
    async fn pass(&mut self, times: usize) -> Duration {
        let mut took = Vec::new();
        for _ in 0..times {
            let begun = Instant::now();
            self.speak().await;
            took.push(begun.elapsed());
        }
        median(took)
    }

    /// The server allocates what it allocates once, for a reader that stops and catches up as well.
    async fn warm_up(&mut self) {
        self.pass(WARM_UP).await;
        let mut bob = self.stop_bob().await;
        self.pass(SLICE / 2).await;
        bob.hear(self.head()).await;
    }

    /// Bob opens the room; nobody reads what he is sent.
    async fn stop_bob(&self) -> Ear {
        Ear::open(&self.bob, self.room, self.head(), None).await
    }

    /// 100 MB pass.
    async fn pass_all(&mut self) -> Passed {
        let resident = self.server.resident_kib();
        let (mut took, mut most) = (Vec::new(), resident);
        for _ in 0..PASSED / SLICE {
            took.push(self.pass(SLICE).await);
            most = most.max(self.server.resident_kib());
        }
        Passed { took: median(took), growth_kib: most - resident }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Waits until this send is acknowledged, and so all before it.
async fn acknowledged(socket: &mut Socket, n: u64) {
    let answer = frame_that(socket, |frame| match frame {
        ServerFrame::Ack(ack) if ack.n == n => Some(Ok(ack)),
        ServerFrame::Refused(refused) => Some(Err(refused)),
        _ => None,
    });
    answer.await.unwrap();
}

/// What 100 MB came to.
#[derive(Debug)]
struct Passed {
    /// To be heard, as a median.
    took: Duration,
    growth_kib: u64,
}

impl Passed {
    /// `compared` is how long it took before and after it, without a stopped reader.
    fn assert_that_nobody_pays(&self, compared: [Duration; 2]) {
        assert!(self.growth_kib <= GROWTH_KIB, "{self:?}");
        assert!(self.took <= SLOWER * compared[0].max(compared[1]), "{self:?}, otherwise {compared:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_for_100_mb_and_reads_again_in_time_has_all_of_it_on_the_same_socket() {
    let mut scene = Scene::set("600").await;
    scene.warm_up().await;
    let before = scene.pass(SLICE).await;
    let mut bob = scene.stop_bob().await;
    let passed = scene.pass_all().await;
    let pages = scene.server.metric(PAGES).await;
    bob.hear(scene.head()).await;
    assert!(scene.server.metric(PAGES).await > pages, "it was read from the log");
    let after = scene.pass(SLICE).await;
    bob.hear(scene.head()).await;
    passed.assert_that_nobody_pays([before, after]);
    assert_eq!(scene.server.metric(CUT).await, 0);
    scene.server.assert_quiet(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_for_100_mb_and_longer_is_cut_off_and_misses_nothing_when_it_comes_back() {
    let mut scene = Scene::set("4").await;
    scene.warm_up().await;
    let before = scene.pass(SLICE).await;
    let mut bob = scene.stop_bob().await;
    let passed = scene.pass_all().await;
    within("the cut", async {
        while scene.server.metric(CUT).await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let after = scene.pass(SLICE).await;
    bob.hear_the_end().await;
    assert!(bob.at < scene.head(), "it was cut off before it had everything");
    let bobs = scene.bob.clone();
    bob.resume(&bobs).await;
    bob.hear(scene.head()).await;
    scene.speak().await;
    bob.hear(scene.head()).await;
    passed.assert_that_nobody_pays([before, after]);
    scene.server.assert_quiet(&[]);
}
