use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::Wake,
};

use proptest::prelude::*;

use super::*;

const CAPACITY: usize = 64 * 1024;

/// A socket that takes as much as it is told to.
#[derive(Default)]
struct FakeSocket {
    takes: Mutex<VecDeque<Take>>,
    written: Mutex<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Take {
    Bytes(usize),
    Blocked,
    Broken,
}

impl FakeSocket {
    /// Takes these, and then everything.
    fn taking(takes: impl IntoIterator<Item = Take>) -> Arc<Self> {
        Arc::new(Self { takes: Mutex::new(takes.into_iter().collect()), written: Mutex::default() })
    }

    fn written(&self) -> Vec<u8> {
        self.written.lock().unwrap().clone()
    }

    fn take(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = match self.takes.lock().unwrap().pop_front() {
            None => offered,
            Some(Take::Bytes(most)) => offered.min(most),
            Some(Take::Blocked) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(Take::Broken) => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let all = slices.iter().flat_map(|slice| slice.iter().copied());
        self.written.lock().unwrap().extend(all.take(taken));
        Ok(taken)
    }
}

impl Writer for FakeSocket {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.take(slices)
    }
}

/// Counts how often the session is woken.
#[derive(Default)]
struct Session(AtomicUsize);

impl Wake for Session {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Session {
    /// Waits as a session does; gives what it is told at once.
    fn waits(self: &Arc<Self>, outbox: &SocketOutbox) -> Option<Signal> {
        let waker = Waker::from(self.clone());
        match outbox.poll_signal(&Context::from_waker(&waker)) {
            Poll::Ready(signal) => Some(signal),
            Poll::Pending => None,
        }
    }

