//! Connections that break, fall silent, or should not be.

use super::{proxy::Mood, *};

/// Two nodes, the first of which dials through the proxy.
async fn through_a_proxy(folder: &Path, names: [&str; 2]) -> (Node, Node, Proxy) {
    let (a, b) = (node(folder, names[0]).await, node(folder, names[1]).await);
    let proxy = Proxy::to(b.links.local_addr()).await;
    a.links.set_live(vec![(b.name.clone(), proxy.address)]);
    b.links.set_live(vec![a.address()]);
    linked(&a, &b).await;
    (a, b, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_replaced_and_nothing_of_before_comes_late() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b, proxy) = through_a_proxy(folder.path(), ["break-a", "break-b"]).await;
    let mut number = 0;
    for round in 1..=5 {
        // A flood, so that some is in every queue of the way when it breaks.
        for _ in 0..2_000 {
            let _ = a.send(&b, Worth::Needed, numbered(number, 512));
            number += 1;
        }
        proxy.set(Mood::HangUp);
        until("both notice", || {
            a.handler.count(&Told::Down(b.peer())) == round && b.handler.count(&Told::Down(a.peer())) == round
        })
        .await;
        proxy.set(Mood::Forward);
        linked(&a, &b).await;
        // What comes from here on was sent from here on.
        b.handler.tell(Told::Resumed);
        a.push(&b, numbered(number, 4)).await;
        number += 1;
        let last = Told::Received(a.peer(), numbered(number - 1, 4));
        until("it goes on", || b.handler.count(&last) == 1).await;
        let told = b.handler.told();
        let mark = told.iter().rposition(|told| *told == Told::Resumed).unwrap();
        assert_eq!(told[mark + 1..], [last], "nothing of before");
    }
    assert!(b.handler.numbers().is_sorted_by(|a, b| a < b), "in order, and none twice");
    assert_eq!(a.links.stats().peers[0].sessions, 6);
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_suspended_resumed_when_heard_and_closed_when_not() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b, proxy) = through_a_proxy(folder.path(), ["silent-a", "silent-b"]).await;
    proxy.set(Mood::Silent);
    until("suspended", || a.phase(&b) == LinkPhase::Suspended).await;
    assert_eq!(a.send(&b, Worth::Needed, "nobody hears"), Err(Unsent));
    proxy.set(Mood::Forward);
    until("resumed", || a.phase(&b) == LinkPhase::Ready).await;
    a.send(&b, Worth::Needed, "heard").unwrap();
    until("it came", || b.handler.received() == 1).await;
    assert_eq!(a.handler.told(), [Told::Up(b.peer()), Told::Suspended, Told::Resumed]);
    let since = std::time::Instant::now();
    proxy.set(Mood::Silent);
    until("closed on both sides", || {
        [(&a, &b), (&b, &a)].iter().all(|(one, other)| one.handler.count(&Told::Down(other.peer())) == 1)
    })
    .await;
    let (took, close) = (since.elapsed(), quick().close);
    assert!(took >= close - quick().heartbeat * 2 && took < close * 2, "{took:?}");
    // Nothing holds on to the dead connection: all streams are gone.
    until("all is freed", || a.links.shared.wires.is_empty() && b.links.shared.wires.is_empty()).await;
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ca_is_refused_and_so_is_who_shows_no_certificate() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (node(other.path(), "ca-a").await, node(folder.path(), "ca-b").await);
    meet(&[&a, &b]);
    until("the dialer refuses", || a.links.stats().dials_failed >= 2).await;
    assert!(b.links.stats().handshakes_failed >= 1);
    // A client that trusts the server, and has nothing to show.
    let refused = b.links.stats().handshakes_failed;
    let mut roots = rustls::RootCertStore::empty();
    let ca = std::fs::read(folder.path().join("ca/ca.pem")).unwrap();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(&ca).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let socket = tokio::net::TcpStream::connect(b.links.local_addr()).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("ca-b").unwrap();
    let _ = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await;
    until("it is refused", || b.links.stats().handshakes_failed > refused).await;
    assert!(a.handler.told().is_empty() && b.handler.told().is_empty());
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_node_does_not_speak_for_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::development(folder.path(), "mallory").unwrap();
    let a = start(LinkSettings { tls, ..settings(folder.path(), "claim-a") }).await;
    let b = node(folder.path(), "claim-b").await;
    meet(&[&a, &b]);
    until("it is closed", || b.links.stats().closed >= 1).await;
    assert!(b.handler.told().is_empty());
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_and_another_version_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let a = node(folder.path(), "stranger-a").await;
    let elsewhere = LinkSettings { cluster_id: "other".into(), ..settings(folder.path(), "stranger-b") };
    let newer = LinkSettings { version: 2, ..settings(folder.path(), "stranger-c") };
    let (b, c) = (start(elsewhere).await, start(newer).await);
    meet(&[&a, &b, &c]);
    until("both sides name the version", || {
        [&a, &c].iter().all(|node| node.links.stats().other_version >= 1)
    })
    .await;
    until("it is closed", || a.phase(&c) == LinkPhase::Down).await;
    // The cookie is refused again and again, the version is not even tried.
    let seen = a.links.stats().other_version;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((a.phase(&c), a.links.stats().other_version), (LinkPhase::Down, seen));
    assert!([&a, &b, &c].iter().all(|node| node.handler.told().is_empty()));
    stop([a, b, c]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_after_connecting_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let times = Times { connect: Duration::from_millis(100), ..quick() };
    let a = start(LinkSettings { times, ..settings(folder.path(), "mute-a") }).await;
    let sockets: Vec<_> =
        (0..20).map(|_| std::net::TcpStream::connect(a.links.local_addr()).unwrap()).collect();
    until("all are given up", || a.links.stats().handshakes_failed == 20).await;
    drop(sockets);
    stop([a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_certificates_are_used_for_new_connections() {
    let (folder, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b, proxy) = through_a_proxy(folder.path(), ["renew-a", "renew-b"]).await;
    Tls::development(next.path(), "renew-a").unwrap();
    Tls::development(next.path(), "renew-b").unwrap();
    let copy = |file: &str| std::fs::copy(next.path().join(file), folder.path().join(file)).unwrap();
    // One node has the new CA, the other the old one: they don't know each other.
    for file in ["renew-a/certificate.pem", "renew-a/key.pem", "ca/ca.pem"] {
        copy(file);
    }
    proxy.set(Mood::HangUp);
    until("down", || a.handler.count(&Told::Down(b.peer())) == 1).await;
    proxy.set(Mood::Forward);
    until("the old certificate is refused", || a.links.stats().dials_failed > 0).await;
    for file in ["renew-b/certificate.pem", "renew-b/key.pem"] {
        copy(file);
    }
    linked(&a, &b).await;
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_past_tls_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let a = node(folder.path(), "past-a").await;
    let actors = a.links.shared.actors.get().unwrap();
    let (ours, theirs) = tokio::io::duplex(1024);
    drop(ours);
    let label = Plain(theirs);
    let stream = Box::new(label);
    let opened = NodeServerMessage::ConnectionOpenedExternal { stream, is_server: true };
    actors.server.cast(opened).unwrap();
    let sessions = ractor::call_t!(actors.server, NodeServerMessage::GetSessions, 1000).unwrap();
    assert!(sessions.is_empty());
    assert!(a.handler.told().is_empty());
    stop([a]).await;
}

/// A stream without a label of ours.
struct Plain(tokio::io::DuplexStream);

impl ractor_cluster::ClusterBidiStream for Plain {
    fn split(self: Box<Self>) -> (ractor_cluster::BoxRead, ractor_cluster::BoxWrite) {
        let (read, write) = tokio::io::split(self.0);
        (Box::new(read), Box::new(write))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_no_session_and_frames_that_cannot_be_read_are_counted_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (node(folder.path(), "stray-a").await, node(folder.path(), "stray-b").await);
    meet(&[&a, &b]);
    linked(&a, &b).await;
    let actors = a.links.shared.actors.get().unwrap();
    let mut stale = envelope::batch(envelope::VERSION, 12345, 64);
    envelope::put_entry(&mut stale, Worth::Needed, &TraceContext::NONE, b"of before");
    for frame in [stale, vec![], vec![envelope::VERSION, 99, 0, 0, 0, 0, 0, 0, 0, 0]] {
        actors.link.cast(LinkMessage::Frame(frame)).unwrap();
    }
    actors.link.cast(LinkMessage::Unreadable).unwrap();
    until("all are counted", || a.links.stats().unreadable == 3).await;
    assert_eq!((a.links.stats().stale, a.handler.received()), (1, 0));
    assert_eq!(a.phase(&b), LinkPhase::Ready);
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_forgotten_and_met_again_hears_nothing_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (node(folder.path(), "forget-a").await, node(folder.path(), "forget-b").await);
    meet(&[&a, &b]);
    linked(&a, &b).await;
    // Much of it waits in front of the handler, some behind the news that the sender does not live.
    b.handler.blocked.store(true, Ordering::Relaxed);
    for number in 0..4_000 {
        a.push(&b, numbered(number, 512)).await;
    }
    b.links.set_live(vec![]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    b.handler.blocked.store(false, Ordering::Relaxed);
    until("it is closed", || b.handler.count(&Told::Down(a.peer())) == 1).await;
    b.links.set_live(vec![a.address()]);
    until("it is up again", || b.handler.count(&Told::Up(a.peer())) == 2).await;
    a.push(&b, numbered(4_000, 4)).await;
    until("it goes on", || b.handler.numbers().last() == Some(&4_000)).await;
    let told = b.handler.told();
    let down = told.iter().position(|told| *told == Told::Down(a.peer())).unwrap();
    assert_eq!(told[down + 1..], [Told::Up(a.peer()), Told::Received(a.peer(), numbered(4_000, 4))]);
    stop([a, b]).await;
}
