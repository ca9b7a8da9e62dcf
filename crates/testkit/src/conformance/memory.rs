//! Holds stores of native values to what their trait promises.

use std::sync::Arc;
use std::thread;

use larder_core::clock::Time;
use larder_core::memory::{MemoryStore, Record};
use larder_core::tier::TierKind;

use super::report::{NotApplicable, Report, Verdict};

type Check<M> = fn(&M, Option<u32>) -> Verdict;

/// Runs every check on a store that `make` makes for it.
///
/// The store has room for 1000 records of weight 10; `bytes_max` is its bound
/// on weights, where it has one below 4 GiB.
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
    let checks: [(&'static str, Check<M>); 12] = [
        ("get_after_insert_returns_the_value", get_after_insert_returns_the_value),
        ("get_of_an_absent_key_is_none", get_of_an_absent_key_is_none),
        ("insert_replaces_what_was_there", insert_replaces_what_was_there),
        ("remove_returns_what_was_there", remove_returns_what_was_there),
        ("clear_leaves_nothing", clear_leaves_nothing),
        ("retain_removes_the_others", retain_removes_the_others),
        ("keys_are_those_that_are_held", keys_are_those_that_are_held),
        ("homed_counts_by_home", homed_counts_by_home),
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

fn remove_returns_what_was_there<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    store.insert(1, record("one", 10));
    assert_eq!(store.remove(&1).and_then(|record| record.value), Some("one".into()));
    assert_eq!(value(store, 1), None);
    assert!(store.remove(&1).is_none(), "a second removal");
    Ok(())
}

fn clear_leaves_nothing<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    (0..100).for_each(|key| store.insert(key, record("any", 10)));
    store.clear();
    assert_eq!((0..100).find(|key| value(store, *key).is_some()), None, "the first key that is left");
    store.settle();
    assert_eq!((store.usage().entries, store.usage().bytes), (0, 0), "entries, bytes");
    store.insert(1, record("one", 10));
    assert_eq!(value(store, 1), Some("one".into()), "inserted after clear");
    Ok(())
}

fn retain_removes_the_others<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    (0..10).for_each(|key| store.insert(key, record(if key < 3 { "keep" } else { "go" }, 10)));
    assert_eq!(store.retain(|record| record.value.as_deref() == Some("keep")), 7);
    assert_eq!((0..10).filter(|key| store.contains(key)).collect::<Vec<_>>(), [0, 1, 2]);
    Ok(())
}

fn keys_are_those_that_are_held<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    (0..50).for_each(|key| store.insert(key, record("any", 10)));
    store.remove(&7);
    store.settle();
    let mut keys: Vec<u64> = store.keys().into_iter().map(|key: Arc<u64>| *key).collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..50).filter(|key| *key != 7).collect::<Vec<_>>());
    Ok(())
}

fn homed_counts_by_home<M: MemoryStore<u64, String>>(store: &M, _: Option<u32>) -> Verdict {
    (0..10).for_each(|key| store.insert(key, record("any", 10)));
    (5..15).for_each(|key| store.insert(key, Record { home: TierKind::File, ..record("any", 10) }));
    store.settle();
    let homed = [TierKind::Memory, TierKind::File, TierKind::Disk].map(|home| store.homed(home));
    assert_eq!(homed, [5, 10, 0], "in memory, file, disk");
    Ok(())
}

/// A store without a bound on weights need not sum them up.
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
    (0..50).for_each(|key| store.insert(key, record("any", 10)));
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
    store.insert(1, record("above", above));
    store.settle();
    assert_eq!(value(store, 1), None);
    store.insert(2, record("small", 10));
    store.insert(2, record("above", above));
    store.settle();
    assert_eq!(value(store, 2), None, "in place of a small one");
    Ok(())
}

fn the_bound_holds_after_settling<M: MemoryStore<u64, String>>(store: &M, bytes_max: Option<u32>) -> Verdict {
    let bound = bytes_max.ok_or(NotApplicable("no bound on weights"))?;
    (0..100).for_each(|key| store.insert(key, record("any", bound / 10)));
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
