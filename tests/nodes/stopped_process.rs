//! A process is stopped with SIGSTOP while another node changes an entry of which it has a copy.
#![allow(clippy::print_stdout, reason = "that is how a process answers")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use larder::{Cache, ucache};

use super::{Nodes, key};

/// Set in the child process: the URL of the server, and the directory to use.
const URL: &str = "LARDER_TEST_STOPPED_URL";
const DIR: &str = "LARDER_TEST_STOPPED_DIR";
const LEASE: Duration = Duration::from_millis(300);
/// Time for a process to be scheduled and for the clock to be read.
const SLACK: Duration = Duration::from_millis(100);

fn micros() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()
}

/// Reads in a loop. Prints the value and the start of the read when the value changed, or when the
/// last read was more than 20 ms ago.
#[test]
#[ignore = "run by the test of a stopped process, as a process of its own"]
fn the_reader() {
    let (Ok(url), Ok(dir)) = (std::env::var(URL), std::env::var(DIR)) else { return };
    let cache: Cache<String, u64> =
        ucache("shared").dir(dir).redis(url).namespace("nodes").lease(LEASE).build().unwrap();
    println!();
    let (mut last, mut before) = (None, 0);
    loop {
        let begun = micros();
        let value = cache.get(&key(1)).unwrap_or(0);
        if last != Some(value) || begun - before > 20_000 {
            println!("> {begun} {value}");
        }
        (last, before) = (Some(value), begun);
    }
}

struct Reader {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Reader {
    fn start(nodes: &Nodes, dir: &std::path::Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nodes::stopped_process::the_reader", "--nocapture", "--include-ignored"])
            .env(URL, nodes.server.url())
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Returns the next printed read: when it began, and its value.
    fn read(&mut self) -> (u128, u64) {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the process is gone");
            if let Some((at, value)) =
                line.trim_end().strip_prefix("> ").and_then(|read| read.split_once(' '))
            {
                return (at.parse().unwrap(), value.parse().unwrap());
            }
        }
    }

    fn read_until(&mut self, value: u64) {
        while self.read().1 != value {}
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn stopped_process_serves_no_copy_past_its_lease() {
    let Some(mut nodes) = Nodes::start() else { return };
    let writer = nodes.node();
    writer.insert(key(1), 1);
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Reader::start(&nodes, dir.path());
    let mut beyond = 0;
    reader.read_until(1);
    for round in 1..=12_u64 {
        reader.signal("-STOP");
        writer.insert(key(1), round + 1);
        let changed = micros();
        // Stops both shorter and longer than the lease.
        let stop = Duration::from_millis(60 * round);
        thread::park_timeout(stop);
        reader.signal("-CONT");
        let (mut is_seen, mut is_late) = (false, stop < LEASE + SLACK);
        while !(is_seen && is_late) {
            // The first read that began after the stop is always printed.
            let (at, value) = reader.read();
            is_seen |= value == round + 1;
            if at > changed + (LEASE + SLACK).as_micros() {
                assert_eq!(value, round + 1, "read {} us after the change", at - changed);
                beyond += 1;
                is_late = true;
            }
        }
    }
    assert!(beyond > 3, "{beyond} rounds were longer than the lease");
}
