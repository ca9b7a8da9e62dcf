//! Atomic operations, batches and iteration.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use larder::{Cache, EntryOptions, ErrorKind, Policy, TierKind};
use larder_testkit::ManualClock;

use crate::tier_sets::each_tier_set;

const MINUTE: Duration = Duration::from_secs(60);

type Strings = Cache<u64, String>;

/// The names of the public methods.
fn methods(sources: &[&'static str]) -> std::collections::BTreeSet<&'static str> {
    let lines = sources.iter().flat_map(|source| source.lines());
    let names = lines.filter_map(|line| {
        let line = line.trim_start().strip_prefix("pub ")?;
        line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")
    });
    names.filter_map(|line| line.split(['(', '<']).next()).collect()
}

/// Every operation for threads exists for tasks, with the same name.
#[test]
fn threads_and_tasks_have_the_same_operations() {
    let streams = include_str!("../crates/larder/src/stream.rs");
    let (for_threads, for_tasks) = streams.split_once("mod tasks {").unwrap();
    let keys = include_str!("../crates/larder/src/keys.rs");
    let (keys_for_threads, keys_for_tasks) = keys.split_once("mod tasks {").unwrap();
    let compute = include_str!("../crates/larder/src/compute.rs");
    let (compute_for_threads, compute_for_tasks) = compute.split_once("mod tasks {").unwrap();
    let loads = include_str!("../crates/larder/src/cache/load.rs");
    let (loads_for_threads, loads_for_tasks) = loads.split_once("mod tasks {").unwrap();
    let (memo, async_memo) = (
        include_str!("../crates/larder/src/memo/threads.rs"),
        include_str!("../crates/larder/src/memo/tasks.rs"),
    );
    let threads = methods(&[
        include_str!("../crates/larder/src/cache.rs"),
        include_str!("../crates/larder/src/cache/invalidate.rs"),
        include_str!("../crates/larder/src/cache/live.rs"),
        for_threads,
        keys_for_threads,
        compute_for_threads,
        loads_for_threads,
        memo,
    ]);
    let tasks = methods(&[
        include_str!("../crates/larder/src/async_cache.rs"),
        for_tasks,
        keys_for_tasks,
        compute_for_tasks,
        loads_for_tasks,
        async_memo,
    ]);
    let different: Vec<_> = threads.symmetric_difference(&tasks).collect();
    assert_eq!(different, [&"to_async", &"to_sync"]);
    assert_eq!(methods(&[memo]), methods(&[async_memo]));
    let known = [
        "get",
        "load",
        "insert_from",
        "open",
        "iter",
        "keys",
        "sweep",
        "compute",
        "invalidate_if",
        "call_many",
        "purge",
    ];
    for verb in known {
        assert!(threads.contains(verb), "{verb}");
    }
}

#[test]
fn tasks_can_iterate_over_the_entries() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE), |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        larder_testkit::block_on(async {
            let tasks = cache.to_async();
            tasks.insert_many((0..10).map(|key| (key, format!("{key}")))).await;
            tasks.remove(&3).await;
            let mut entries = tasks.iter().await.unwrap();
            tasks.remove(&4).await;
            let mut found = Vec::new();
            while let Some((key, value)) = entries.next().await {
                assert_eq!(key.to_string(), value);
                found.push(*key);
            }
            found.sort_unstable();
            assert_eq!(found, [0, 1, 2, 5, 6, 7, 8, 9], "{tier_set}");
            clock.advance(MINUTE);
            assert!(tasks.iter().await.unwrap().next().await.is_none(), "{tier_set}");
        });
    });
}

