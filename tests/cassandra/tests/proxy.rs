//! What a proxy loses, delays and holds, before a node that is a few lines of this file.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use rookery_test_cassandra::{Counts, Fault, Proxy, Request, Rule};

/// Longest wait for anything: for failures only.
const PATIENCE: Duration = Duration::from_secs(20);
/// The opcode of an answer.
const RESULT: u8 = 0x08;

fn frame(version: u8, stream: u8, opcode: u8, body: &str) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap();
    let mut bytes = vec![version, 0, 0, stream, opcode, 0, 0, 0, length];
    bytes.extend(body.as_bytes());
    bytes
}

fn request(stream: u8, kind: Request, body: &str) -> Vec<u8> {
    frame(0x04, stream, kind as u8, body)
}

fn read_frame(from: &mut impl Read) -> io::Result<(u8, String)> {
    let mut header = [0; 9];
    from.read_exact(&mut header)?;
    let mut body = vec![0; header[8].into()];
    from.read_exact(&mut body)?;
    Ok((header[3], String::from_utf8(body).unwrap()))
}

/// Answers every request with its own body, and tells the bodies.
fn fake_node() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, all_seen) = mpsc::channel();
    // Ends with the test process.
    thread::spawn(move || {
        for mut socket in listener.incoming().map(Result::unwrap) {
            let seen: Sender<String> = seen.clone();
            thread::spawn(move || {
                while let Ok((stream, body)) = read_frame(&mut socket) {
                    // The test may have seen enough.
                    let _ = seen.send(body.clone());
                    if socket.write_all(&frame(0x84, stream, RESULT, &body)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, all_seen)
}

struct Client(TcpStream);

impl Client {
    fn connect(proxy: &Proxy) -> Self {
        let socket = TcpStream::connect(proxy.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn send(&mut self, stream: u8, kind: Request, body: &str) {
        self.0.write_all(&request(stream, kind, body)).unwrap();
    }

    fn answer(&mut self) -> (u8, String) {
        read_frame(&mut self.0).unwrap()
    }

    fn asks(&mut self, body: &str) {
        self.send(1, Request::Query, body);
        assert_eq!(self.answer(), (1, body.to_owned()));
    }

    fn is_cut(&mut self) -> bool {
        read_frame(&mut self.0).is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    }
}

fn start() -> (Proxy, Receiver<String>) {
    let (address, seen) = fake_node();
    let proxy = Proxy::start(address).unwrap();
    assert_eq!(proxy.address().port(), address.port(), "a driver takes one port for all nodes");
    assert_ne!(proxy.address().ip(), address.ip());
    (proxy, seen)
}

fn await_counts(proxy: &Proxy, holds: impl Fn(&Counts) -> bool) {
    assert!(proxy.await_counts(PATIENCE, holds), "{:?}", proxy.counts());
}

#[test]
fn a_lost_request_is_not_seen_by_the_node() {
    let (proxy, seen) = start();
    let (mut client, mut other) = (Client::connect(&proxy), Client::connect(&proxy));
    client.asks("a");
    other.asks("b");
    proxy.inject(Rule::new(Fault::LoseRequest).of(&[Request::Batch]).containing("room"));
    client.asks("a query about a room");
    client.send(2, Request::Batch, "about something else");
    assert_eq!(client.answer(), (2, "about something else".to_owned()));

    // Judged as a whole, however it arrives.
    let lost = request(3, Request::Batch, "about a room");
    let (start, rest) = lost.split_at(15);
    client.0.write_all(start).unwrap();
    other.asks("in between");
    client.0.write_all(rest).unwrap();
    assert!(client.is_cut() && other.is_cut());

    Client::connect(&proxy).asks("again");
    let seen: Vec<_> = seen.try_iter().collect();
    assert_eq!(seen, ["a", "b", "a query about a room", "about something else", "in between", "again"]);
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.cut), (3, 2));
    assert_eq!((counts.requests, counts.requests_lost, counts.answers), (6, 1, 6));
}

#[test]
fn a_lost_answer_is_of_a_request_that_the_node_saw() {
    let (proxy, seen) = start();
    let mut client = Client::connect(&proxy);
    proxy.inject(Rule::new(Fault::LoseAnswer).of(&[Request::Execute]).and_refuse());
    client.asks("before");
    client.send(2, Request::Execute, "lost");
    assert!(client.is_cut());
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["before", "lost"]);
    assert_eq!(proxy.counts().answers_lost, 1);

    assert!(Client::connect(&proxy).is_cut());
    assert_eq!(proxy.counts().refused, 1);
    proxy.accept();
    Client::connect(&proxy).asks("after");
}

#[test]
fn a_held_answer_comes_when_it_is_released_and_a_delayed_one_later() {
    let (proxy, _seen) = start();
    let mut client = Client::connect(&proxy);
    proxy.inject(Rule::new(Fault::HoldAnswer).times(2));
    client.send(2, Request::Query, "held");
    await_counts(&proxy, |counts| counts.answers_held == 1);
    client.send(3, Request::Query, "held too");
    await_counts(&proxy, |counts| counts.answers_held == 2);
    client.asks("overtakes");
    proxy.release();
    assert_eq!(client.answer(), (2, "held".to_owned()));
    assert_eq!(client.answer(), (3, "held too".to_owned()));

    let delay = Duration::from_millis(200);
    let begun = Instant::now();
    proxy.inject(Rule::new(Fault::DelayAnswer(delay)));
    client.send(2, Request::Query, "delayed");
    assert_eq!(client.answer(), (2, "delayed".to_owned()));
    assert!(begun.elapsed() >= delay);
}

#[test]
fn connections_are_cut_refused_and_let_in_on_command() {
    let (proxy, _seen) = start();
    let mut client = Client::connect(&proxy);
    client.asks("a");
    proxy.refuse();
    client.asks("one that stands is not touched");
    assert!(Client::connect(&proxy).is_cut());
    proxy.cut();
    assert!(client.is_cut());
    proxy.accept();
    let mut client = Client::connect(&proxy);
    client.asks("again");
    proxy.inject(Rule::new(Fault::LoseRequest));
    proxy.clear();
    client.asks("no rule is left");

    client.0.write_all(&frame(0x05, 1, Request::Query as u8, "of another version")).unwrap();
    assert!(client.is_cut());
    await_counts(&proxy, |counts| counts.unreadable == 1);
}

#[test]
fn nothing_is_left_of_a_dropped_proxy() {
    let (proxy, _seen) = start();
    let address = proxy.address();
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(&proxy)).collect();
    clients[0].asks("a");
    proxy.inject(Rule::new(Fault::DelayAnswer(Duration::from_secs(3600))));
    clients[1].send(1, Request::Query, "delayed for very long");
    await_counts(&proxy, |counts| counts.connections == 3 && counts.answers_delayed == 1);

    drop(proxy);
    assert!(clients.iter_mut().all(Client::is_cut));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}
