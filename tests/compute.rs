//! Changes that a function decides: `compute`, `invalidate_if`; and what finds entries by walking over
//! them: `sweep`, and the calls by the name of a cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use larder::{Cache, CacheKind, Compute, EntryOptions, ErrorKind, Loaded, TierKind};
use larder_testkit::{ManualClock, block_on};

use crate::tier_sets::{each_tier_set, reopened, tiered};

const MINUTE: Duration = Duration::from_secs(60);

type Texts = Cache<u64, String>;

#[test]
fn compute_stores_keeps_or_removes_what_it_found() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Texts, _clock: ManualClock| {
        let mut seen = Vec::new();
        let mut step = |step: Compute<String>| {
            let value = cache.compute(1, |found| {
                seen.push(found);
                step.clone()
            });
            let value = value.unwrap();
            assert_eq!(cache.get(&1), value, "{tier_set}: {step:?}");
            value
        };
        assert_eq!(step(Compute::Keep), None);
        assert_eq!(step(Compute::Remove), None);
        assert_eq!(step(Compute::Put("a".into())).as_deref(), Some("a"));
        assert_eq!(step(Compute::Keep).as_deref(), Some("a"));
        assert_eq!(step(Compute::PutWith("b".into(), EntryOptions::new())).as_deref(), Some("b"));
        assert_eq!(step(Compute::Remove), None);
        assert_eq!(step(Compute::Keep), None);
        let seen: Vec<_> = seen.iter().map(Option::as_deref).collect();
        assert_eq!(seen, [None, None, None, Some("a"), Some("a"), Some("b"), None], "{tier_set}");
        let counts = cache.stats().cache;
        assert_eq!((counts.insertions, counts.removals, cache.len()), (2, 1, 0), "{tier_set}");
    });
}

#[test]
fn put_keeps_the_deadline_and_the_tags_of_the_entry_and_put_with_replaces_them() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Texts, clock: ManualClock| {
        for key in [1, 2] {
            cache.insert_with(key, "a".into(), EntryOptions::new().ttl(MINUTE).tag("old"));
        }
        clock.advance(MINUTE / 2);
        cache.compute(1, |_| Compute::Put("b".into())).unwrap();
        let options = EntryOptions::new().ttl(MINUTE).tag("new");
        cache.compute(2, |_| Compute::PutWith("b".into(), options.clone())).unwrap();
        let tags = |key| cache.inspect(&key).unwrap().unwrap().tags;
        assert_eq!((tags(1)[0].as_str(), tags(2)[0].as_str()), ("old", "new"), "{tier_set}");
        clock.advance(MINUTE / 2);
        assert_eq!((cache.get(&1), cache.get(&2).as_deref()), (None, Some("b")), "{tier_set}");
        let found_expired = cache.compute(1, |found| {
            assert_eq!(found, None, "{tier_set}: an expired entry counts as absent");
            Compute::Keep
        });
        assert_eq!(found_expired.unwrap(), None);
    });
}

#[test]
fn concurrent_steps_lose_no_change() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Texts, _clock: ManualClock| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let add = |found: Option<String>| Compute::Put(found.unwrap_or_default() + "x");
                        cache.compute(1, add).unwrap();
                    }
                });
            }
        });
        assert_eq!(cache.get(&1), Some("x".repeat(200)), "{tier_set}");
    });
}

#[test]
fn concurrent_steps_of_tasks_lose_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let cache = tiered::<u64, String>("all tiers", dir.path(), &ManualClock::default()).build().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks = (0..8).map(|_| {
            let cache = cache.to_async();
            tokio::spawn(async move {
                for _ in 0..25 {
                    let add = |found: Option<String>| Compute::Put(found.unwrap_or_default() + "x");
                    cache.compute(1, add).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    assert_eq!(cache.get(&1), Some("x".repeat(200)));
    cache.close().unwrap();
}

#[test]
fn load_in_progress_is_not_stored_after_a_step() {
    let cache = larder::mcache::<u64, u64>("superseding").build().unwrap();
    for step in [Compute::Keep, Compute::Remove, Compute::Put(7)] {
        let loaded = cache.get_with(1, || {
            cache.compute(1, |_| step.clone()).unwrap();
            5
        });
        assert_eq!(loaded, 5, "{step:?}");
        assert_eq!(cache.get(&1), if step == Compute::Put(7) { Some(7) } else { None }, "{step:?}");
    }
}

#[test]
fn function_that_panics_changes_nothing_and_unlocks_the_key() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Texts, _clock: ManualClock| {
        cache.insert(1, "a".into());
        let step = || cache.compute(1, |_| panic!("on purpose"));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)).is_err();
        assert!(panicked, "{tier_set}");
        assert_eq!(cache.get(&1).as_deref(), Some("a"), "{tier_set}");
        cache.insert(1, "b".into());
        assert_eq!(cache.get(&1).as_deref(), Some("b"), "{tier_set}");
    });
}

