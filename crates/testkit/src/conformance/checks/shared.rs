//! Checks of atomic operations among all users of a shared tier.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use larder_core::frame::Frame;
use larder_core::tier::{ConditionalPut, LastRemoval, PutOptions, RemovalCause, SharedTier};

use super::*;
use crate::conformance::report::NotApplicable;

const THREADS: u64 = 4;
const LONG: Duration = Duration::from_secs(60);

pub(super) fn of_several_with_one_version_one_stores(place: &Place) -> Verdict {
    let tier = shared(place)?;
    for number in 0..20 {
        if number % 2 == 1 {
            put(&tier, &sample::key(number), 100, 100);
        }
        let version = current(&tier, number);
        let winners = race(|seed| store(&tier, number, version, seed));
        assert_eq!(winners, 1, "of {THREADS} that require one version");
        assert!(!store(&tier, number, version, 200), "by the former version");
        assert!(store(&tier, number, current(&tier, number), 300), "by the present one");
        expect(&tier, &sample::key(number), 300, 100);
    }
    Ok(())
}

pub(super) fn every_change_changes_the_version(place: &Place) -> Verdict {
    let tier = shared(place)?;
    let key = sample::key(1);
    type Change<'a> = (&'static str, &'a dyn Fn());
    let changes: [Change<'_>; 6] = [
        ("a removal of nothing", &|| assert!(!block_on(tier.remove(&key)).expect("it succeeds"))),
        ("a write", &|| put(&tier, &key, 7, 100)),
        ("a take", &|| assert!(block_on(of(&tier).take(&key)).expect("it succeeds").is_some())),
        ("a conditional removal", &|| assert!(remove_if(&tier, 1, current(&tier, 1)))),
        ("a clear", &|| block_on(tier.clear()).expect("it succeeds")),
        ("removals of many", &|| drop(block_on(tier.remove_many(std::slice::from_ref(&key))))),
    ];
    for (what, change) in changes {
        let before = current(&tier, 1);
        change();
        assert!(!store(&tier, 1, before, 9), "after {what}");
    }
    let before = current(&tier, 1);
    put(&tier, &key, 7, 100);
    assert!(!store(&tier, 1, before, 9), "after a write of another");
    expect(&tier, &key, 7, 100);
    Ok(())
}

pub(super) fn conditional_removal_requires_the_version(place: &Place) -> Verdict {
    let tier = shared(place)?;
    for number in 0..20 {
        put(&tier, &sample::key(number), 100, 100);
        let version = current(&tier, number);
        let winners = race(|seed| match seed % 2 {
            0 => remove_if(&tier, number, version),
            _ => store(&tier, number, version, seed),
        });
        assert_eq!(winners, 1, "of {THREADS} that require one version");
        assert!(!remove_if(&tier, number, version), "by the former version");
        assert!(remove_if(&tier, number, current(&tier, number)), "by the present one");
        expect_none(&tier, &sample::key(number));
    }
    Ok(())
}

pub(super) fn take_gives_the_frame_to_one(place: &Place) -> Verdict {
    let tier = shared(place)?;
    for number in 0..20 {
        put(&tier, &sample::key(number), number, 100);
        let takers = race(|_| match block_on(of(&tier).take(&sample::key(number))).expect("it succeeds") {
            Some(taken) => taken == frame(number, number).to_vec(),
            None => false,
        });
        assert_eq!(takers, 1, "of {THREADS} that take one entry");
        expect_none(&tier, &sample::key(number));
    }
    Ok(())
}

pub(super) fn steps_in_a_batch_are_steps_of_their_own(place: &Place) -> Verdict {
    let tier = shared(place)?;
    put(&tier, &sample::key(1), 1, 100);
    put(&tier, &sample::key(2), 2, 100);
    let keys: Vec<_> = [1, 3, 2, 1].map(sample::key).into();
    let found = block_on(of(&tier).get_many_versioned(&keys)).into_iter();
    let found: Vec<_> = found.map(|found| found.expect("it succeeds")).collect();
    for (key, found) in keys.iter().zip(&found) {
        assert_eq!(&block_on(of(&tier).get_versioned(key)).expect("it succeeds"), found, "of {key:?}");
    }
    // Another write changes one of the keys in between. Of two writes with one version the first is
    // stored.
    put(&tier, &sample::key(2), 9, 100);
    let puts = keys.iter().zip(&found).zip([11, 13, 12, 14]).map(|((key, found), seed)| ConditionalPut {
        key: key.clone(),
        frame: sample::frame(key, sample::payload(seed, 100)),
        options: PutOptions::if_version(found.version.expect("a shared tier has versions")),
    });
    let puts: Vec<_> = puts.collect();
    let stored = block_on(of(&tier).compare_and_set_many(&puts)).into_iter();
    let stored: Vec<bool> = stored.map(|stored| stored.expect("it succeeds")).collect();
    assert_eq!(stored, [true, true, false, false]);
    for (number, seed) in [(1, 11), (3, 13), (2, 9)] {
        expect(&tier, &sample::key(number), seed, 100);
    }
    let none = block_on(of(&tier).compare_and_set_many(&[])).len();
    assert_eq!(none + block_on(of(&tier).get_many_versioned(&[])).len(), 0);
    Ok(())
}

