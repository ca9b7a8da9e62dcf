//! Four processes share one cache through Redis under every fault: `cargo run --release --package
//! cluster_of_processes`.
//!
//! ```text
//! cluster_of_processes [redis://127.0.0.1:PORT] [--phase SECONDS]
//!
//!   redis://…          a server on this machine; default: one of its own, which
//!                      it starts, kills, stops and ends. One that was given is
//!                      not touched: the lines to it are cut and held up instead.
//!   --phase SECONDS    how long each phase lasts, 1 to 60; default: 4
//! ```
//!
//! Each process reads a few thousand articles, some of them far more often than others, and writes the
//! articles of which it is the only author. A write raises the article's version in the *source* (a file that
//! stands for the database), then inserts the article into the cache or removes it from there. A miss loads
//! from the source. In turn the server is killed and started again empty, stopped and continued, and one
//! process is cut off from it and connected again.
//!
//! # What is counted as stale
//!
//! A read is *stale beyond the lease* if it returns a version older than one that Redis had acknowledged more
//! than a lease before the read began. That must never happen under any of these faults: a hit in memory is
//! checked against the last answered contact with Redis. An insert is acknowledged if its placement says that
//! its home is Redis, a removal if no call to Redis failed meanwhile. The author records it on the board
//! (`board.rs`) once the lease is over. A reader looks at the board before it reads, so no clocks are
//! compared.
//!
//! *Unconfirmed* reads are not counted. While a process has no contact with Redis, or has a pending write of
//! the article, it serves its own copy, under the default coherence `available`. Other processes may have
//! changed the article meanwhile, which this process cannot know. Such reads have a column of their own.
//! `.coherence(Coherence::Strict)` turns them into misses, for caches that must keep the lease even then. A
//! change that was not acknowledged, because it went to a tier of its own process, does not apply to other
//! processes until it was repaired.
//!
//! # What is counted as an error
//!
//! An error is a failure that a caller of the cache sees: a `try_get_with` or a `try_insert` that fails, and
//! any call that takes longer than five seconds.
//!
//! # Coherence after healing
//!
//! During a fault every process writes four articles that no other process changes, the probes. Once the
//! fault is healed all four processes read all probes until all agree on the newest versions; the table shows
//! that time.
//!
//! The run ends with an error unless both counts are zero and every healing finished.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

mod board;
mod counts;
mod node;
mod options;
mod peer;
mod phases;
mod plugs;
mod table;

use std::process::ExitCode;

use crate::options::{Options, Role};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How many processes share the cache.
const NODES: u64 = 4;
/// Articles that are read and written continuously.
const ARTICLES: u64 = 3_000;
/// Articles that are written during a fault; each process writes the same number.
const PROBES: u64 = 16;

fn main() -> ExitCode {
    let outcome = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(Options { role: Role::Node(place), .. })) => node::run(&place),
        Ok(Some(options)) => phases::run(&options),
        Ok(None) => {
            println!("{}", options::USAGE);
            Ok(())
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