#[test]
fn call_inside_the_function_that_would_wait_is_an_error() {
    let cache = larder::mcache::<u64, u64>("inside").build().unwrap();
    cache.insert(7, 70);
    let (mut seen, mut failed) = (None, None);
    cache
        .compute(1, |_| {
            seen = cache.get(&7);
            failed = cache.compute(1, |_| Compute::Put(2)).err();
            Compute::Put(1)
        })
        .unwrap();
    assert_eq!((seen, cache.get(&1)), (Some(70), Some(1)));
    assert_eq!(failed.map(|error| error.kind()), Some(ErrorKind::Busy));
}

#[test]
fn compute_of_a_cache_that_is_off_or_closed_is_an_error() {
    let cache = larder::mcache::<u64, u64>("off").build().unwrap();
    let step = || cache.compute(1, |_| Compute::Put(1)).map_err(|error| error.kind());
    cache.set_enabled(false).unwrap();
    assert_eq!(step(), Err(ErrorKind::Unavailable));
    cache.set_enabled(true).unwrap();
    assert_eq!(step(), Ok(Some(1)));
    cache.close().unwrap();
    assert_eq!(step(), Err(ErrorKind::Closed));
}

#[test]
fn options_out_of_range_change_nothing() {
    let cache = larder::mcache::<u64, u64>("range").build().unwrap();
    cache.insert(1, 1);
    let options = EntryOptions::new().tag("t".repeat(2000));
    let step = cache.compute(1, |_| Compute::PutWith(2, options.clone()));
    assert_eq!(step.map_err(|error| error.kind()), Err(ErrorKind::Config));
    assert_eq!(cache.get(&1), Some(1));
}

#[test]
fn sweep_removes_what_is_over_from_every_tier() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Texts, clock: ManualClock| {
        for key in 0..10 {
            cache.insert_with(key, "a".repeat(2000), EntryOptions::new().ttl(MINUTE));
            cache.insert_with(100 + key, "a".into(), EntryOptions::new().ttl(MINUTE).stale(MINUTE));
        }
        cache.insert(200, "kept".into());
        assert_eq!(cache.try_sweep().unwrap(), 0, "{tier_set}");
        clock.advance(MINUTE);
        let swept = cache.try_sweep().unwrap();
        // A tier beyond memory and its copies in memory are swept one by one.
        assert!(swept == 10 || swept == 20, "{tier_set}: {swept}");
        assert_eq!(cache.try_sweep().unwrap(), 0, "{tier_set}");
        let beyond = |tier: TierKind| cache.stats().tier(tier).map_or(0, |tier| tier.usage.entries);
        let left = [TierKind::Disk, TierKind::File].map(beyond).iter().sum::<u64>();
        let expected = if tier_set == "memory" { 0 } else { 11 };
        assert_eq!(left, expected, "{tier_set}: stale entries stay");
        assert_eq!(cache.get(&200).as_deref(), Some("kept"), "{tier_set}");
    });
}

