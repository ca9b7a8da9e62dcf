//! Tests of the disk tier through the `Tier` trait.

mod budget;
#[cfg(all(unix, feature = "file"))]
mod crash;
mod old_databases;
mod recovery;
mod runs;
mod snapshot;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use larder_core::clock::Time;
use larder_core::frame::{CodecId, Compression, Frame, Head, Header};
use larder_core::key::EncodedKey;
use larder_core::place::Kind;
use larder_core::tier::{Tier, Usage};
use larder_core::{Bytes, Durability, ErrorKind, Result};
use tempfile::TempDir;

use crate::disk::row::{Pointer, RowKey};
use crate::disk::space::eviction::Survivors;
use crate::disk::store::Store;
use crate::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier};
use crate::disk_budget::DiskBudget;

const MIB: u64 = 1 << 20;
/// Polls once: a blocking tier is ready in the first poll.
fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a blocking tier waited"),
    }
}

fn key(name: impl ToString) -> EncodedKey {
    EncodedKey::new(name.to_string().into_bytes())
}

fn frame(key: &EncodedKey, payload: Vec<u8>) -> Frame {
    let header = Header {
        codec: CodecId::Raw,
        compression: Compression::None,
        kind: Kind::Bytes,
        schema: 0,
        shape: 0,
        created: Time::from_millis(1),
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 0,
        value_len: payload.len() as u64,
        load_cost: None,
    };
    Frame::new(&header, key, b"", payload.into())
}

/// Incompressible bytes that differ by seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn open_with(dir: &Path, limit: u64, crossover: u64) -> Result<DiskTier> {
    let durability = Durability::Buffered;
    DiskTier::open(DiskOptions {
        dir: dir.to_owned(),
        budget: DiskBudget::new(limit).share(),
        crossover,
        durability,
    })
}

fn open(dir: &Path) -> DiskTier {
    open_with(dir, 64 * MIB, CROSSOVER_BYTES).unwrap()
}

fn put(tier: &DiskTier, name: impl ToString, payload: Vec<u8>) {
    let key = key(name);
    now(tier.put(&key, &frame(&key, payload))).unwrap();
}

fn get(tier: &DiskTier, name: impl ToString) -> Option<Bytes> {
    now(tier.get(&key(name))).unwrap()
}

fn whole(name: impl ToString, payload: Vec<u8>) -> Option<Bytes> {
    Some(frame(&key(name), payload).to_vec().into())
}

fn usage(tier: &DiskTier) -> (u64, u64) {
    (tier.usage().entries, tier.usage().evictions)
}

/// Seals the active segment.
fn seal(tier: &DiskTier) {
    let seal = |store: &Store| {
        store.segments.seal_active();
        Ok(())
    };
    tier.with_store(seal).unwrap();
}

/// Freezes the newest memtable if it has rows, and compacts it together with the sorted runs in
/// `replaced`.
fn rotate(tier: &DiskTier, replaced: &[(u64, Survivors)]) {
    let mut compaction = tier.compaction.write();
    while compaction.is_some() || tier.with_store(|store| Ok(store.tables.frozen.is_some())).unwrap() {
        tier.step_compaction(&mut compaction, u64::MAX).unwrap();
        *compaction = tier.begin_compaction(&[], u64::MAX).unwrap();
    }
    if tier.with_store(|store| Ok(!store.tables.newest.is_empty())).unwrap() {
        tier.freeze().unwrap();
    }
    *compaction = tier.begin_compaction(replaced, u64::MAX).unwrap();
    tier.step_compaction(&mut compaction, u64::MAX).unwrap();
}

/// The numbers of all sorted runs.
fn runs(tier: &DiskTier) -> Vec<u64> {
    tier.with_store(|store| Ok(store.tables.runs.iter().rev().map(|run| run.number).collect())).unwrap()
}

fn segment_files(dir: &Path) -> usize {
    fs::read_dir(dir.join("segments")).unwrap().count()
}

