//! A file system that other programs fill below the budget of a cache: the cache evicts entries.
//!
//! The fault: no new entry was stored any more. The cause: `ENOSPC` counted as a failure of the
//! tier, and nothing was evicted because the budget was not reached.

use std::fs;
use std::path::Path;
use std::time::Duration;

use larder::{Cache, EntryOptions, Persistence, TierKind, bcache, fcache, ucache};
use larder_testkit::ManualClock;

use crate::full::Mounted;

const BUDGET: u64 = 256 << 20;

fn disk(dir: &Path) -> Cache<u64, Vec<u8>> {
    bcache("short").dir(dir).memory_bytes(0).disk_bytes(BUDGET).build().unwrap()
}

fn files(dir: &Path) -> Cache<u64, Vec<u8>> {
    fcache("short").dir(dir).memory_bytes(0).disk_bytes(BUDGET).build().unwrap()
}

fn every_tier(dir: &Path) -> Cache<u64, Vec<u8>> {
    let cache = ucache("short").dir(dir).memory_bytes(0).disk_bytes(BUDGET);
    cache.persistence(Persistence::LongTerm).build().unwrap()
}

/// Incompressible bytes that depend on the key.
fn value(key: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(key).fill(&mut bytes);
    bytes
}

/// Writes `keys`. Returns the number of failed writes.
fn write(cache: &Cache<u64, Vec<u8>>, keys: std::ops::Range<u64>, len: usize) -> u64 {
    keys.map(|key| u64::from(cache.try_insert(key, value(key, len)).is_err())).sum()
}

/// Returns the number of `keys` that are present. Panics at a value of another key.
fn found(cache: &Cache<u64, Vec<u8>>, keys: std::ops::Range<u64>, len: usize) -> u64 {
    let found = keys.filter(|key| match cache.get(key) {
        Some(found) => {
            assert_eq!(found, value(*key, len), "of {key}");
            true
        }
        None => false,
    });
    found.count() as u64
}

/// Writes three times as much as the file system has room for.
fn check_takes_new_entries(open: fn(&Path) -> Cache<u64, Vec<u8>>, options: &str, len: usize, count: u64) {
    let Some(mounted) = Mounted::new(options) else { return };
    let cache = open(mounted.path());
    let failed = write(&cache, 0..count, len);
    assert!(failed <= count / 20, "{failed} of {count} writes failed\n{}", cache.stats());
    let newest = found(&cache, count - 10..count, len);
    assert!(newest >= 5, "{newest} of the last 10 are there\n{}", cache.stats());
    let evicted: u64 = cache.stats().tiers.iter().map(|tier| tier.usage.evictions).sum();
    assert!(evicted > 0, "it never was full\n{}", cache.stats());
    found(&cache, 0..count, len);
    cache.close().unwrap();
    drop(cache);
    let cache = open(mounted.path());
    assert!(found(&cache, 0..count, len) > 0, "nothing is there after reopening");
    cache.close().unwrap();
}

#[test]
fn disk_on_a_full_medium_evicts_large_entries() {
    check_takes_new_entries(disk, "size=16m", 20_000, 2_400);
}

#[test]
fn disk_on_a_full_medium_evicts_small_entries() {
    check_takes_new_entries(disk, "size=12m", 400, 60_000);
}

#[test]
fn files_on_a_full_medium_evict_entries() {
    check_takes_new_entries(files, "size=8m", 20_000, 1_200);
}

#[test]
fn files_on_a_medium_without_inodes_evict_entries() {
    check_takes_new_entries(files, "size=64m,nr_inodes=300", 2_000, 1_500);
}

#[test]
fn every_tier_on_a_full_medium_evicts_entries() {
    check_takes_new_entries(every_tier, "size=16m", 20_000, 2_400);
}

