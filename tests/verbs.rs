//! Atomic operations, batches and iteration.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use larder::{Cache, EntryOptions, ErrorKind};
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
    let (memo, async_memo) = (
        include_str!("../crates/larder/src/memo/threads.rs"),
        include_str!("../crates/larder/src/memo/tasks.rs"),
    );
    let threads = methods(&[
        include_str!("../crates/larder/src/cache.rs"),
        for_threads,
        keys_for_threads,
        compute_for_threads,
        memo,
    ]);
    let tasks = methods(&[
        include_str!("../crates/larder/src/async_cache.rs"),
        for_tasks,
        keys_for_tasks,
        compute_for_tasks,
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