    fn wakes(&self) -> usize {
        self.0.load(SeqCst)
    }
}

fn open(socket: &Arc<FakeSocket>) -> SocketOutbox {
    let outbox = SocketOutbox::new(Some(socket.clone()), Encoding::Json, CAPACITY);
    outbox.release(None);
    outbox
}

/// As over TLS: nobody but the session writes.
fn queue_only() -> SocketOutbox {
    let outbox = SocketOutbox::new(None, Encoding::Json, CAPACITY);
    outbox.release(None);
    outbox
}

fn frame(byte: u8, length: usize) -> Bytes {
    Bytes::from(vec![byte; length])
}

fn stream(outbox: &SocketOutbox, byte: u8, length: usize) -> Pushed {
    outbox.push(&[frame(byte, length)], Class::Stream)
}

const CLOSE_FRAME: &[u8] = &[0x88, 2, 0x0f, 0xa0];
const PING_FRAME: &[u8] = &[0x89, 0];

#[test]
fn an_idle_outbox_writes_at_once_and_wakes_nobody() {
    let socket = FakeSocket::taking([]);
    let outbox = open(&socket);
    let session = Arc::new(Session::default());
    assert_eq!(session.waits(&outbox), None);
    assert_eq!(outbox.push(&[frame(b'a', 3), frame(b'b', 2)], Class::Stream), Pushed::Taken);
    assert_eq!(socket.written(), b"aaabb");
    assert_eq!(session.wakes(), 0);
    assert!(!outbox.has_pending());
}

#[test]
fn what_the_socket_does_not_take_is_queued_and_the_session_is_woken_once() {
    let socket = FakeSocket::taking([Take::Bytes(4)]);
    let outbox = open(&socket);
    let session = Arc::new(Session::default());
    session.waits(&outbox);
    outbox.push(&[frame(b'a', 3), frame(b'b', 3)], Class::Stream);
    stream(&outbox, b'c', 2);
    assert_eq!(socket.written(), b"aaab", "nothing overtakes a half-written frame");
    assert_eq!(session.wakes(), 1);
    assert_eq!(outbox.flush(), Flushed { written: 4, left: Left::Nothing });
    assert_eq!(socket.written(), b"aaabbbcc");
}

#[test]
fn a_flush_in_small_steps_keeps_every_byte_in_order() {
    let steps = [Take::Blocked].into_iter().chain([1, 2, 3, 1, 5, 2].map(Take::Bytes)).chain([Take::Blocked]);
    let socket = FakeSocket::taking(steps);
    let outbox = open(&socket);
    for byte in b'a'..=b'f' {
        stream(&outbox, byte, 4);
    }
    assert_eq!(outbox.flush(), Flushed { written: 14, left: Left::Blocked });
    assert_eq!(outbox.flush(), Flushed { written: 10, left: Left::Nothing });
    assert_eq!(socket.written(), b"aaaabbbbccccddddeeeeffff");
}

#[test]
fn more_frames_than_one_vectored_write_holds_are_written_at_once() {
    let socket = FakeSocket::taking([]);
    let outbox = open(&socket);
    let frames: Vec<Bytes> = (0..=255).map(|byte| frame(byte, 2)).collect();
    assert_eq!(outbox.push(&frames, Class::Stream), Pushed::Taken);
    assert_eq!(socket.written(), frames.concat());
}

#[test]
fn one_flush_writes_no_more_than_its_bound() {
    let socket = FakeSocket::taking([Take::Blocked]);
    let outbox = SocketOutbox::new(Some(socket.clone()), Encoding::Json, 4 * FLUSH_BYTES);
    outbox.release(None);
    for _ in 0..300 {
        stream(&outbox, b'x', 1024);
    }
    assert_eq!(outbox.flush().left, Left::More);
    assert!(socket.written().len() < FLUSH_BYTES + SLICES * 1024);
}

#[test]
fn a_full_outbox_refuses_the_stream_as_a_whole() {
    let outbox = queue_only();
    assert_eq!(stream(&outbox, b'a', CAPACITY - 1), Pushed::Taken);
    assert_eq!(outbox.push(&[frame(b'b', 1), frame(b'c', 1)], Class::Stream), Pushed::Full);
    assert_eq!(stream(&outbox, b'd', 1), Pushed::Taken, "nothing of the refused batch was taken");
}

#[test]
fn answers_have_a_reserve_and_end_the_connection_beyond_it() {
    let outbox = queue_only();
    let session = Arc::new(Session::default());
    assert_eq!(stream(&outbox, b'a', CAPACITY), Pushed::Taken);
    assert_eq!(outbox.push(&[frame(b'b', ANSWER_RESERVE)], Class::Answer), Pushed::Taken);
    assert_eq!(session.waits(&outbox), None);
    assert_eq!(outbox.push(&[frame(b'c', 1)], Class::Answer), Pushed::Full);
    assert_eq!(session.wakes(), 1);
    assert_eq!(session.waits(&outbox), Some(Signal::Dead));
    assert_eq!(stream(&outbox, b'd', 1), Pushed::Dead);
}

#[test]
fn control_frames_have_a_reserve_beyond_the_answers() {
    let outbox = queue_only();
    stream(&outbox, b'a', CAPACITY);
    outbox.push(&[frame(b'b', ANSWER_RESERVE)], Class::Answer);
    for _ in 0..CONTROL_RESERVE / 2 {
        assert_eq!(outbox.push_control(PING_FRAME), Pushed::Taken);
    }
    assert_eq!(outbox.push_control(PING_FRAME), Pushed::Dead);
}

#[test]
fn ephemeral_frames_are_dropped_and_counted_when_much_is_pending() {
    let outbox = queue_only();
    assert_eq!(outbox.push(&[frame(b'a', 10)], Class::Ephemeral), Pushed::Taken);
    stream(&outbox, b'b', EPHEMERAL_PENDING);
    assert_eq!(outbox.push(&[frame(b'c', 10)], Class::Ephemeral), Pushed::Full);
    let tally = outbox.settle_accounts();
    assert_eq!(tally, Tally { frames: 2, bytes: 10 + EPHEMERAL_PENDING as u64, dropped: 1 });
}

#[test]
fn nothing_follows_a_close_frame() {
    let socket = FakeSocket::taking([Take::Blocked]);
    let outbox = open(&socket);
    stream(&outbox, b'a', 3);
    assert_eq!(outbox.push_control(CLOSE_FRAME), Pushed::Taken);
    assert_eq!(stream(&outbox, b'b', 3), Pushed::Dead);
    assert_eq!(outbox.push(&[frame(b'b', 3)], Class::Answer), Pushed::Dead);
    assert_eq!(outbox.push_control(PING_FRAME), Pushed::Dead);
    assert!(!outbox.is_calm(), "no page is read for it");
    assert_eq!(outbox.flush().left, Left::Nothing);
    assert_eq!(socket.written(), [b"aaa", CLOSE_FRAME].concat(), "what came before it is still written");
}

#[test]
fn a_broken_socket_is_dead_wakes_the_session_and_is_let_go() {
    let socket = FakeSocket::taking([Take::Broken]);
    let outbox = open(&socket);
    let session = Arc::new(Session::default());
    session.waits(&outbox);
    assert_eq!(stream(&outbox, b'a', 3), Pushed::Dead);
    assert_eq!(session.wakes(), 1);
    assert_eq!(session.waits(&outbox), Some(Signal::Dead));
    assert_eq!(session.waits(&outbox), None, "it is told once");
    assert!(!outbox.is_calm(), "no page is read for it");
    assert_eq!(Arc::strong_count(&socket), 1, "the socket closes though the outbox lives");
}

#[test]
fn a_flush_that_finds_the_socket_broken_is_dead() {
    let socket = FakeSocket::taking([Take::Blocked, Take::Broken]);
    let outbox = open(&socket);
    stream(&outbox, b'a', 3);
    assert_eq!(outbox.flush(), Flushed { written: 0, left: Left::Dead });
}

#[test]
fn the_welcome_goes_first_whatever_was_pushed_before_it() {
    let socket = FakeSocket::taking([]);
    let outbox = SocketOutbox::new(Some(socket.clone()), Encoding::Json, CAPACITY);
    stream(&outbox, b'h', 3);
    outbox.push_control(PING_FRAME);
    assert!(!outbox.has_pending());
    outbox.release(Some(frame(b'w', 2)));
    assert_eq!(socket.written(), [b"wwhhh", PING_FRAME].concat());
}

#[test]
fn a_close_lets_go_what_was_held() {
    let socket = FakeSocket::taking([]);
    let outbox = SocketOutbox::new(Some(socket.clone()), Encoding::Json, CAPACITY);
    outbox.push(&[frame(b'e', 3)], Class::Answer);
    outbox.push_control(CLOSE_FRAME);
    assert_eq!(socket.written(), [b"eee", CLOSE_FRAME].concat());
}

#[test]
fn over_tls_the_session_writes_everything() {
    let outbox = queue_only();
    let session = Arc::new(Session::default());
    session.waits(&outbox);
    stream(&outbox, b'a', 3);
    stream(&outbox, b'b', 3);
    assert_eq!(session.wakes(), 1);
    let tls = FakeSocket::taking([Take::Bytes(4), Take::Blocked]);
    let flush = || outbox.flush_through(|slices| tls.take(slices));
    assert_eq!(flush(), Flushed { written: 4, left: Left::Blocked });
    assert_eq!(flush(), Flushed { written: 2, left: Left::Nothing });
    assert_eq!(tls.written(), b"aaabbb");
    tls.takes.lock().unwrap().push_back(Take::Broken);
    stream(&outbox, b'c', 3);
    assert_eq!(flush().left, Left::Dead);
}

#[test]
fn signals_come_in_the_order_of_their_weight() {
    let outbox = queue_only();
    let session = Arc::new(Session::default());
    let room = RoomId::from_u128(1);
    outbox.notify(Notice::Opened { room });
    let alarm = outbox.set_alarm();
    outbox.ring(alarm);
    outbox.stop(Duration::from_secs(1));
    let told: Vec<Signal> = std::iter::from_fn(|| session.waits(&outbox)).collect();
    let notice = Signal::Notice(Notice::Opened { room });
    assert_eq!(told, [Signal::Stop(Duration::from_secs(1)), Signal::Tick, notice]);
}

#[test]
fn an_alarm_that_was_set_anew_does_not_ring() {
    let outbox = queue_only();
    let session = Arc::new(Session::default());
    let old = outbox.set_alarm();
    let new = outbox.set_alarm();
    outbox.ring(old);
    assert_eq!(session.waits(&outbox), None);
    outbox.ring(new);
    assert_eq!(session.waits(&outbox), Some(Signal::Tick));
}

#[test]
fn a_session_that_does_not_read_its_notices_is_ended() {
    let outbox = queue_only();
    let session = Arc::new(Session::default());
    for _ in 0..=128 {
        outbox.notify(Notice::RoomEnded { room: RoomId::from_u128(1) });
    }
    assert_eq!(session.waits(&outbox), Some(Signal::End(CloseCode::Internal)));
}

#[test]
fn an_idle_outbox_is_small() {
    assert!(size_of::<SocketOutbox>() <= 384, "{}", size_of::<SocketOutbox>());
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<usize>),
    Ephemeral(usize),
    Ping,
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(1..3_000_usize, 1..5).prop_map(Step::Push),
        (1..100_usize).prop_map(Step::Ephemeral),
        Just(Step::Ping),
        Just(Step::Flush),
    ]
}

