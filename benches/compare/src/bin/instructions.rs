//! Hits for callgrind to count: `instructions CASE HITS`.
//!
//! The cost of a hit is the difference of the instructions of two runs, divided by the difference of their
//! hits; `benches/compare/instructions.sh` makes both runs.
#![allow(clippy::print_stderr, reason = "a program for people")]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use larder::EntryOptions;

const ENTRIES: u64 = 1000;

fn moka(hits: u64) {
    let cache = moka::sync::Cache::builder()
        .max_capacity(10 * ENTRIES)
        .build_with_hasher(foldhash::fast::RandomState::default());
    for key in 0..ENTRIES {
        cache.insert(key, Arc::new([key; 8]));
    }
    for hit in 0..hits {
        black_box(cache.get(&(hit % ENTRIES)));
    }
}

fn larder(cache: &larder::Cache<u64, Arc<[u64; 8]>>, options: &EntryOptions, hits: u64) {
    for key in 0..ENTRIES {
        cache.insert_with(key, Arc::new([key; 8]), options.clone());
    }
    for hit in 0..hits {
        black_box(cache.get(&(hit % ENTRIES)));
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, hits] = arguments.as_slice() else {
        eprintln!("instructions CASE HITS");
        return ExitCode::FAILURE;
    };
    let Ok(hits) = hits.parse() else {
        eprintln!("HITS is {hits:?}, not a number");
        return ExitCode::FAILURE;
    };
    let builder = larder::mcache("instructions").capacity(10 * ENTRIES);
    let hour = Duration::from_secs(3600);
    let (builder, options) = match case.as_str() {
        "moka" => {
            moka(hits);
            return ExitCode::SUCCESS;
        }
        "plain" => (builder, EntryOptions::new()),
        "ttl" => (builder.ttl(hour), EntryOptions::new()),
        "all" => (builder.ttl(hour).stale(hour), EntryOptions::new().tag("a").tag("b")),
        other => {
            eprintln!("CASE is {other:?}; moka, plain, ttl and all are known");
            return ExitCode::FAILURE;
        }
    };
    match builder.build() {
        Ok(cache) => larder(&cache, &options, hits),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
