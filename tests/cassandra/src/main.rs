//! Runs a command beside a node: `rookery-test-cassandra COMMAND [ARGUMENTS]`. The command finds the node's address in
//! `ROOKERY_TEST_CASSANDRA`, and its exit code is ours.

use std::process::{Command, ExitCode};

use rookery_test_cassandra::{Cluster, ClusterOptions};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(command) = arguments.next() else { return complain("which command?") };
    let cluster = match Cluster::start(ClusterOptions::default()) {
        Ok(cluster) => cluster,
        Err(error) => return complain(&error.to_string()),
    };
    let address = cluster.node(0).address().to_string();
    let ended = Command::new(&command).args(arguments).env("ROOKERY_TEST_CASSANDRA", address).status();
    match ended.map(|status| status.code()) {
        Ok(Some(0)) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => complain(&format!("{}: {error}", command.display())),
    }
}

#[expect(clippy::print_stderr, reason = "the one place that tells a person why nothing was run")]
fn complain(what: &str) -> ExitCode {
    eprintln!("rookery-test-cassandra: {what}");
    ExitCode::FAILURE
}