/// Asserts that the usage of the tier is what `du` counts, except for the size of directories.
fn assert_near(counted: u64, dir: &Path) {
    let taken = super::layout::bytes_in(dir);
    assert!(counted.abs_diff(taken) <= 64 << 10, "{counted} counted, {taken} taken");
}

#[test]
fn frames_of_every_size_are_read_back() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    let edge = CROSSOVER_BYTES as usize - frame(&key(0), Vec::new()).len();
    let sizes = [0, 1, 100, edge - 1, edge, edge + 1, 70_000, 3 << 20];
    for (name, size) in sizes.into_iter().enumerate() {
        put(&tier, name, noise(name as u64, size));
    }
    for (name, size) in sizes.into_iter().enumerate() {
        assert_eq!(get(&tier, name), whole(name, noise(name as u64, size)), "payload of {size} bytes");
        assert!(now(tier.contains(&key(name))).unwrap());
    }
    assert_eq!(get(&tier, "none"), None);
    assert_eq!(usage(&tier), (8, 0));
    assert_eq!(segment_files(dir.path()), 1);
}

#[test]
fn long_keys_with_a_common_prefix_are_distinct() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    let names: Vec<String> = (0..3).map(|last| format!("{}{last}", "k".repeat(500))).collect();
    names.iter().for_each(|name| put(&tier, name, name.clone().into_bytes()));
    for name in &names {
        assert_eq!(get(&tier, name), whole(name, name.clone().into_bytes()));
    }
}

#[test]
fn closed_or_dropped_tier_reopens_at_once() {
    let dir = TempDir::new().unwrap();
    for round in 0..20u64 {
        let tier = open(dir.path());
        for earlier in 0..round {
            assert_eq!(get(&tier, earlier), whole(earlier, noise(earlier, 10)), "round {round}");
            assert_eq!(get(&tier, format!("l{earlier}")), whole(format!("l{earlier}"), noise(earlier, 9000)));
        }
        assert_eq!(usage(&tier), (2 * round, 0));
        put(&tier, round, noise(round, 10));
        put(&tier, format!("l{round}"), noise(round, 9000));
        if round % 2 == 0 {
            now(tier.flush()).unwrap();
            now(tier.close()).unwrap();
        }
    }
}

#[test]
fn overwrite_with_another_size_replaces_the_entry() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    for size in [10, 50_000, 60_000, 20, 5000] {
        put(&tier, "k", noise(1, size));
        assert_eq!(get(&tier, "k"), whole("k", noise(1, size)));
        assert_eq!(usage(&tier), (1, 0));
    }
    assert!(now(tier.remove(&key("k"))).unwrap());
    assert!(!now(tier.remove(&key("k"))).unwrap());
    assert_eq!((get(&tier, "k"), usage(&tier)), (None, (0, 0)));
}

#[test]
fn segment_without_rows_is_deleted() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    (0..12).for_each(|name| put(&tier, name, noise(name, 1 << 20)));
    assert_eq!(segment_files(dir.path()), 4, "segments of 4 MiB hold three such frames");
    let before = tier.usage().bytes;
    (0..9).for_each(|name| assert!(now(tier.remove(&key(name))).unwrap()));
    assert_eq!(segment_files(dir.path()), 1, "the active one stays");
    assert!(before - tier.usage().bytes >= 9 * MIB);
    (0..3).for_each(|name| put(&tier, name, noise(name, 4 << 20)));
    assert_eq!(get(&tier, 11), whole(11, noise(11, 1 << 20)));
    assert_eq!(get(&tier, 1), whole(1, noise(1, 4 << 20)), "larger than a segment");
}