#[test]
fn one_of_many_concurrent_callers_with_a_borrowed_key_loads() {
    let cache = larder::mcache::<String, usize>("borrowed").build().unwrap();
    let (start, loads) = (Barrier::new(8), AtomicUsize::new(0));
    let load = |text: &str| {
        cache.get_with_by_ref(text, || {
            loads.fetch_add(1, SeqCst);
            text.len()
        })
    };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(load("larder"), 6);
            });
        }
    });
    assert_eq!((loads.into_inner(), cache.stats().cache.loads), (1, 1));
    assert_eq!(*cache.try_get_with_by_ref("none", || Err::<usize, _>("no")).unwrap_err(), "no");
    assert_eq!(cache.optionally_get_with_by_ref("none", || None), None);
    assert_eq!(cache.optionally_get_with_by_ref("none", || Some(4)), Some(4));
    assert_eq!(cache.try_get_with_by_ref("none", || Err::<usize, _>("no")).unwrap(), 4);
}

#[test]
fn one_of_many_concurrent_insert_if_absent_succeeds() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE), |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        for round in 0..20 {
            let (start, stored) = (Barrier::new(8), AtomicUsize::new(0));
            thread::scope(|scope| {
                for thread in 0..8 {
                    let (cache, start, stored) = (&cache, &start, &stored);
                    scope.spawn(move || {
                        start.wait();
                        stored.fetch_add(usize::from(cache.insert_if_absent(round, format!("{thread}")).unwrap()), SeqCst);
                    });
                }
            });
            assert_eq!(stored.load(SeqCst), 1, "{tier_set}, round {round}");
        }
        clock.advance(MINUTE);
        assert!(cache.insert_if_absent(0, "over an expired one".into()).unwrap(), "{tier_set}");
        assert_eq!(cache.get(&0).as_deref(), Some("over an expired one"), "{tier_set}");
        clock.advance(MINUTE);
        assert_eq!(cache.take(&0).unwrap(), None, "{tier_set}: an expired entry cannot be taken");
    });
}

#[test]
fn concurrent_increments_lose_no_update() {
    each_tier_set!(<u64, u64>, |builder| builder.ttl(MINUTE), |tier_set, cache: Cache<u64, u64>, clock| {
        let clock: ManualClock = clock;
        let start = Barrier::new(16);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    (0..50).for_each(|_| assert!(cache.increment(1, 1, 0).unwrap() > 0));
                });
            }
        });
        assert_eq!(cache.get(&1), Some(800), "{tier_set}");
        clock.advance(MINUTE / 2);
        assert_eq!(cache.increment(1, 1, 0).unwrap(), 801);
        clock.advance(MINUTE / 2);
        assert_eq!(cache.get(&1), None, "{tier_set}: the sum keeps the time to live");
        assert_eq!(cache.increment(1, 5, 10).unwrap(), 15, "{tier_set}: anew, over an expired one");
        assert_eq!(cache.increment(1, u64::MAX, 0).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(cache.get(&1), Some(15), "{tier_set}");
    });
}

#[test]
fn value_that_changes_size_keeps_one_copy() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, _| {
        for round in 0..3 {
            for len in [10, 5_000, 100_000, 3 << 20, 200_000, 10] {
                let value = round.to_string().repeat(len);
                cache.insert(1, value.clone());
                assert_eq!(cache.get(&1).as_ref(), Some(&value), "{tier_set}, {len}");
            }
        }
        assert_eq!(cache.len(), 1, "{tier_set}: one home");
    });
}

/// The fault: the former value was still served after a failed insert. `insert_with` does not
/// report the failure.
#[test]
fn insert_with_invalid_options_removes_the_former_entry() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, _| {
        let many = EntryOptions::new().tags((0..65).map(|tag| tag.to_string()));
        let long = EntryOptions::new().tag("x".repeat(1025));
        let validator = EntryOptions::new().validator(vec![0; 4097]);
        for (options, name) in [(many, "tags"), (long, "tags"), (validator, "validator")] {
            cache.insert(1, "former".into());
            let error = cache.try_insert_with(1, "new".into(), options.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(cache.get(&1), None, "{tier_set}");
            cache.insert(1, "former".into());
            cache.insert_with(1, "new".into(), options);
            assert_eq!(cache.get(&1), None, "{tier_set}");
        }
    });
}

