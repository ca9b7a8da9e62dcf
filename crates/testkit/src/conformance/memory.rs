//! Checks memory stores against the promises of their trait.

use std::sync::Arc;
use std::thread;

use larder_core::clock::Time;
use larder_core::entry_meta::Freshness;
use larder_core::memory::{Lifespan, Lifetimes, MemoryStore, Record, ReloadCost};
use larder_core::tier::TierKind;

use super::report::{NotApplicable, Report, Verdict};

type Check<M> = fn(&M, Option<u32>) -> Verdict;

/// Runs every check, each on a store that `make` creates.
///
/// The store must have room for 1000 records of weight 10. `bytes_max` is its limit on
/// weights, if that is below 4 GiB.
///
/// ```
/// use larder_core::memory::MemoryStore;
/// use larder_testkit::conformance;
///
/// fn keeps_its_promises<M: MemoryStore<u64, String>>(make: impl Fn() -> M) {
///     conformance::memory("mine", Some(1 << 20), make).assert_all();
/// }
/// ```
pub fn memory<M: MemoryStore<u64, String>>(
    name: &str,
    bytes_max: Option<u32>,
    make: impl Fn() -> M,
) -> Report {
    let checks: [(&'static str, Check<M>); 16] = [
        ("get_after_insert_returns_the_value", get_after_insert_returns_the_value),
        ("get_of_an_absent_key_is_none", get_of_an_absent_key_is_none),
        ("insert_replaces_what_was_there", insert_replaces_what_was_there),
        ("remove_returns_what_was_there", remove_returns_what_was_there),
        ("clear_leaves_nothing", clear_leaves_nothing),
        ("sweep_removes_what_is_gone", sweep_removes_what_is_gone),
        ("keys_and_count_leave_out_what_is_gone", keys_and_count_leave_out_what_is_gone),
        ("recorded_absence_is_found_and_not_listed", recorded_absence_is_found_and_not_listed),
        ("keys_are_those_that_are_held", keys_are_those_that_are_held),
        ("count_counts_by_home", count_counts_by_home),
        ("peek_returns_the_record", peek_returns_the_record),
        ("accounts_are_exact_after_random_calls", accounts_are_exact_after_random_calls),
        ("usage_counts_entries_and_weights", usage_counts_entries_and_weights),
        ("a_record_above_the_bound_is_not_kept", a_record_above_the_bound_is_not_kept),
        ("the_bound_holds_after_settling", the_bound_holds_after_settling),
        ("what_one_thread_removes_no_other_sees", what_one_thread_removes_no_other_sees),
    ];
    let mut report = Report::new(name);
    for (name, check) in checks {
        report.record(name, || check(&make(), bytes_max));
    }
    report
}

fn record(value: &str, weight: u32) -> Record<String> {
    Record {
        value: Some(value.to_owned()),
        created: Time::from_millis(7),
        stamp: 3,
        terms: None,
        weight,
        home: TierKind::Memory,
        checked: None,
        cost: ReloadCost::default(),
    }
}

fn value<M: MemoryStore<u64, String>>(store: &M, key: u64) -> Option<String> {
    let found = store.get(&key);
    assert_eq!(store.contains(&key), found.is_some(), "key {key}: get and contains do not agree");
    found.and_then(|record| record.value)
}

fn get_after_insert_returns_the_value<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    store.insert(1, record("one", 10));
    let found = store.get(&1).expect("inserted, and absent");
    let facts = (found.created, found.stamp, found.weight, found.home);
    assert_eq!(
        (found.value.as_deref(), facts),
        (Some("one"), (Time::from_millis(7), 3, 10, TierKind::Memory))
    );
    Ok(())
}

fn get_of_an_absent_key_is_none<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    store.insert(1, record("one", 10));
    assert_eq!(value(store, 2), None);
    Ok(())
}