fn check_budget(size: usize, keys: u64, crossover: u64) {
    let dir = TempDir::new().unwrap();
    let limit = 8 * MIB;
    let tier = open_with(dir.path(), limit, crossover).unwrap();
    let mut most = 0;
    for round in 0..4 * limit / size as u64 {
        put(&tier, round % keys, noise(round, size));
        if round % 16 == 0 {
            most = most.max(super::layout::bytes_in(dir.path()));
        }
    }
    let last = 4 * limit / size as u64 - 1;
    assert_eq!(get(&tier, last % keys), whole(last % keys, noise(last, size)), "the last one is there");
    let allowed = limit + limit / 4;
    assert!(most <= allowed, "{most} bytes on disk, {allowed} allowed: {size} bytes, {keys} keys");
    let usage = tier.usage();
    now(tier.close()).unwrap();
    drop(tier);
    let tier = open_with(dir.path(), limit, crossover).unwrap();
    assert_eq!(tier.usage().entries, usage.entries, "{size} bytes, {keys} keys");
}

#[test]
fn the_budget_holds_for_small_entries() {
    check_budget(300, u64::MAX, CROSSOVER_BYTES);
    check_budget(300, 50, CROSSOVER_BYTES);
    check_budget(3000, u64::MAX, CROSSOVER_BYTES);
}

#[test]
fn the_budget_holds_for_large_entries() {
    check_budget(10_000, u64::MAX, CROSSOVER_BYTES);
    check_budget(10_000, 50, CROSSOVER_BYTES);
    check_budget(1_500_000, u64::MAX, CROSSOVER_BYTES);
    check_budget(300, u64::MAX, 0);
}

#[test]
fn the_budget_holds_for_a_mixture() {
    let dir = TempDir::new().unwrap();
    let limit = 16 * MIB;
    let tier = open_with(dir.path(), limit, CROSSOVER_BYTES).unwrap();
    for name in 0..6000u64 {
        put(&tier, name, noise(name, if name % 3 == 0 { 20_000 } else { 1000 }));
        if name % 100 == 0 {
            let bytes = super::layout::bytes_in(dir.path());
            assert!(bytes <= limit + limit / 4, "{bytes} bytes after {name} entries");
        }
    }
    let found = (0..6000).filter(|name| now(tier.contains(&key(name))).unwrap()).count() as u64;
    assert_eq!(found, tier.usage().entries);
    assert_eq!(6000 - found, tier.usage().evictions);
}

#[test]
fn compaction_keeps_all_entries_and_eviction_keeps_read_ones() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    (0..100).for_each(|name| put(&tier, name, noise(name, 200)));
    put(&tier, "large", noise(7, 9000));
    rotate(&tier, &[]);
    put(&tier, 99, noise(99, 201));
    rotate(&tier, &[]);
    assert_eq!((usage(&tier), runs(&tier)), ((101, 0), vec![1, 2]));
    (0..100)
        .for_each(|name| assert_eq!(get(&tier, name), whole(name, noise(name, 200 + name as usize / 99))));
    rotate(&tier, &[(1, Survivors::Live)]);
    assert_eq!((usage(&tier), runs(&tier)), ((101, 0), vec![1, 2]), "in its own place");
    (0..20).for_each(|name| assert!(get(&tier, name).is_some()));
    rotate(&tier, &[(1, Survivors::Read)]);
    assert_eq!(usage(&tier), (22, 79));
    (0..20).for_each(|name| assert_eq!(get(&tier, name), whole(name, noise(name, 200))));
    (20..99).for_each(|name| assert_eq!(get(&tier, name), None));
    assert_eq!(get(&tier, 99), whole(99, noise(99, 201)));
    assert_eq!(get(&tier, "large"), whole("large", noise(7, 9000)));
    assert_eq!(fs::read_dir(dir.path().join("journal")).unwrap().count(), 0);
    assert_near(tier.usage().bytes, dir.path());
    drop(tier);
    let tier = open(dir.path());
    assert_eq!((usage(&tier), runs(&tier)), ((22, 0), vec![1, 2]));
}