#[test]
fn batch_results_are_in_the_order_of_the_keys() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, _| {
        cache.insert_many((0..20).filter(|key| key % 3 != 0).map(|key| (key, key.to_string())));
        let keys = [7, 3, 19, 7, 0, 2];
        let expect = [Some("7"), None, Some("19"), Some("7"), None, Some("2")];
        assert_eq!(cache.get_many(&keys).iter().map(Option::as_deref).collect::<Vec<_>>(), expect, "{tier_set}");
        assert_eq!(cache.get_many(&[0_u64; 0]), Vec::<Option<String>>::new());
        assert_eq!(cache.remove_many(&[7, 0, 2]).unwrap(), 2, "{tier_set}");
        assert_eq!(cache.get_many(&[7, 2]), [None, None], "{tier_set}");
    });
}

#[test]
fn batch_loads_the_missing_keys() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, _| {
        let asked = Mutex::new(Vec::new());
        let get = |keys: [u64; 3]| {
            let values = cache.get_many_with(keys, |missing| {
                asked.lock().unwrap().push(missing.clone());
                missing.into_iter().map(|key| (key, key.to_string())).collect::<Vec<_>>()
            });
            assert_eq!(values, keys.map(|key| Some(key.to_string())), "{tier_set}");
        };
        get([1, 2, 3]);
        get([2, 3, 4]);
        get([1, 2, 4]);
        assert_eq!(*asked.lock().unwrap(), [vec![1, 2, 3], vec![4]], "{tier_set}");
        let some = cache.get_many_with([9, 1, 8, 9], |missing| {
            assert_eq!(missing, [9, 8], "each once, in order");
            vec![(8, "eight".to_owned())]
        });
        assert_eq!(some, [None, Some("1".into()), Some("eight".into()), None], "{tier_set}");
        let failed = cache.try_get_many_with([1, 77], |_| Err::<Vec<_>, _>("down"));
        assert_eq!(*failed.unwrap_err(), "down");
    });
}

#[test]
fn overlapping_batches_load_each_key_once() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, _| {
        for round in 0..20_u64 {
            let loads = Mutex::new(Vec::new());
            let start = Barrier::new(8);
            thread::scope(|scope| {
                for caller in 0..8_u64 {
                    let (cache, loads, start) = (&cache, &loads, &start);
                    scope.spawn(move || {
                        start.wait();
                        // Each batch begins at another key, so that batches overlap in every order.
                        let keys: Vec<u64> = (0..10).map(|step| round * 100 + (caller * 3 + step) % 16).collect();
                        let values = cache.get_many_with(keys.clone(), |missing| {
                            loads.lock().unwrap().extend_from_slice(&missing);
                            missing.into_iter().map(|key| (key, key.to_string())).collect::<Vec<_>>()
                        });
                        assert!(values.iter().zip(&keys).all(|(value, key)| *value == Some(key.to_string())));
                    });
                }
            });
            let mut loads = loads.into_inner().unwrap();
            loads.sort_unstable();
            let expect: Vec<u64> = (0..16).map(|key| round * 100 + key).collect();
            assert_eq!(loads, expect, "{tier_set}, round {round}");
        }
    });
}

#[test]
fn batch_loads_keys_that_another_batch_left_without_a_value() {
    let cache = larder::mcache::<u64, &str>("batches").build().unwrap();
    let (other_leads, this_waits) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let values = cache.get_many_with([1, 2], |_| {
                other_leads.wait();
                this_waits.wait();
                vec![(1, "by the other")]
            });
            assert_eq!(values, [Some("by the other"), None]);
        });
        other_leads.wait();
        let mut calls = Vec::new();
        let values = cache.get_many_with([2, 3], |missing| {
            if calls.is_empty() {
                this_waits.wait();
            }
            calls.push(missing.clone());
            missing.into_iter().map(|key| (key, "by this one")).collect::<Vec<_>>()
        });
        assert_eq!(values, [Some("by this one"); 2]);
        assert_eq!(calls, [vec![3], vec![2]]);
    });
}