fn take() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![Just(None), (1..5_000_usize).prop_map(Some)]
}

proptest! {
    /// Whatever the socket takes and whenever: what it was given is what was taken, whole and in order.
    #[test]
    fn the_socket_gets_what_was_taken_in_order(
        steps in prop::collection::vec(step(), 1..80),
        takes in prop::collection::vec(take(), 0..80),
    ) {
        let takes = takes.into_iter().map(|most| most.map_or(Take::Blocked, Take::Bytes));
        let socket = FakeSocket::taking(takes);
        let outbox = open(&socket);
        let mut taken = Vec::new();
        let mut byte = 0_u8;
        let mut frames = |lengths: &[usize]| -> Vec<Bytes> {
            lengths.iter().map(|length| { byte = byte.wrapping_add(1); frame(byte, *length) }).collect()
        };
        for step in steps {
            let (pushed, class) = match step {
                Step::Push(lengths) => (frames(&lengths), Class::Stream),
                Step::Ephemeral(length) => (frames(&[length]), Class::Ephemeral),
                Step::Ping => {
                    prop_assert_eq!(outbox.push_control(PING_FRAME), Pushed::Taken);
                    taken.extend_from_slice(PING_FRAME);
                    continue;
                }
                Step::Flush => {
                    outbox.flush();
                    continue;
                }
            };
            if outbox.push(&pushed, class) == Pushed::Taken {
                taken.extend_from_slice(&pushed.concat());
            }
            prop_assert!(outbox.lock().queue.bytes() <= CAPACITY + CONTROL_RESERVE);
            prop_assert!(taken.starts_with(&socket.written()));
        }
        while outbox.has_pending() {
            outbox.flush();
        }
        prop_assert_eq!(socket.written(), taken);
    }
}