#[test]
fn overwritten_or_removed_entry_does_not_return_after_compaction_and_reopening() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    (0..3).for_each(|name| put(&tier, name, noise(name, 9000)));
    rotate(&tier, &[]);
    assert!(get(&tier, 0).is_some());
    put(&tier, 1, noise(11, 100));
    assert!(now(tier.remove(&key(0))).unwrap());
    assert!(now(tier.remove(&key(2))).unwrap());
    assert_eq!(usage(&tier), (1, 0));
    drop(tier);
    let tier = open(dir.path());
    assert_eq!(usage(&tier), (1, 0));
    assert_eq!((get(&tier, 0), get(&tier, 2)), (None, None));
    assert_eq!(get(&tier, 1), whole(1, noise(11, 100)));
    assert_eq!(segment_files(dir.path()), 0, "the older pointer to entry 1 is not valid");
}

#[test]
fn evicted_segment_copies_read_entries_once() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    (0..10).for_each(|name| put(&tier, name, noise(name, 90_000)));
    assert!(get(&tier, 3).is_some());
    for (segment, entries) in [(1, 1), (2, 0)] {
        seal(&tier);
        tier.drop_segment(segment, Survivors::Read).unwrap();
        assert_eq!(usage(&tier), (entries, 10 - entries), "segment {segment}");
    }
    assert_eq!(segment_files(dir.path()), 0);
}

#[test]
fn merged_segment_copies_all_entries() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    (0..10).for_each(|name| put(&tier, name, noise(name, 90_000)));
    seal(&tier);
    tier.drop_segment(1, Survivors::Live).unwrap();
    assert_eq!(usage(&tier), (10, 0));
    (0..10).for_each(|name| assert_eq!(get(&tier, name), whole(name, noise(name, 90_000))));
}

#[test]
fn put_without_room_is_refused() {
    let dir = TempDir::new().unwrap();
    let budget = DiskBudget::new(8 * MIB);
    let others = budget.share();
    others.set(8 * MIB);
    let options = DiskOptions {
        dir: dir.path().to_owned(),
        budget: budget.share(),
        crossover: CROSSOVER_BYTES,
        durability: Durability::Buffered,
    };
    let tier = DiskTier::open(options).unwrap();
    let key = key("k");
    let result = now(tier.put(&key, &frame(&key, noise(1, 100))));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Full);
    let result = now(tier.put(&key, &frame(&key, noise(1, 3 << 20))));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::TooLarge);
    others.set(0);
    now(tier.put(&key, &frame(&key, noise(1, 100)))).unwrap();
}

#[test]
fn entries_of_a_missing_segment_are_misses() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 9000));
    put(&tier, "short", noise(1, 9000));
    drop(tier);
    let path = dir.path().join("segments/00000000000000000001.seg");
    let len = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len - 1).unwrap();
    let tier = open(dir.path());
    assert_eq!((get(&tier, "short"), usage(&tier)), (None, (1, 0)));
    assert_eq!(get(&tier, "k"), whole("k", noise(1, 9000)));
    drop(tier);
    fs::remove_file(&path).unwrap();
    let tier = open(dir.path());
    assert_eq!((get(&tier, "k"), usage(&tier)), (None, (0, 0)));
    put(&tier, "k", noise(2, 9000));
    assert!(dir.path().join("segments/00000000000000000002.seg").exists(), "numbers are not used again");
}

#[test]
fn entry_of_a_segment_truncated_while_open_is_a_miss() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 9000));
    let path = dir.path().join("segments/00000000000000000001.seg");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert_eq!((get(&tier, "k"), usage(&tier)), (None, (0, 0)));
}

