//! Operations on disk for callgrind and strace to count: `disk_operation CASE BYTES OPERATIONS`.
//!
//! The cost of an operation is the difference of two runs, divided by the difference of their operations.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program for measurements"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use larder::{Cache, Compress};

const ENTRIES: u64 = 1000;
const DISK_BYTES: u64 = 1 << 30;

fn cache(kind: &str, dir: &Path) -> Cache<u64, Vec<u8>> {
    let memory_bytes = if kind.starts_with("fronted") { 64 << 10 } else { 0 };
    let built = if kind.starts_with("file") {
        let builder = larder::fcache::<u64, Vec<u8>>("operations").dir(dir).disk_bytes(DISK_BYTES);
        builder.memory_bytes(0).compress(Compress::None).build()
    } else {
        let builder = larder::bcache::<u64, Vec<u8>>("operations").dir(dir).disk_bytes(DISK_BYTES);
        builder.memory_bytes(memory_bytes).compress(Compress::None).build()
    };
    built.expect("the cache opens")
}

fn larder(case: &str, dir: &Path, value: &[u8], operations: u64) {
    let cache = cache(case, dir);
    let put = |key: u64| cache.try_insert(key, value.to_vec()).expect("a tier takes it");
    for key in 0..ENTRIES {
        put(key);
    }
    for operation in 0..operations {
        let key = operation.wrapping_mul(7919) % ENTRIES;
        if case.ends_with("put") {
            put(key);
        } else {
            assert!(black_box(cache.get(&key)).is_some());
        }
    }
    cache.close().expect("the cache closes");
}

fn sled(case: &str, dir: &Path, value: &[u8], operations: u64) {
    let db = sled::open(dir).expect("sled opens");
    for key in 0..ENTRIES {
        db.insert(key.to_be_bytes(), value).expect("sled writes");
    }
    for operation in 0..operations {
        let key = operation.wrapping_mul(7919) % ENTRIES;
        if case.ends_with("put") {
            db.insert(key.to_be_bytes(), value).expect("sled writes");
        } else {
            black_box(db.get(key.to_be_bytes()).expect("sled reads").map(|value| value.to_vec()));
        }
    }
}

/// Puts as many keys in no order into a budget of 512 MiB, then reads the last ones; prints times.
fn fill(dir: &Path, value: &[u8], count: u64) {
    let builder = larder::bcache::<u64, Vec<u8>>("fill").dir(dir).disk_bytes(512 << 20);
    let cache = builder.memory_bytes(0).compress(Compress::None).build().expect("the cache opens");
    // An odd factor: every number has one other.
    let key = |nth: u64| nth.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (mut times, begun) = (Vec::with_capacity(count as usize), Instant::now());
    for nth in 0..count {
        let (value, put) = (value.to_vec(), Instant::now());
        cache.try_insert(key(nth), value).expect("a tier takes it");
        times.push(put.elapsed());
    }
    let (wall, last) = (begun.elapsed(), count.min((64 << 20) / value.len() as u64));
    let begun = Instant::now();
    let found = (0..last).filter(|nth| cache.get(&key(count - 1 - nth * 7919 % last)).is_some()).count();
    let read = begun.elapsed();
    let over = times.iter().filter(|time| time.as_millis() >= 6).count();
    times.sort_unstable();
    let slow = times[times.len() - 1 - times.len() / 10_000];
    println!(
        "put: {} ns in the mean, {slow:?} for one in 10,000, slowest {:?}, {over} over 6 ms; hit: {} ns, {found} of {last} found",
        wall.as_nanos() as u64 / count,
        times.last().expect("there was a put"),
        read.as_nanos() as u64 / last,
    );
    cache.close().expect("the cache closes");
}

/// Prints which part of a budget of 64 MiB is values, after three times the budget was written.
fn live(dir: &Path, value: &[u8]) {
    let budget = 64 << 20;
    let builder = larder::bcache::<u64, Vec<u8>>("live").dir(dir).disk_bytes(budget);
    let cache = builder.memory_bytes(0).compress(Compress::None).build().expect("the cache opens");
    let keys = 3 * budget / value.len() as u64;
    for key in 0..keys {
        cache.try_insert(key, value.to_vec()).expect("a tier takes it");
    }
    let found = (0..keys).filter(|key| cache.get(key).is_some()).count();
    println!("live: {:.3} of the budget", (found * value.len()) as f64 / budget as f64);
    cache.close().expect("the cache closes");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, bytes, operations] = arguments.as_slice() else {
        eprintln!(
            "disk_operation hit|put|fronted_hit|file_hit|file_put|sled_hit|sled_put|live|fill BYTES OPERATIONS"
        );
        std::process::exit(2);
    };
    let number = |text: &str| text.parse::<u64>().expect("BYTES and OPERATIONS are numbers");
    let value: Vec<u8> = (0..number(bytes)).map(|at| at.wrapping_mul(31) as u8).collect();
    let dir = tempfile::tempdir().expect("a directory is made");
    if case == "live" {
        return live(dir.path(), &value);
    }
    if case == "fill" {
        return fill(dir.path(), &value, number(operations));
    }
    let run = if case.starts_with("sled") { sled } else { larder };
    run(case, dir.path(), &value, number(operations));
}
