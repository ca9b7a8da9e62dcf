//! Memoized functions: one attribute above each.
//!
//! `cargo run --package decorators`, twice: the second run reads the results that the first one stored beyond
//! memory.

#![allow(clippy::print_stdout, reason = "an example talks")]

mod reports;
mod users;
mod words;

use std::path::PathBuf;
use std::time::Instant;

use larder::mcache;

/// The directory of the caches of this example.
fn folder() -> PathBuf {
    std::env::temp_dir().join("larder-decorators")
}

/// Each call makes two smaller calls: without the attribute 2.7 million calls.
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
