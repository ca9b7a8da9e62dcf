//! The directory of a cache, or a file in it, is removed while the cache is open.
//!
//! The fault: writes went to deleted files and were reported as stored. They were lost when the
//! directory was opened again, and another process could lock the directory.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use larder::{Cache, Persistence, Sharing, bcache, fcache, ucache};

/// The time in which a cache must notice that a file or directory is gone.
const PATIENCE: Duration = Duration::from_secs(10);

type Open = fn(&Path) -> Cache<u64, Vec<u8>>;

const KINDS: [(&str, Open); 4] = [
    ("disk", |dir| bcache("gone").dir(dir).memory_bytes(0).build().unwrap()),
    ("files", |dir| fcache("gone").dir(dir).memory_bytes(0).build().unwrap()),
    ("every tier", |dir| {
        ucache("gone").dir(dir).memory_bytes(0).persistence(Persistence::LongTerm).build().unwrap()
    }),
    ("shared files", |dir| {
        fcache("gone").dir(dir).memory_bytes(0).sharing(Sharing::Processes).build().unwrap()
    }),
];

fn value(key: u64) -> Vec<u8> {
    // The bytes do not compress, so that some values need a segment.
    let mut bytes = vec![0; 200 + (key as usize % 7) * 3_000];
    fastrand::Rng::with_seed(key).fill(&mut bytes);
    bytes
}

/// Writes until a write succeeds. Returns the number of failed attempts.
fn write(cache: &Cache<u64, Vec<u8>>, key: u64) -> usize {
    (0..20).take_while(|_| cache.try_insert(key, value(key)).is_err()).count()
}

fn errors(cache: &Cache<u64, Vec<u8>>) -> u64 {
    cache.stats().tiers.iter().map(|tier| tier.counts.errors).sum()
}

/// Writes values of every size until a tier has noticed the loss: it counts an error, and the write fails or
/// is repeated in the new directory.
fn write_until_noticed(cache: &Cache<u64, Vec<u8>>) {
    let (before, deadline) = (errors(cache), Instant::now() + PATIENCE);
    while (60..67).all(|key| cache.try_insert(key, value(key)).is_ok()) && errors(cache) == before {
        assert!(Instant::now() < deadline, "the loss is not noticed\n{}", cache.stats());
    }
}

/// Checks that entries stored after `remove` deleted something are present after reopening.
fn check(what: &str, (kind, open): (&str, Open), remove: impl Fn(&Path)) {
    let parent = tempfile::tempdir().unwrap();
    let cache = open(parent.path());
    (0..50).for_each(|key| assert_eq!(write(&cache, key), 0, "{kind}"));
    cache.flush().unwrap();
    let before = errors(&cache);
    remove(cache.dir().unwrap());
    write_until_noticed(&cache);
    // Makes the other tiers check their files as well.
    let _there_may_be_none = cache.flush();
    let failed: usize = (100..150).map(|key| write(&cache, key)).sum();
    assert!(failed <= 3 && errors(&cache) > before, "{what}, {kind}: {failed} failed\n{}", cache.stats());
    assert!(cache.dir().unwrap().join("lock").exists(), "{what}, {kind}");
    cache.close().unwrap();
    drop(cache);
    let cache = open(parent.path());
    for key in (0..50).chain(100..150) {
        let found = cache.get(&key);
        assert!(found.is_none_or(|found| found == value(key)), "{what}, {kind}: a wrong value of {key}");
    }
    let kept = (100..150).filter(|key| cache.get(key).is_some()).count();
    assert!(kept >= 45, "{what}, {kind}: {kept} of 50 are there after reopening");
    cache.close().unwrap();
}

#[test]
fn directory_removed_while_open_is_created_again() {
    KINDS.into_iter().for_each(|kind| check("removed", kind, |dir| fs::remove_dir_all(dir).unwrap()));
}

#[test]
fn directory_replaced_while_open_is_not_mixed_with_the_new_one() {
    for kind in KINDS {
        check("replaced", kind, |dir| {
            fs::rename(dir, dir.with_extension("before")).unwrap();
            fs::create_dir(dir).unwrap();
        });
    }
}

#[test]
fn flush_and_close_fail_when_the_directory_is_gone() {
    for (kind, open) in KINDS {
        let parent = tempfile::tempdir().unwrap();
        let cache = open(parent.path());
        cache.try_insert(1, value(1)).unwrap();
        fs::remove_dir_all(cache.dir().unwrap()).unwrap();
        assert!(cache.flush().is_err(), "{kind}");
        assert_eq!(write(&cache, 2), 0, "{kind}: it goes on");
        cache.flush().unwrap();
        fs::remove_dir_all(cache.dir().unwrap()).unwrap();
        assert!(cache.close().is_err(), "{kind}");
    }
}

/// Removes every file whose path ends in `suffix`.
fn remove_files(dir: &Path, suffix: &str) {
    let found: Vec<_> = walkdir::WalkDir::new(dir)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file() && entry.path().to_string_lossy().ends_with(suffix))
        .collect();
    assert!(!found.is_empty(), "no {suffix}");
    found.iter().for_each(|entry| fs::remove_file(entry.path()).unwrap());
}

#[test]
fn disk_files_removed_while_open_are_detected() {
    for suffix in [".log", ".seg"] {
        let write_some = |dir: &Path| {
            let cache = KINDS[0].1(dir);
            (0..50).for_each(|key| assert_eq!(write(&cache, key), 0));
            cache
        };
        let parent = tempfile::tempdir().unwrap();
        let cache = write_some(parent.path());
        remove_files(cache.dir().unwrap(), suffix);
        write_until_noticed(&cache);
        assert_eq!(write(&cache, 101), 0, "{suffix}");
        cache.close().unwrap();
        drop(cache);
        let cache = KINDS[0].1(parent.path());
        assert_eq!(cache.get(&101), Some(value(101)), "{suffix}");
        assert_eq!(cache.get(&1), None, "{suffix}: it began anew");
        cache.close().unwrap();
    }
}

#[test]
fn directory_with_deleted_lock_file_stays_locked() {
    for (kind, open) in KINDS.into_iter().take(3) {
        let parent = tempfile::tempdir().unwrap();
        let cache = open(parent.path());
        let dir = cache.dir().unwrap().to_path_buf();
        fs::remove_file(dir.join("lock")).unwrap();
        // Locks as another process does: this process also keeps its own register beside the lock.
        let held = fs::File::open(&dir).unwrap();
        assert!(held.try_lock().is_err(), "{kind}");
        cache.close().unwrap();
        held.try_lock().unwrap();
    }
}
