//! Restarts: a process serves the results that the previous one stored, unless the function
//! changed.
//!
//! The child processes are this test binary, with a variable that selects a step.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use larder::{Persistence, bcache, fcache, ucache};

use super::{Runs, empty};

const DIR: &str = "LARDER_TEST_RESTART_DIR";
const STEP: &str = "LARDER_TEST_RESTART_STEP";

static RUNS: Runs = Runs::new();

fn dir() -> PathBuf {
    std::env::var_os(DIR).unwrap().into()
}

#[bcache(dir = dir())]
fn on_disk(n: u32) -> String {
    RUNS.count();
    n.to_string()
}

#[fcache(dir = dir())]
fn in_a_file(n: u32) -> Vec<u32> {
    RUNS.count();
    vec![n; 10]
}

#[ucache(dir = dir(), persistence = Persistence::LongTerm)]
fn anywhere(n: u32) -> impl Iterator<Item = u32> {
    RUNS.count();
    0..n
}

mod before {
    #[larder::bcache(dir = super::dir(), name = "versioned", version = "auto")]
    pub(super) fn versioned(n: u32) -> u32 {
        super::RUNS.count();
        n + 1
    }
}

mod after {
    #[larder::bcache(dir = super::dir(), name = "versioned", version = "auto")]
    pub(super) fn versioned(n: u32) -> u32 {
        super::RUNS.count();
        n + 2
    }
}

/// Runs one step in a child process, and does nothing without the variable that selects it.
#[test]
fn step() {
    let Ok(step) = std::env::var(STEP) else { return };
    match step.as_str() {
        "fill" => check(4),
        "serve" => check(0),
        "lingered" => assert_eq!(on_disk::get(9).as_deref(), Some("9")),
        "before" => {
            assert_eq!((before::versioned(1), before::versioned::flush().is_ok(), RUNS.take()), (2, true, 1))
        }
        "again" => assert_eq!((before::versioned(1), RUNS.take()), (2, 0)),
        "after" => {
            assert_eq!((after::versioned(1), after::versioned::flush().is_ok(), RUNS.take()), (3, true, 1))
        }
        // The time to stay alive.
        millis => linger(millis.parse().unwrap()),
    }
}

/// Calls each function once, and asserts the number of executions.
fn check(runs: u32) {
    assert_eq!(on_disk(7), "7");
    assert_eq!(on_disk(8), "8");
    assert_eq!(in_a_file(7), vec![7; 10]);
    assert!(anywhere(3).eq(0..3));
    assert_eq!(RUNS.take(), runs);
    for flushed in [on_disk::flush(), in_a_file::flush(), anywhere::flush()] {
        flushed.unwrap();
    }
}

/// Stores a result, and stays until the background thread has flushed it, without a call of
/// `flush`.
fn linger(millis: u64) {
    on_disk(9);
    let until = Instant::now() + Duration::from_millis(millis);
    while Instant::now() < until {
        std::thread::yield_now();
    }
    // Ends like a killed process: drops and flushes nothing.
    std::process::abort();
}

fn run(step: &str, dir: &PathBuf) -> bool {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command.args(["--exact", "attributes::restart::step", "--nocapture"]).env(STEP, step).env(DIR, dir);
    command.status().unwrap().success()
}

#[test]
fn stored_results_are_served_after_a_restart() {
    let dir = empty("restart");
    assert!(run("fill", &dir) && run("serve", &dir) && run("serve", &dir));
}

#[test]
fn changed_function_body_is_another_version() {
    let dir = empty("versions");
    assert!(run("before", &dir) && run("again", &dir), "an unchanged body is served");
    assert!(run("after", &dir), "a changed one is not");
}

#[test]
fn stored_results_are_flushed_in_the_background() {
    let dir = empty("lingering");
    // A tenth of a second is enough on an idle machine.
    let is_flushed = |millis: &str| {
        assert!(!run(millis, &dir), "it aborts");
        run("lingered", &dir)
    };
    assert!(["1500", "6000", "24000"].into_iter().any(is_flushed));
}