#[test]
fn invalid_rows_are_misses() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 9000));
    let max = u64::MAX;
    let pointers = [(1, max, max), (1, 0, max), (1, 9000, 9000), (max, 0, 1), (0, 0, 0), (1, max, 1)];
    let pointers =
        pointers.map(|(segment, offset, len)| Pointer { segment, offset, len }.to_value().to_vec());
    let values = pointers.into_iter().chain([vec![], vec![9; 9], vec![1, 2, 3]]);
    for reopen in [false, true] {
        let tier = open(&dir.path().join(reopen.to_string()));
        for (name, value) in values.clone().enumerate() {
            let row = RowKey::of(&key(name));
            tier.with_store(|store| store.tables.insert(row.as_ref(), value)).unwrap();
        }
        put(&tier, "k", noise(1, 9000));
        let tier = if reopen {
            drop(tier);
            open(&dir.path().join("true"))
        } else {
            tier
        };
        let mut heads = 0;
        now(tier.scan(&mut |_| heads += 1)).unwrap();
        (0..9).for_each(|name| assert_eq!(get(&tier, name), None, "row {name}"));
        assert_eq!((heads, usage(&tier)), (1, (1, 0)));
        put(&tier, "l", noise(1, 9000));
        assert!(get(&tier, "l").is_some());
    }
}

#[test]
fn foreign_files_are_kept() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()));
    let foreign = ["notes.txt", "1.seg", "0000000000000000000x.seg", "99999999999999999999.seg"];
    let foreign = foreign.map(|name| dir.path().join("segments").join(name));
    foreign.iter().for_each(|path| fs::write(path, "mine").unwrap());
    fs::create_dir(dir.path().join("db/backup")).unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 9000));
    now(tier.clear()).unwrap();
    drop(tier);
    drop(open(dir.path()));
    foreign.iter().for_each(|path| assert_eq!(fs::read(path).unwrap(), b"mine"));
    assert!(dir.path().join("db/backup").exists());
}

#[test]
fn cleared_tier_is_empty_and_accepts_puts() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    (0..20).for_each(|name| put(&tier, name, noise(name, if name % 2 == 0 { 10 } else { 9000 })));
    rotate(&tier, &[]);
    (0..5).for_each(|name| put(&tier, name, noise(name, 20)));
    now(tier.clear()).unwrap();
    assert_eq!((usage(&tier), segment_files(dir.path())), ((0, 0), 0));
    (0..20).for_each(|name| assert_eq!(get(&tier, name), None));
    put(&tier, 1, noise(1, 9000));
    drop(tier);
    let tier = open(dir.path());
    assert_eq!(usage(&tier), (1, 0));
    assert_eq!(get(&tier, 1), whole(1, noise(1, 9000)));
}

#[test]
fn a_scan_visits_each_head_once() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    let long = "x".repeat(10_000);
    (0..20).for_each(|name| put(&tier, name, noise(name, if name % 2 == 0 { 10 } else { 90_000 })));
    put(&tier, &long, noise(1, 90_000));
    rotate(&tier, &[]);
    (0..7).for_each(|name| assert!(get(&tier, name).is_some()));
    put(&tier, 19, noise(19, 30));
    let mut seen = Vec::new();
    now(tier.scan(&mut |head| seen.push(Head::parse(head).unwrap().key.to_vec()))).unwrap();
    seen.sort();
    let mut expected: Vec<Vec<u8>> = (0..20).map(|name| name.to_string().into_bytes()).collect();
    expected.push(long.into_bytes());
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn closed_tier_fails_every_call() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 9000));
    now(tier.close()).unwrap();
    now(tier.close()).unwrap();
    let key = key("k");
    let frame = frame(&key, Vec::new());
    let errors = [
        now(tier.get(&key)).map(|_| ()),
        now(tier.put(&key, &frame)),
        now(tier.remove(&key)).map(|_| ()),
        now(tier.contains(&key)).map(|_| ()),
        now(tier.clear()),
        now(tier.scan(&mut |_| {})),
        now(tier.flush()),
    ];
    for result in errors {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(tier.usage(), Usage::default());
}

#[test]
fn path_that_cannot_be_a_directory_is_unavailable() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "mine").unwrap();
    for path in [path.clone(), path.join("below")] {
        let error = open_with(&path, 64 * MIB, CROSSOVER_BYTES).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
}