#[test]
fn batches_work_for_tasks() {
    let cache = larder::mcache::<u64, u64>("batches").build().unwrap().to_async();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        cache.insert_many([(1, 1)]).await;
        let squares = cache.get_many_with([1, 2, 3], |missing| async move {
            missing.into_iter().map(|key| (key, key * key)).collect::<Vec<_>>()
        });
        assert_eq!(squares.await, [Some(1), Some(4), Some(9)]);
        assert_eq!(cache.get_many(&[3, 4]).await, [Some(9), None]);
        assert_eq!(cache.remove_many(&[1, 4]).await.unwrap(), 1);
        assert_eq!(cache.increment(2, 1, 0).await.unwrap(), 5);
        assert!(!cache.insert_if_absent(2, 7).await.unwrap());
        cache.invalidate_all().await.unwrap();
        assert_eq!(cache.get(&2).await, None);
    });
}

#[test]
fn disabled_cache_stores_nothing() {
    each_tier_set!(<u64, u64>, |builder| builder, |tier_set, cache: Cache<u64, u64>, _| {
        cache.insert(3, 3);
        cache.set_enabled(false).unwrap();
        assert!(cache.insert_if_absent(1, 1).is_err(), "{tier_set}");
        assert!(cache.increment(2, 1, 0).is_err(), "{tier_set}");
        assert_eq!(cache.get_many(&[1, 2, 3]), [None; 3], "{tier_set}");
        cache.set_enabled(true).unwrap();
        assert_eq!(cache.get_many(&[1, 2]), [None; 2], "{tier_set}");
    });
}

#[test]
fn iteration_returns_each_fresh_entry_once() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        let long = |n: u64| if n.is_multiple_of(2) { "x".repeat(3_000) } else { n.to_string() };
        (0..20).for_each(|n| cache.insert(n, long(n)));
        cache.insert_with(99, "short".to_owned(), EntryOptions::new().ttl(MINUTE));
        clock.advance(MINUTE);
        let mut found: Vec<_> = cache.iter().unwrap().map(|(key, value)| (*key, value)).collect();
        found.sort();
        assert_eq!(found, (0..20).map(|n| (n, long(n))).collect::<Vec<_>>(), "{tier_set}");
        let mut pass = cache.iter().unwrap();
        cache.clear().unwrap();
        assert!(pass.next().is_none(), "{tier_set}: what goes meanwhile is not found");
    });
}

/// A key that is not `Clone`, and so cannot be stored while anything else refers to it.
#[derive(Hash, PartialEq, Eq)]
struct Unique(u32);

#[test]
fn value_loaded_into_memory_alone_is_stored_under_a_key_without_clone() {
    let cache = larder::mcache::<Unique, u32>("unique").build().unwrap();
    assert_eq!(cache.get_with(Unique(1), || 10), 10);
    assert_eq!(cache.get(&Unique(1)), Some(10));
    let stats = cache.stats();
    assert_eq!((stats.cache.loads, stats.cache.published, stats.cache.misses), (1, 1, 1));
}

#[test]
fn batch_of_inserts_returns_a_result_for_each_entry() {
    let weigher = |_: &u32, text: &String| u32::try_from(text.len()).unwrap_or(u32::MAX);
    let cache = larder::mcache::<u32, String>("some too large").memory_bytes(1 << 20).weigher(weigher);
    let cache = cache.build().unwrap();
    let (small, large) = ("x".to_owned(), "x".repeat(2 << 20));
    let stored = cache.try_insert_many(
        [(1, small.clone()), (2, large.clone()), (3, small.clone()), (4, large)],
        EntryOptions::new(),
    );
    let kinds: Vec<_> =
        stored.iter().map(|stored| stored.as_ref().map_err(larder::Error::kind).err()).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::TooLarge), None, Some(ErrorKind::TooLarge)]);
    assert_eq!(cache.get_many(&[1, 2, 3, 4]), [Some(small.clone()), None, Some(small), None]);
    // One error for each entry if the options are wrong.
    let options = EntryOptions::new().tag("t".repeat(2000));
    let stored = cache.try_insert_many([(5, String::new()), (6, String::new())], options);
    assert!(stored.len() == 2 && stored.iter().all(Result::is_err));
}

