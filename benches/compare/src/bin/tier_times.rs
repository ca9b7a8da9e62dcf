//! Measures how long the tiers beyond memory take for a read, a write and a read of an absent key, by size.
//! The sets of tiers of the simulation of placements (`larder_simulate::placement`) have these times.
//!
//! `cargo run --release --package larder-compare --bin tier_times -- FOLDER` prints a table: medians in
//! microseconds as the layer around each tier measured them. The caches lie in FOLDER, by default in the
//! folder for temporary files. A `redis-server` is started if there is one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement ends where it fails")]
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::path::PathBuf;

use larder::{Bytes, Cache, Compress, EntryOptions, TierKind, ucache};
use larder_testkit::{RedisServer, sample};

/// Sizes of values in bytes.
const SIZES: [usize; 8] = [50, 1 << 10, 10 << 10, 100 << 10, 1 << 20, 10 << 20, 50 << 20, 200 << 20];
/// At most this many entries of a size, and this many bytes of them.
const ENTRIES_MAX: usize = 2_000;
const BYTES_MAX: usize = 2 << 30;

fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let server = RedisServer::start();
    println!("| tier | bytes | read | write | absent |\n|---|--:|--:|--:|--:|");
    for kind in [TierKind::Disk, TierKind::File, TierKind::Redis] {
        for bytes in SIZES {
            let dir = tempfile::tempdir_in(&folder).unwrap();
            let open = || {
                let cache = ucache::<u64, Bytes>("times").memory_bytes(0).compress(Compress::None);
                match (kind, &server) {
                    (TierKind::Redis, Some(server)) => Some(cache.redis(server.url()).build().unwrap()),
                    (TierKind::Redis, None) => None,
                    _ => Some(cache.dir(dir.path()).disk_bytes(8 << 30).build().unwrap()),
                }
            };
            if let Some([read, write, absent]) = measure(open, kind, bytes) {
                println!("| {kind} | {bytes} | {read:.1} | {write:.1} | {absent:.1} |");
            }
        }
    }
}

/// Writes entries, reads keys that are not there, and reads the entries after the cache was opened again.
/// Medians in microseconds of a read, a write and a read of an absent key. `None` if there is no such tier,
/// or if it does not take entries of this size.
fn measure(open: impl Fn() -> Option<Cache<u64, Bytes>>, kind: TierKind, bytes: usize) -> Option<[f64; 3]> {
    let cache = open()?;
    let count = (BYTES_MAX / bytes).clamp(5, ENTRIES_MAX) as u64;
    let value = sample::payload(1, bytes);
    let is_home = |key| {
        let home = EntryOptions::new().home(kind);
        cache.try_insert_with(key, value.clone(), home).is_ok_and(|placement| placement.home == kind)
    };
    if !(0..count).all(is_home) {
        cache.destroy().unwrap();
        return None;
    }
    let mut keys: Vec<u64> = (0..count).collect();
    keys.sort_by_key(|key| key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    keys.iter().for_each(|key| drop(cache.get(&(key + 1_000_000))));
    let before = cache.stats().tier(kind)?.latency.clone();
    cache.close().unwrap();
    let cache = open()?;
    keys.iter().for_each(|key| assert!(cache.get(key).is_some()));
    let after = cache.stats().tier(kind)?.latency.clone();
    cache.destroy().unwrap();
    Some([after.get, before.put, before.get].map(|latency| latency.p50().as_secs_f64() * 1e6))
}
