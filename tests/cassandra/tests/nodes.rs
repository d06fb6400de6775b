//! Nodes are what a test makes of them, and end when it does.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rookery_test_cassandra::{Cluster, ClusterOptions, HarnessError, shared};

/// Longest wait for anything: for failures only.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a node that stands still is listened to.
const SILENCE: Duration = Duration::from_millis(300);
/// A request of the native protocol without a body: what can you do?
const OPTIONS: &[u8] = b"\x04\x00\x00\x00\x05\x00\x00\x00\x00";

/// Whether it answers an OPTIONS request with SUPPORTED; the error says how it does not.
fn answer(address: SocketAddr) -> io::Result<u8> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.write_all(OPTIONS)?;
    let mut header = [0; 9];
    socket.read_exact(&mut header)?;
    Ok(header[4])
}

fn is_refused(address: SocketAddr) -> bool {
    answer(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come in time");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_is_paused_killed_restarted_and_gone_with_its_cluster() {
    let options = ClusterOptions { nodes: 2, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).unwrap();
    let (first, node) = (cluster.node(0), cluster.node(1));
    assert_eq!(cluster.contact_points(), [first.address(), node.address()]);
    assert_eq!(first.address().port(), node.address().port());
    answer(first.address()).unwrap();

    node.pause().unwrap();
    let silence = answer(node.address()).unwrap_err();
    assert_eq!(
        silence.kind(),
        io::ErrorKind::WouldBlock,
        "a paused node is connected to, and does not answer"
    );
    node.resume().unwrap();
    eventually("an answer after the pause", || answer(node.address()).is_ok());

    node.kill().unwrap();
    assert!(is_refused(node.address()));
    assert!(matches!(node.pause(), Err(HarnessError::NotRunning(_))));

    node.restart().unwrap();
    answer(node.address()).unwrap();
    assert!(node.log_tail(1000).contains("Replaying"), "it took up its old data");
    cluster.await_up().unwrap();
    let log = first.log_tail(1000);
    let seen = format!("/{}:", node.address().ip());
    assert!(log.lines().any(|line| line.contains(&seen) && line.contains("has restarted")), "{log}");

    let addresses = cluster.contact_points();
    drop(cluster);
    assert!(addresses.into_iter().all(is_refused));
}

#[test]
fn a_node_that_does_not_start_tells_the_end_of_its_log() {
    let options = ClusterOptions { yaml: "no_such_setting: 1".to_owned(), ..ClusterOptions::default() };
    let error = Cluster::start(options).unwrap_err();
    assert!(error.to_string().contains("[no_such_setting]"), "{error}");
}

#[test]
#[ignore = "a process of its own, for the test below; ends with its standard input"]
fn home_of_a_shared_cluster() {
    // As in any test, the thread that starts the cluster does not live as long as the process.
    let address = thread::spawn(|| shared().unwrap().node(0).address()).join().unwrap();
    println!("\nat {address}");
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_killed_test_process_leaves_no_node() {
    let mut home = Command::new(std::env::current_exe().unwrap());
    home.args(["--exact", "home_of_a_shared_cluster", "--ignored", "--nocapture"]);
    let mut home = home.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(home.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("at ")?.parse().ok()).unwrap();
    answer(address).unwrap();

    home.kill().unwrap();
    home.wait().unwrap();
    eventually("the end of the node", || is_refused(address));
}