fn insert_replaces_what_was_there<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    for round in 0..10 {
        store.insert(1, record(&round.to_string(), 10 + round));
        assert_eq!(value(store, 1), Some(round.to_string()));
    }
    store.settle();
    assert_eq!((value(store, 1), store.usage().entries), (Some("9".into()), 1));
    Ok(())
}

fn recorded_absence_is_found_and_not_listed<M: MemoryStore<u64, String>>(
    store: &M,
    _: Option<u32>,
) -> Verdict {
    store.insert(1, record("one", 10));
    store.insert(2, Record { value: None, ..record("", 10) });
    store.settle();
    assert!(store.get(&2).is_some_and(|record| record.value.is_none()), "the absence is known");
    let hottest = store.hottest(2, |key| *key);
    assert_eq!((store.keys(|key| *key), store.count(None)), (vec![1], 1));
    assert!(hottest.is_empty() || hottest == [1], "hottest: {hottest:?}");
    Ok(())
}

fn remove_returns_what_was_there<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    store.insert(1, record("one", 10));
    let removed = store.remove(&1).expect("inserted, and not removed");
    assert_eq!((removed.stamp, removed.has_value), (3, true));
    assert_eq!(value(store, 1), None);
    assert!(store.remove(&1).is_none(), "a second removal");
    Ok(())
}

fn clear_leaves_nothing<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    for key in 0..100 {
        store.insert(key, record("any", 10));
    }
    store.clear();
    assert_eq!((0..100).find(|key| value(store, *key).is_some()), None, "the first key that is left");
    store.settle();
    assert_eq!((store.usage().entries, store.usage().bytes), (0, 0), "entries, bytes");
    store.insert(1, record("one", 10));
    assert_eq!(value(store, 1), Some("one".into()), "inserted after clear");
    Ok(())
}

/// Lifetimes that treat records with a sequence number below 3 as invalidated.
struct GoneBelowThree;

impl Lifetimes for GoneBelowThree {
    fn now(&self) -> Time {
        Time::from_millis(1)
    }

    fn freshness(&self, lifespan: Lifespan<'_>, _: Time) -> Freshness {
        if lifespan.stamp < 3 { Freshness::Gone } else { Freshness::Fresh }
    }

    fn invalidations(&self) -> u64 {
        0
    }
}

fn insert_three_and_seven_gone<M: MemoryStore<u64, String>>(store: &M) {
    store.attach(Arc::new(GoneBelowThree));
    for key in 0..10 {
        store.insert(key, Record { stamp: if key < 3 { 3 } else { 2 }, ..record("any", 10) });
    }
}

/// A store may leave invalidated records to eviction, but must remove no others.
fn sweep_removes_what_is_gone<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    insert_three_and_seven_gone(store);
    let swept = store.sweep();
    if swept == 0 {
        return Err(NotApplicable("invalidated records are left to eviction"));
    }
    assert_eq!(swept, 7);
    assert_eq!((0..10).filter(|key| store.contains(key)).collect::<Vec<_>>(), [0, 1, 2]);
    Ok(())
}

fn keys_and_count_leave_out_what_is_gone<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    insert_three_and_seven_gone(store);
    store.settle();
    let mut keys = store.keys(|key| *key);
    keys.sort_unstable();
    assert_eq!((keys, store.count(None)), (vec![0, 1, 2], 3));
    Ok(())
}

fn peek_returns_the_record<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    store.insert(1, record("one", 10));
    let found = store.peek(&1).expect("inserted, and absent");
    assert_eq!((found.value.as_deref(), found.stamp, found.weight), (Some("one"), 3, 10));
    assert!(store.peek(&2).is_none());
    Ok(())
}

