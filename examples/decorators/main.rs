//! Functions that remember: one line above each.
//!
//! `cargo run --example decorators`, and once more: what was stored beyond
//! memory is served by the second run.

#![allow(clippy::print_stdout, reason = "an example talks")]

mod reports;
mod users;
mod words;

use std::path::PathBuf;
use std::time::Instant;

use larder::mcache;

/// Where the caches of this example lie.
fn folder() -> PathBuf {
    std::env::temp_dir().join("larder-decorators")
}

/// Each call asks for two smaller ones: without the line above it, 2.7 million calls.
#[mcache]
fn fibonacci(n: u64) -> u64 {
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> larder::Result<()> {
    let start = Instant::now();
    println!("fibonacci(30) is {}, in {:?}", fibonacci(30), start.elapsed());
    println!("  loads: {}\n", fibonacci::stats().cache.loads);

    words::show()?;
    users::show()?;
    reports::show().await
}