pub(super) fn leases_of_a_batch_are_taken_once(place: &Place) -> Verdict {
    let tier = shared(place)?;
    put(&tier, &sample::key(2), 2, 100);
    let keys: Vec<_> = [1, 2, 1, 3].map(sample::key).into();
    let taken = block_on(of(&tier).lease_loads(&keys, LONG)).into_iter();
    let present = taken.map(|taken| taken.expect("it succeeds").map(|lease| lease.present));
    assert_eq!(present.collect::<Vec<_>>(), [Some(false), Some(true), None, Some(false)]);
    assert_eq!(block_on(of(&tier).lease_load(&sample::key(3), LONG)).expect("it succeeds"), None);
    Ok(())
}

pub(super) fn a_released_lease_can_be_taken_again(place: &Place) -> Verdict {
    let tier = shared(place)?;
    let key = sample::key(1);
    let take = || block_on(of(&tier).lease_load(&key, LONG)).expect("it succeeds");
    let first = take().expect("nobody holds it");
    assert_eq!(take(), None);
    of(&tier).release_loads(vec![(key.clone(), first.number)]);
    // Released without waiting.
    let second = (0..1000).find_map(|_| {
        take().or_else(|| {
            thread::park_timeout(Duration::from_millis(5));
            None
        })
    });
    let second = second.expect("released, and not to be taken");
    assert!(second.number > first.number, "{second:?} after {first:?}");
    of(&tier).release_loads(vec![(key.clone(), first.number)]);
    assert_eq!(take(), None, "a lease that has passed on is left alone");
    Ok(())
}

pub(super) fn the_last_removal_is_remembered(place: &Place) -> Verdict {
    let tier = shared(place)?;
    let key = sample::key(1);
    let removal = || block_on(of(&tier).get_versioned(&key)).expect("it succeeds").last_removal;
    assert!(of(&tier).removals_remembered() > Duration::from_secs(10), "loads take that long");
    assert_eq!(removal(), LastRemoval::None, "of a key that never was");
    put(&tier, &key, 1, 100);
    remove(&tier, &key);
    assert_eq!(removal(), LastRemoval::Own);
    put(&tier, &key, 2, 100);
    assert!(drop_if(&tier, current(&tier, 1), RemovalCause::Outdated(77)));
    expect_none(&tier, &key);
    assert_eq!(removal(), LastRemoval::Outdated(77));
    put(&tier, &key, 3, 100);
    assert!(drop_if(&tier, current(&tier, 1), RemovalCause::Requested));
    assert_eq!(removal(), LastRemoval::Own);
    Ok(())
}

pub(super) fn a_clear_changes_the_epoch(place: &Place) -> Verdict {
    let tier = shared(place)?;
    let key = sample::key(1);
    put(&tier, &key, 1, 100);
    let before = of(&tier).epoch(&key);
    clear(&tier);
    expect_none(&tier, &key);
    assert_ne!(of(&tier).epoch(&key), before);
    Ok(())
}

fn shared(place: &Place) -> Result<Box<dyn Tier>, NotApplicable> {
    let tier = place.storing()?;
    if tier.shared().is_some() { Ok(tier) } else { Err(NotApplicable("nodes do not share it")) }
}

fn of(tier: &dyn Tier) -> &dyn SharedTier {
    tier.shared().expect("the accessor is constant")
}

/// Requires the current version of the entry.
fn current(tier: &dyn Tier, number: u64) -> PutOptions {
    let found = block_on(of(tier).get_versioned(&sample::key(number))).expect("it succeeds");
    PutOptions::if_version(found.version.expect("a shared tier has versions"))
}

fn store(tier: &dyn Tier, number: u64, options: PutOptions, seed: u64) -> bool {
    let (key, frame) = (sample::key(number), frame(number, seed));
    block_on(of(tier).compare_and_set(&key, &frame, options)).expect("it succeeds")
}

fn drop_if(tier: &dyn Tier, options: PutOptions, cause: RemovalCause) -> bool {
    let key = sample::key(1);
    let removed = of(tier).compare_and_remove(&key, options.if_version, cause);
    block_on(removed).expect("it succeeds")
}

fn remove_if(tier: &dyn Tier, number: u64, options: PutOptions) -> bool {
    let key = sample::key(number);
    let removed = of(tier).compare_and_remove(&key, options.if_version, RemovalCause::Requested);
    block_on(removed).expect("it succeeds")
}

fn frame(number: u64, seed: u64) -> Frame {
    sample::frame(&sample::key(number), sample::payload(seed, 100))
}

/// Runs `step` on several threads at the same time, and counts the successes.
fn race(step: impl Fn(u64) -> bool + Sync) -> usize {
    let successes = AtomicUsize::new(0);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (step, successes) = (&step, &successes);
            scope.spawn(move || successes.fetch_add(usize::from(step(seed)), Ordering::SeqCst));
        }
    });
    successes.into_inner()
}