/// Replacing with another weight and removing before any maintenance must not leak
/// weight.
fn accounts_are_exact_after_random_calls<M: MemoryStore<u64, String>>(
    store: &M,
    bytes_max: Option<u32>,
) -> Verdict {
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..20 {
        for _ in 0..200 {
            let key = rng.u64(0..20);
            match rng.u32(0..4) {
                0 => drop(store.remove(&key)),
                1 => drop(store.get(&key)),
                _ => assert!(store.insert(key, record("any", rng.u32(1..50)))),
            }
        }
        store.settle();
        let held: Vec<u32> = (0..20).filter_map(|key| Some(store.peek(&key)?.weight)).collect();
        let usage = store.usage();
        assert_eq!(usage.entries, held.len() as u64, "entries, round {round}");
        if bytes_max.is_some() {
            assert_eq!(
                usage.bytes,
                held.iter().map(|weight| u64::from(*weight)).sum::<u64>(),
                "round {round}"
            );
        }
    }
    (0..20).for_each(|key| drop(store.remove(&key)));
    assert_eq!((store.usage().entries, store.usage().bytes), (0, 0), "empty again");
    Ok(())
}

fn keys_are_those_that_are_held<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    for key in 0..50 {
        store.insert(key, record("any", 10));
    }
    store.remove(&7);
    store.settle();
    let mut keys = store.keys(|key| *key);
    keys.sort_unstable();
    assert_eq!(keys, (0..50).filter(|key| *key != 7).collect::<Vec<_>>());
    Ok(())
}

fn count_counts_by_home<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    for key in 0..10 {
        store.insert(key, record("any", 10));
    }
    for key in 5..15 {
        store.insert(key, Record { home: TierKind::File, ..record("any", 10) });
    }
    store.settle();
    let homed = [TierKind::Memory, TierKind::File, TierKind::Disk].map(|home| store.count(Some(home)));
    assert_eq!(homed, [5, 10, 0], "in memory, file, disk");
    Ok(())
}

/// A store without a limit on weights need not sum them up.
fn usage_counts_entries_and_weights<M: MemoryStore<u64, String>>(
    store: &M,
    bytes_max: Option<u32>,
) -> Verdict {
    let expect = |entries: u64, when: &str| {
        store.settle();
        let usage = store.usage();
        assert_eq!(usage.entries, entries, "entries {when}");
        if bytes_max.is_some() {
            assert_eq!(usage.bytes, entries * 10, "bytes {when}");
        }
    };
    for key in 0..50 {
        store.insert(key, record("any", 10));
    }
    expect(50, "after insertions");
    (0..25).for_each(|key| drop(store.remove(&key)));
    expect(25, "after removals");
    Ok(())
}

fn a_record_above_the_bound_is_not_kept<M: MemoryStore<u64, String>>(
    store: &M,
    bytes_max: Option<u32>,
) -> Verdict {
    let bound = bytes_max.ok_or(NotApplicable("no bound on weights"))?;
    let above = bound.checked_add(1).ok_or(NotApplicable("no weight is above the bound"))?;
    assert!(!store.insert(1, record("above", above)), "says that it is stored");
    store.settle();
    assert_eq!(value(store, 1), None);
    store.insert(2, record("small", 10));
    assert!(!store.insert(2, record("above", above)));
    store.settle();
    assert_eq!(value(store, 2), None, "in place of a small one");
    Ok(())
}

fn the_bound_holds_after_settling<M: MemoryStore<u64, String>>(store: &M, bytes_max: Option<u32>) -> Verdict {
    let bound = bytes_max.ok_or(NotApplicable("no bound on weights"))?;
    for key in 0..100 {
        store.insert(key, record("any", bound / 10));
    }
    store.settle();
    let usage = store.usage();
    assert!(usage.bytes <= u64::from(bound), "{usage:?}, bound {bound}");
    let held = (0..100).filter(|key| store.contains(key)).count();
    assert!(held <= 10, "{held} records of a tenth of the bound");
    Ok(())
}

fn what_one_thread_removes_no_other_sees<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..200 {
                    let key = thread * 100 + round % 20;
                    store.insert(key, record(&round.to_string(), 10));
                    assert_eq!(value(store, key), Some(round.to_string()));
                    store.remove(&key);
                    assert_eq!(value(store, key), None);
                }
            });
        }
    });
    assert_eq!((0..400).find(|key| value(store, *key).is_some()), None, "the first key that is left");
    Ok(())
}