/// Writes long-lived entries first, so that they are the oldest, and then others until the file
/// system is full. Once those expire, new entries may only take their space.
fn check_expired_go_first(open: impl Fn(&Path, ManualClock) -> Cache<u64, Vec<u8>>) {
    const LEN: usize = 20_000;
    let Some(mounted) = Mounted::new("size=24m") else { return };
    let clock = ManualClock::default();
    let cache = open(mounted.path(), clock.clone());
    assert_eq!(write(&cache, 0..100, LEN), 0);
    let short = EntryOptions::new().ttl(Duration::from_secs(1));
    for key in 1_000..1_500 {
        cache.try_insert_with(key, value(key, LEN), short.clone()).unwrap();
    }
    clock.advance(Duration::from_secs(2));
    fs::write(mounted.path().join("others"), vec![7; 64 << 20]).unwrap_err();
    let failed = write(&cache, 2_000..2_300, LEN);
    assert!(failed <= 3, "{failed} writes failed\n{}", cache.stats());
    assert_eq!(found(&cache, 0..100, LEN), 100, "what has not expired stays\n{}", cache.stats());
    assert!(found(&cache, 2_290..2_300, LEN) >= 9, "{}", cache.stats());
    cache.close().unwrap();
}

#[test]
fn expired_entries_of_disk_make_room_first() {
    check_expired_go_first(|dir, clock| {
        bcache("short").dir(dir).memory_bytes(0).disk_bytes(BUDGET).clock(clock).build().unwrap()
    });
}

#[test]
fn expired_files_make_room_first() {
    check_expired_go_first(|dir, clock| {
        fcache("short").dir(dir).memory_bytes(0).disk_bytes(BUDGET).clock(clock).build().unwrap()
    });
}

#[test]
fn budget_grows_back_when_the_file_system_has_room() {
    for (kind, open) in [(TierKind::Disk, disk as fn(&Path) -> _), (TierKind::File, files)] {
        let Some(mounted) = Mounted::new("size=32m") else { return };
        let others = mounted.path().join("others");
        fs::write(&others, vec![7; 22 << 20]).unwrap();
        let cache = open(mounted.path());
        write(&cache, 0..1_500, 20_000);
        let usage = || cache.stats().tier(kind).unwrap().usage;
        assert!(usage().evictions > 0, "{kind}: the medium was never short\n{}", cache.stats());
        assert!(usage().entries * 20_000 <= 10 << 20, "{kind}: {:?}", usage());
        fs::remove_file(others).unwrap();
        write(&cache, 2_000..5_000, 20_000);
        assert!(usage().bytes >= 20 << 20, "{kind}: {:?}\n{}", usage(), cache.stats());
        cache.close().unwrap();
    }
}

#[test]
fn write_that_fails_on_a_short_medium_leaves_no_former_entry() {
    let Some(mounted) = Mounted::new("size=8m") else { return };
    // Segments of 1 MiB: the former entry is not in the one that makes room.
    let cache = bcache("short").dir(mounted.path()).memory_bytes(0).disk_bytes(16 << 20).build().unwrap();
    assert_eq!(write(&cache, 0..200, 20_000), 0);
    let is_refused = |key: &u64| cache.try_insert(*key, value(*key, 60_000)).is_err();
    let refused = (0..200).rev().find(is_refused).expect("it is short at some time");
    assert!(cache.get(&refused).is_none(), "the former value of {refused} is served\n{}", cache.stats());
    assert!(cache.get(&(refused - 1)).is_some(), "its neighbour was not overwritten\n{}", cache.stats());
    cache.close().unwrap();
}

/// The fault: the calling thread tried once more, so no caller learned that the medium is short.
#[test]
fn first_write_on_a_medium_that_is_short_tells_the_caller() {
    for open in [disk as fn(&Path) -> _, files] {
        let Some(mounted) = Mounted::new("size=8m") else { return };
        let cache = open(mounted.path());
        let failed = write(&cache, 0..600, 20_000);
        assert_eq!(failed, 1, "{}", cache.stats());
        cache.close().unwrap();
    }
}