#[test]
fn invalidate_if_expires_the_entries_that_the_predicate_picks() {
    each_tier_set!(<u64, String>, |builder| builder.stale(MINUTE), |tier_set, cache: Texts, _clock: ManualClock| {
        cache.insert_many((0..20).map(|key| (key, format!("{key}").repeat(if key < 10 { 1 } else { 2000 }))));
        let seen = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&seen);
        let job = cache.invalidate_if(move |key, value| {
            counted.fetch_add(1, Ordering::Relaxed);
            key % 2 == 0 && value.starts_with(&key.to_string())
        });
        assert_eq!(job.wait().unwrap(), 10, "{tier_set}");
        assert!(job.is_finished());
        assert_eq!(seen.load(Ordering::Relaxed), 20, "{tier_set}: each entry once");
        let kept = (0..20).filter(|key| cache.get(key).is_some());
        assert!(kept.eq((0..20).filter(|key| key % 2 == 1)), "{tier_set}");
        // Within its stale window an entry serves where a load fails.
        let stale = cache.load(2, |_| Err::<Loaded<String>, _>("the source is down"));
        assert_eq!(stale.unwrap().as_deref(), Some("2"), "{tier_set}");
    });
}

#[test]
fn invalidate_if_reaches_entries_of_an_earlier_run() {
    let dir = tempfile::tempdir().unwrap();
    let open = || tiered::<u64, String>("all tiers", dir.path(), &ManualClock::default());
    let cache = open().build().unwrap();
    cache.insert_many((0..20).map(|key| (key, "a".repeat(2000))));
    let cache = reopened(cache, open());
    let task = async { cache.to_async().invalidate_if(|key, _| *key < 5).finished().await };
    assert_eq!(block_on(task).unwrap(), 5);
    assert_eq!((0..20).filter(|key| cache.contains_key(key)).count(), 15);
    cache.close().unwrap();
    let ended = cache.invalidate_if(|_, _| true).wait();
    assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::Closed));
}

#[test]
fn predicate_that_panics_gives_an_error_and_the_cache_goes_on() {
    let cache = larder::mcache::<u64, u64>("panics").build().unwrap();
    cache.insert(1, 1);
    let outcome = cache.invalidate_if(|_, _| panic!("on purpose")).wait();
    assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::Busy));
    assert_eq!(cache.invalidate_if(|_, _| true).wait().unwrap(), 1);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn caches_are_listed_cleared_and_destroyed_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let memory = larder::mcache::<u64, u64>("by name").build().unwrap();
    let universal = larder::ucache::<u64, u64>("by name").dir(dir.path()).build().unwrap();
    let other = larder::fcache::<u64, u64>("by another name").dir(dir.path()).build().unwrap();
    let listed = || -> Vec<_> {
        let caches = larder::caches().into_iter().filter(|cache| cache.name.starts_with("by "));
        caches.map(|cache| (cache.name, cache.kind, cache.stats.cache.insertions)).collect()
    };
    [&memory, &universal, &other].iter().for_each(|cache| cache.insert(1, 1));
    let row = |name: &str, kind| (name.to_owned(), kind, 1);
    let names = ["by name", "by name", "by another name"];
    let kinds = [CacheKind::Memory, CacheKind::Universal, CacheKind::File];
    assert!(listed().into_iter().eq(names.iter().zip(kinds).map(|(name, kind)| row(name, kind))));
    assert_eq!(kinds.map(|kind| kind.to_string()), ["mcache", "ucache", "fcache"]);
    assert_eq!(larder::clear("by name").unwrap(), 2);
    assert_eq!((memory.get(&1), universal.get(&1), other.get(&1)), (None, None, Some(1)));
    assert_eq!(larder::clear("by no name").unwrap(), 0);
    let path = other.dir().unwrap().to_owned();
    assert_eq!(larder::destroy("by another name").unwrap(), 1);
    assert!(!path.exists());
    assert_eq!(other.get(&1), None, "it is closed");
    assert_eq!(listed().len(), 2);
    universal.close().unwrap();
    assert_eq!(listed(), [row("by name", CacheKind::Memory)]);
}

/// Clears every cache of the process, so it runs in a process of its own: nextest gives each test one.
#[test]
fn clear_all_empties_every_cache() {
    if std::env::var_os("NEXTEST").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let memory = larder::mcache::<u64, u64>("one of all").build().unwrap();
    let disk = larder::bcache::<u64, u64>("another of all").dir(dir.path()).build().unwrap();
    [&memory, &disk].iter().for_each(|cache| cache.insert(1, 1));
    assert!(larder::clear_all().unwrap() >= 2);
    assert_eq!((memory.get(&1), disk.get(&1)), (None, None));
    disk.close().unwrap();
}