#[test]
fn try_remove_tells_absence_from_failure() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, _| {
        cache.insert(1, "one".to_owned());
        assert!(cache.try_remove(&1).unwrap(), "{tier_set}");
        assert!(!cache.try_remove(&1).unwrap(), "{tier_set}");
        cache.close().unwrap();
        assert_eq!(cache.try_remove(&1).unwrap_err().kind(), ErrorKind::Closed, "{tier_set}");
        assert!(!cache.remove(&1), "{tier_set}");
    });
}

#[test]
fn insert_if_absent_with_options_applies_them_to_the_stored_entry_only() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        let options = EntryOptions::new().ttl(MINUTE).tag("first");
        assert!(cache.insert_if_absent_with(1, "one".to_owned(), options).unwrap(), "{tier_set}");
        let later = EntryOptions::new().ttl(MINUTE * 60);
        assert!(!cache.insert_if_absent_with(1, "two".to_owned(), later).unwrap(), "{tier_set}");
        let entry = cache.inspect(&1).unwrap().unwrap();
        assert_eq!((entry.value.as_str(), entry.tags.len()), ("one", 1), "{tier_set}");
        clock.advance(MINUTE);
        assert_eq!(cache.get(&1), None, "{tier_set}");
    });
}

#[test]
fn capacity_of_zero_keeps_nothing_and_still_shares_loads() {
    for policy in [Policy::Auto, Policy::TinyLfu, Policy::Lru, Policy::S3Fifo, Policy::Sieve, Policy::Random]
    {
        let cache = larder::mcache::<u64, String>("nothing").capacity(0).policy(policy).build().unwrap();
        for key in 0..1000 {
            cache.insert(key, "kept?".to_owned());
            assert_eq!(cache.get(&key), None, "{policy:?}");
        }
        assert!(cache.try_insert(1, "one".to_owned()).is_ok(), "{policy:?}");
        assert_eq!(cache.get_with(1, || "loaded".to_owned()), "loaded", "{policy:?}");
        assert_eq!((cache.len(), cache.get(&1)), (0, None), "{policy:?}");
        cache.set_capacity(10).unwrap();
        cache.insert(1, "one".to_owned());
        assert_eq!(cache.get(&1).as_deref(), Some("one"), "{policy:?}");
        cache.set_capacity(0).unwrap();
        assert_eq!((cache.len(), cache.get(&1)), (0, None), "{policy:?}");
    }
}

#[test]
fn capacity_above_the_limit_counts_as_the_limit() {
    let cache = larder::mcache::<u64, u64>("sessions").capacity(u64::MAX).build().unwrap();
    let unbounded = larder::mcache::<u64, u64>("all").unbounded().build().unwrap();
    for cache in [cache, unbounded] {
        (0..50_000).for_each(|key| cache.insert(key, key));
        assert_eq!(cache.len(), 50_000);
        cache.set_capacity(u64::MAX).unwrap();
        assert_eq!(cache.len(), 50_000);
    }
}

