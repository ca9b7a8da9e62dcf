//! Warm restart: which entries are in memory again after a restart, and that nothing outdated is.

use std::path::Path;
use std::time::Duration;

use larder::{Cache, EntryOptions, Persistence, TierKind, TieredBuilder, ucache};
use larder_testkit::ManualClock;

use crate::flights::until;

fn warm(dir: &Path, files: bool) -> TieredBuilder<u64, String> {
    let builder = if files { larder::fcache("warm") } else { larder::bcache("warm") };
    // One shard of memory: several give their hottest entries in turn, and hashing may put more of the hot
    // keys of a test into one of them than its part of the list.
    builder.dir(dir).memory_bytes(256 << 10).warm_restart(50)
}

fn in_memory<V: Clone + Send + Sync + 'static>(cache: &Cache<u64, V>) -> u64 {
    cache.stats().tier(TierKind::Memory).unwrap().usage.entries
}

#[test]
fn hottest_entries_are_read_into_memory_after_reopening() {
    for files in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let cache = warm(dir.path(), files).build().unwrap();
        (0..200).for_each(|key| cache.insert(key, format!("value {key}")));
        for _ in 0..5 {
            (100..140).for_each(|key| assert!(cache.get(&key).is_some()));
        }
        cache.remove(&139);
        cache.close().unwrap();

        let cache = warm(dir.path(), files).build().unwrap();
        until(|| in_memory(&cache) == 50);
        assert_eq!(cache.get(&139), None, "removed before");
        let before = cache.stats().tier(TierKind::Memory).unwrap().counts.hits;
        for key in 100..139 {
            assert_eq!(cache.get(&key), Some(format!("value {key}")));
        }
        let hits = cache.stats().tier(TierKind::Memory).unwrap().counts.hits - before;
        assert_eq!(hits, 39, "the hot ones among them");
    }
}

#[test]
fn snapshot_lets_a_killed_cache_start_warm_without_outdated_values() {
    let dir = tempfile::tempdir().unwrap();
    let cache = warm(dir.path(), false).build().unwrap();
    (0..40).for_each(|key| cache.insert(key, format!("value {key}")));
    assert_eq!(cache.snapshot().unwrap(), 40);
    cache.insert(1, "newer".to_owned());
    cache.remove(&2);
    cache.invalidate(&3).unwrap();
    // Closing would write another list: the former one is put back.
    let list = dir.path().join("warm/hot");
    let kept = std::fs::read(&list).unwrap();
    cache.close().unwrap();
    std::fs::write(&list, kept).unwrap();

    let cache = warm(dir.path(), false).build().unwrap();
    until(|| in_memory(&cache) == 38);
    assert_eq!(cache.get(&1).as_deref(), Some("newer"));
    assert_eq!((cache.get(&2), cache.get(&3)), (None, None));
}

#[test]
fn memory_starts_cold_without_the_option_and_from_a_list_of_other_keys() {
    let dir = tempfile::tempdir().unwrap();
    let cache = warm(dir.path(), false).warm_restart(0).build().unwrap();
    cache.insert(1, "one".to_owned());
    assert_eq!(cache.snapshot().unwrap(), 0);
    cache.close().unwrap();
    let list = dir.path().join("warm/hot");
    assert!(!list.exists());

    // Keys of another type, and a list that is damaged.
    let texts = larder::bcache::<String, String>("warm").dir(dir.path()).warm_restart(10).build().unwrap();
    texts.insert("a long key of text".to_owned(), "text".to_owned());
    texts.close().unwrap();
    let cache = warm(dir.path(), false).build().unwrap();
    assert_eq!(cache.get(&1).as_deref(), Some("one"));
    cache.close().unwrap();
    std::fs::write(&list, b"LRDH nonsense").unwrap();
    let cache = warm(dir.path(), false).build().unwrap();
    assert_eq!(in_memory(&cache), 0);
    cache.destroy().unwrap();
    assert!(!list.exists());
}

#[test]
fn warm_restart_beyond_its_range_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = warm(dir.path(), false).warm_restart(1_000_001).build().unwrap_err().to_string();
    assert!(error.contains("warm_restart") && error.contains("1000001"), "{error}");
}

/// Small entries of this cache are at home in memory.
fn small(dir: &Path, clock: &ManualClock) -> TieredBuilder<u64, String> {
    ucache("small").dir(dir).memory_bytes(256 << 10).warm_restart(50).clock(clock.clone())
}

fn home(cache: &Cache<u64, String>, key: u64) -> Option<TierKind> {
    cache.inspect(&key).unwrap().map(|entry| entry.home)
}

