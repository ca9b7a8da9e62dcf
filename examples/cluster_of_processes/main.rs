//! Four processes share one cache through Redis while every plug is pulled:
//! `cargo run --release --example cluster_of_processes`.
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
//! Each process reads a few thousand articles, some of them far more often than
//! others, and writes those of which it is the only author: it raises the
//! article's version in the *source* (a file that stands for the database),
//! then inserts the article into the cache or removes it from there. Who misses
//! loads from the source. In turn the server is killed and started again empty,
//! stopped and continued, and one process is cut off from it and let in again.
//!
//! # What is counted as stale
//!
//! A read is *stale beyond the lease* when it returns a version older than one
//! that Redis had acknowledged more than the lease before the read began. That
//! must never happen, whatever is broken: a hit in memory is checked against
//! the last answered contact with Redis. An insert is acknowledged when its
//! placement says that its home is Redis, a removal when no call to Redis failed
//! meanwhile. The author notes it on the board (`board.rs`) once the lease is
//! over; whoever reads looks at the board first, so no clocks are compared.
//!
//! Not counted are reads that were *unconfirmed*: while a process has no contact
//! with Redis, or owes it a change of the article, it serves what it has, under
//! the default coherence `available`. Others may have gone on meanwhile, and it
//! cannot know. Such reads have a column of their own; where the lease should
//! hold all the same, `.coherence(Coherence::Strict)` makes them misses. And a
//! change that was not acknowledged, because it went to a tier of its own
//! process, binds nobody else until it was repaired.
//!
//! # What is counted as an error
//!
//! What a caller of the cache sees: a `try_get_with` or a `try_insert` that
//! fails, and any call that takes longer than five seconds.
//!
//! # Coherence after healing
//!
//! While something is broken every process writes four articles that nobody
//! else touches, the probes. From the moment it is healed all four processes
//! read all probes until all agree on the newest versions: that time is shown.
//!
//! The run ends with an error unless both counts are zero and every healing
//! came to an end.
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
/// Articles that are read and written all the time.
const ARTICLES: u64 = 3_000;
/// Articles that are written while something is broken; as many a process.
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