#[test]
fn capacity_of_zero_leaves_the_tiers_beyond_memory() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::ucache::<u64, String>("no memory").dir(dir.path()).capacity(0).build().unwrap();
    assert_eq!(cache.try_insert(1, "one".to_owned()).unwrap().home, TierKind::Disk);
    assert_eq!(cache.get(&1).as_deref(), Some("one"));
    assert!(cache.stats().tier(TierKind::Memory).is_none());
    // The same at run time: what memory does not keep goes elsewhere.
    let cache = larder::ucache::<u64, String>("less memory").dir(dir.path()).capacity(10).build().unwrap();
    assert_eq!(cache.try_insert(1, "one".to_owned()).unwrap().home, TierKind::Memory);
    cache.set_capacity(0).unwrap();
    assert_eq!(cache.try_insert(2, "two".to_owned()).unwrap().home, TierKind::Disk);
    assert_eq!(cache.get(&2).as_deref(), Some("two"));
}

/// A struct that holds caches repeats no bounds, and derives what they have.
#[derive(Clone, Debug)]
struct Holder<K, V> {
    cache: Cache<K, V>,
    tasks: larder::AsyncCache<K, V>,
}

#[test]
fn struct_that_holds_a_cache_needs_no_bounds() {
    let cache = larder::mcache::<u8, u8>("held").build().unwrap();
    let holder = Holder { tasks: cache.to_async(), cache };
    let other = holder.clone();
    other.cache.insert(1, 2);
    assert_eq!(holder.tasks.to_sync().get(&1), Some(2));
    assert!(format!("{holder:?}").contains("AsyncCache"));
}

/// A key that is found by parts that are borrowed, without building the owned key in memory.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Name(String, String);

#[derive(Hash)]
struct Parts<'a>(&'a str, &'a str);

impl larder::Equivalent<Name> for Parts<'_> {
    fn equivalent(&self, key: &Name) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

impl larder::Lookup<Name> for Parts<'_> {
    fn with_key<R>(&self, f: impl FnOnce(&Name) -> R) -> R {
        f(&Name(self.0.to_owned(), self.1.to_owned()))
    }
}

#[test]
fn own_borrowed_key_finds_the_entry() {
    let cache = larder::mcache::<Name, u8>("names").build().unwrap();
    cache.insert(Name("Ada".to_owned(), "Lovelace".to_owned()), 36);
    assert_eq!(cache.get(&Parts("Ada", "Lovelace")), Some(36));
    assert!(cache.get(&Parts("Ada", "Byron")).is_none() && cache.remove(&Parts("Ada", "Lovelace")));
}

#[test]
fn each_option_of_an_entry_counts_as_set() {
    assert!(EntryOptions::new().is_unset());
    let set = [
        EntryOptions::new().ttl(MINUTE),
        EntryOptions::new().stale(MINUTE),
        EntryOptions::new().tag("red"),
        EntryOptions::new().validator("v1"),
        EntryOptions::new().persistence(larder::Persistence::LongTerm),
        EntryOptions::new().access(larder::Access::WriteHeavy),
        EntryOptions::new().home(TierKind::Disk),
    ];
    for options in set {
        assert!(!options.is_unset(), "{options:?}");
    }
}

/// A value that owns nothing on the heap, and whose clone changes the cache that holds it.
struct Meddling(u64);

impl Clone for Meddling {
    fn clone(&self) -> Self {
        static OTHER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(2);
        if self.0 == 1 {
            let other = OTHER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            meddled_with().insert(other, Self(other));
        }
        Self(self.0)
    }
}

fn meddled_with() -> &'static larder::Cache<u64, Meddling> {
    static CACHE: std::sync::OnceLock<larder::Cache<u64, Meddling>> = std::sync::OnceLock::new();
    CACHE.get_or_init(|| larder::mcache("meddling").capacity(100).build().unwrap())
}

/// In one shard, so that a clone under its lock would wait for itself.
#[test]
fn clone_of_a_small_value_may_call_the_cache() {
    let cache = meddled_with();
    cache.insert(1, Meddling(1));
    let (done, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let found = (0..10).filter(|_| cache.get(&1).is_some()).count();
        done.send(found).unwrap();
    });
    assert_eq!(waits.recv_timeout(std::time::Duration::from_secs(30)), Ok(10));
}