#[test]
fn suspect_store_is_reopened_by_the_next_put() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    (0..10).for_each(|name| put(&tier, name, noise(name, 10_000 * (name as usize % 2))));
    tier.needs_reopen.store(true, Ordering::Release);
    put(&tier, 10, noise(10, 10));
    assert!(!tier.needs_reopen.load(Ordering::Acquire));
    assert_eq!(usage(&tier), (11, 0));
    (0..10).for_each(|name| {
        assert_eq!(get(&tier, name), whole(name, noise(name, 10_000 * (name as usize % 2))));
    });
    assert_near(tier.usage().bytes, dir.path());
}

#[cfg(unix)]
#[test]
fn directories_and_files_are_private_to_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let dir = dir.path().join("a/b");
    let tier = open(&dir);
    put(&tier, "k", noise(1, 9000));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("segments")), 0o700);
    assert_eq!(mode(&dir.join("segments/00000000000000000001.seg")), 0o600);
    assert_eq!(mode(&dir.join("journal/00000000000000000001.log")), 0o600);
}

#[test]
fn concurrent_gets_never_bring_back_a_removed_entry() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    for round in 0..40u64 {
        (0..50).for_each(|name| put(&tier, name, noise(round, 50)));
        rotate(&tier, &[]);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        (0..50).for_each(|name| drop(get(&tier, name)));
                    }
                });
            }
            for name in 0..50 {
                if name % 2 == 0 {
                    now(tier.remove(&key(name))).unwrap();
                    assert_eq!(get(&tier, name), None, "round {round}");
                } else {
                    put(&tier, name, noise(round + 1, 60));
                    assert_eq!(get(&tier, name), whole(name, noise(round + 1, 60)), "round {round}");
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        for name in 0..50 {
            let expected = if name % 2 == 0 { None } else { whole(name, noise(round + 1, 60)) };
            assert_eq!(get(&tier, name), expected, "round {round}");
        }
        assert_eq!(tier.usage().entries, 25);
    }
}

#[test]
fn entries_stay_readable_during_compaction() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    let small = |name: u64| name.is_multiple_of(2);
    (0..40).for_each(|name| put(&tier, name, noise(name, if small(name) { 50 } else { 9000 })));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for name in 0..40 {
                        assert!(get(&tier, name).is_some(), "entry {name}");
                    }
                }
            });
        }
        for _ in 0..30 {
            let replaced: Vec<_> = runs(&tier).iter().map(|run| (*run, Survivors::Live)).collect();
            rotate(&tier, &replaced);
            let _alone = tier.compaction.write();
            seal(&tier);
            let sealed = tier.with_store(|store| Ok(store.segments.sealed())).unwrap();
            sealed.iter().for_each(|one| tier.drop_segment(one.number, Survivors::Live).unwrap());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(usage(&tier), (40, 0));
}

#[test]
fn concurrent_writers_of_distinct_keys_do_not_interfere() {
    let dir = TempDir::new().unwrap();
    let limit = 16 * MIB;
    let tier = open_with(dir.path(), limit, CROSSOVER_BYTES).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let tier = &tier;
            scope.spawn(move || {
                for round in 0..600u64 {
                    let name = format!("{thread}/{}", round % 20);
                    let payload = noise(round, if round % 3 == 0 { 20_000 } else { 500 });
                    put(tier, &name, payload.clone());
                    let found = get(tier, &name);
                    assert!(found.is_none() || found == whole(&name, payload), "{name}");
                    if round % 7 == 0 {
                        assert!(get(tier, &name).is_none() || now(tier.remove(&key(&name))).unwrap());
                        assert_eq!(get(tier, &name), None);
                    }
                }
            });
        }
    });
    let mut entries = 0;
    now(tier.scan(&mut |_| entries += 1)).unwrap();
    assert_eq!(tier.usage().entries, entries);
    assert!(super::layout::bytes_in(dir.path()) <= limit + limit / 4);
}