/// They ended with the process: only keys were kept, and no tier had their values.
#[test]
fn entries_at_home_in_memory_are_in_memory_after_reopening() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let cache = small(dir.path(), &clock).build().unwrap();
    (0..10).for_each(|key| cache.insert(key, format!("value {key}")));
    let options = EntryOptions::new().ttl(Duration::from_secs(60)).tag("red");
    cache.insert_with(10, "tagged".to_owned(), options);
    assert!((0..11).all(|key| home(&cache, key) == Some(TierKind::Memory)));
    cache.close().unwrap();

    let cache = small(dir.path(), &clock).build().unwrap();
    until(|| in_memory(&cache) == 11);
    assert!((0..10).all(|key| cache.get(&key) == Some(format!("value {key}"))));
    let tagged = cache.inspect(&10).unwrap().unwrap();
    assert_eq!((tagged.tags.len(), tagged.left), (1, Some(Duration::from_secs(60))));
    assert_eq!(cache.stats().cache.misses, 0);
    cache.invalidate_tag("red").unwrap();
    assert_eq!(cache.get(&10), None, "tags work as before");
    cache.insert(1, "newer".to_owned());
    assert_eq!(home(&cache, 1), Some(TierKind::Memory), "a new value is placed as ever");
    assert_eq!(cache.get(&1).as_deref(), Some("newer"));
    cache.close().unwrap();
}

#[test]
fn entry_that_expired_meanwhile_is_not_there_after_reopening() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let cache = small(dir.path(), &clock).build().unwrap();
    let minute = || EntryOptions::new().ttl(Duration::from_secs(60));
    cache.insert_with(1, "brief".to_owned(), minute());
    cache.insert_with(2, "expired before".to_owned(), EntryOptions::new().ttl(Duration::from_secs(1)));
    cache.insert(3, "for ever".to_owned());
    clock.advance(Duration::from_secs(2));
    cache.close().unwrap();
    clock.advance(Duration::from_secs(58));
    let cache = small(dir.path(), &clock).build().unwrap();
    until(|| in_memory(&cache) == 1);
    assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3).as_deref()), (None, None, Some("for ever")));
    cache.close().unwrap();
}

/// The directory of a killed process: a copy of it, made while it ran.
fn killed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_all(dir, copy.path());
    copy
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                std::fs::create_dir_all(&target).unwrap();
                copy_all(&entry.path(), &target);
            }
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn change_after_a_snapshot_is_not_undone_by_a_restart() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let cache = small(dir.path(), &clock).build().unwrap();
    (0..8).for_each(|key| cache.insert(key, format!("value {key}")));
    cache.insert_with(8, "tagged".to_owned(), EntryOptions::new().tag("red"));
    assert_eq!(cache.snapshot().unwrap(), 9);
    assert_eq!(home(&cache, 0), Some(TierKind::Disk), "it outlives the process");
    cache.insert(1, "newer".to_owned());
    cache.remove(&2);
    cache.invalidate(&3).unwrap();
    assert_eq!(cache.take(&4).unwrap().as_deref(), Some("value 4"));
    cache.expire_in(&5, Duration::from_secs(1)).unwrap();
    cache.invalidate_tag("red").unwrap();
    cache.flush().unwrap();
    let copy = killed(dir.path());
    clock.advance(Duration::from_secs(2));
    let restarted = small(copy.path(), &clock).build().unwrap();
    until(|| in_memory(&restarted) == 3);
    // The newer value of 1 was at home in memory, and ended with the process.
    let kept = [0, 6, 7].map(|key| restarted.get(&key));
    assert_eq!(kept, [0, 6, 7].map(|key| Some(format!("value {key}"))));
    assert!([1, 2, 3, 4, 5, 8].iter().all(|key| restarted.get(key).is_none()));
    restarted.close().unwrap();

    cache.clear().unwrap();
    cache.flush().unwrap();
    let copy = killed(dir.path());
    let restarted = small(copy.path(), &clock).build().unwrap();
    assert!((0..9).all(|key| restarted.get(&key).is_none()), "cleared after the snapshot");
    restarted.close().unwrap();
    cache.close().unwrap();
}

#[test]
fn entry_that_is_to_end_with_the_process_does_so() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let cache = small(dir.path(), &clock).build().unwrap();
    let hints = [
        EntryOptions::new().persistence(Persistence::Ephemeral),
        EntryOptions::new().persistence(Persistence::Session),
        EntryOptions::new().home(TierKind::Memory),
    ];
    for (key, hint) in (0..).zip(hints) {
        cache.insert_with(key, "not on disk".to_owned(), hint);
    }
    cache.close().unwrap();
    let cache = small(dir.path(), &clock).build().unwrap();
    assert_eq!((0..3).find_map(|key| cache.get(&key)), None);
    cache.insert(4, "without the option".to_owned());
    cache.close().unwrap();
    let cold = || small(dir.path(), &clock).warm_restart(0).build().unwrap();
    let cache = cold();
    cache.insert(5, "at home in memory".to_owned());
    cache.close().unwrap();
    assert_eq!(cold().get(&5), None);
}
