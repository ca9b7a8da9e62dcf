//! Runs the example on a small scale. It checks its own results.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::process::Command;

use larder_testkit::RedisServer;

#[test]
fn processes_agree_while_servers_and_connections_fail() {
    // Notes the test as not run if no server is installed.
    if RedisServer::start().is_none() {
        return;
    }
    let built = env!("CARGO_BIN_EXE_cluster_of_processes");
    let ran = Command::new(built).args(["--phase", "1"]).output().unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    println!("{told}");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(told.contains("stale beyond the lease: 0; errors seen by callers: 0"));
    assert_eq!(told.lines().filter(|line| line.starts_with("coherent ")).count(), 3);
    assert!(told.contains("16 probes written, 12 of them acknowledged by Redis"), "one process was cut off");
}
