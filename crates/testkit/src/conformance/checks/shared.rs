//! Checks of atomic operations among all users of a shared tier.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use larder_core::ErrorKind;
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::EntryVersion;

use super::*;
use crate::conformance::report::NotApplicable;

const THREADS: u64 = 4;

pub(super) fn of_several_with_one_base_one_stores(place: &Place) -> Verdict {
    let tier = shared(place)?;
    for number in 0..20 {
        if number % 2 == 1 {
            put(&tier, &sample::key(number), 100, 100);
        }
        let key = based(&tier, number);
        let winners = race(|seed| store(&tier, &key, number, seed));
        assert_eq!(winners, 1, "of {THREADS} that store by one stamp");
        assert!(!store(&tier, &key, number, 200), "by the former stamp");
        assert!(store(&tier, &based(&tier, number), number, 300), "by the present one");
        expect(&tier, &sample::key(number), 300, 100);
    }
    Ok(())
}

pub(super) fn every_change_takes_the_base_away(place: &Place) -> Verdict {
    let tier = shared(place)?;
    let key = sample::key(1);
    type Change<'a> = (&'static str, &'a dyn Fn());
    let changes: [Change<'_>; 5] = [
        ("a removal of nothing", &|| assert!(!block_on(tier.remove(&key)).expect("it succeeds"))),
        ("a write", &|| put(&tier, &key, 7, 100)),
        ("a take", &|| assert!(block_on(tier.take(&key)).expect("it succeeds").is_some())),
        ("a clear", &|| block_on(tier.clear()).expect("it succeeds")),
        ("removals of many", &|| drop(block_on(tier.remove_many(std::slice::from_ref(&key))))),
    ];
    for (what, change) in changes {
        let based = based(&tier, 1);
        change();
        assert!(!store(&tier, &based, 1, 9), "after {what}");
    }
    let based = based(&tier, 1);
    put(&tier, &key, 7, 100);
    block_on(tier.put(&based, &frame(1, 9))).expect("it succeeds");
    expect(&tier, &key, 7, 100);
    Ok(())
}

pub(super) fn take_gives_the_frame_to_one(place: &Place) -> Verdict {
    let tier = shared(place)?;
    for number in 0..20 {
        put(&tier, &sample::key(number), number, 100);
        let takers = race(|_| match block_on(tier.take(&sample::key(number))).expect("it succeeds") {
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
    let found = block_on(tier.get_many_versioned(&keys)).into_iter().map(|found| found.expect("it succeeds"));
    let found: Vec<_> = found.collect();
    for (key, found) in keys.iter().zip(&found) {
        assert_eq!(&block_on(tier.get_versioned(key)).expect("it succeeds"), found, "of {key:?}");
    }
    // Another write changes one of the keys in between. Of two writes with one base
    // version the first is stored.
    put(&tier, &sample::key(2), 9, 100);
    let entries: Vec<_> = keys.iter().zip(&found).zip([11, 13, 12, 14]).collect();
    let entries: Vec<_> = entries
        .into_iter()
        .map(|((key, (_, stamp)), seed)| {
            let based = key.clone().based_on(stamp.expect("a tier with such steps has stamps"));
            let frame = sample::frame(key, sample::payload(seed, 100));
            (based, frame)
        })
        .collect();
    let stored = block_on(tier.put_many_if_unchanged(&entries)).into_iter();
    let stored: Vec<bool> = stored.map(|stored| stored.expect("it succeeds")).collect();
    assert_eq!(stored, [true, true, false, false]);
    for (number, seed) in [(1, 11), (3, 13), (2, 9)] {
        expect(&tier, &sample::key(number), seed, 100);
    }
    assert_eq!(
        block_on(tier.put_many_if_unchanged(&[])).len() + block_on(tier.get_many_versioned(&[])).len(),
        0
    );
    Ok(())
}

pub(super) fn leases_of_a_batch_are_taken_once(place: &Place) -> Verdict {
    const LONG: Duration = Duration::from_secs(60);
    let tier = shared(place)?;
    put(&tier, &sample::key(2), 2, 100);
    let keys: Vec<_> = [1, 2, 1, 3].map(sample::key).into();
    let taken = block_on(tier.lease_loads(&keys, LONG)).into_iter().map(|taken| taken.expect("it succeeds"));
    let present: Vec<_> = taken.map(|taken| taken.map(|lease| lease.present)).collect();
    assert_eq!(present, [Some(false), Some(true), None, Some(false)]);
    assert_eq!(block_on(tier.lease_load(&sample::key(3), LONG)).expect("it succeeds"), None);
    Ok(())
}

pub(super) fn the_steps_are_all_there_or_none_is(place: &Place) -> Verdict {
    let tier = place.open();
    let key = sample::key(1);
    let missing = |error: larder_core::Error| error.kind() == ErrorKind::Unsupported;
    let missing = [
        block_on(tier.put_if_unchanged(&key.clone().based_on(EntryVersion::NONE), &frame(1, 1)))
            .is_err_and(missing),
        block_on(tier.take(&key)).is_err_and(missing),
    ];
    assert!(missing == [true; 2] || missing == [false; 2], "missing: {missing:?}");
    Ok(())
}

fn shared(place: &Place) -> Result<Box<dyn Tier>, NotApplicable> {
    let tier = place.storing()?;
    match block_on(tier.take(&sample::key(0))) {
        Err(error) if error.kind() == ErrorKind::Unsupported => Err(NotApplicable("it has no such steps")),
        _ => Ok(tier),
    }
}

/// Returns the key, based on the current version of its entry.
fn based(tier: &dyn Tier, number: u64) -> EncodedKey {
    let key = sample::key(number);
    let (_, stamp) = block_on(tier.get_versioned(&key)).expect("it succeeds");
    key.based_on(stamp.expect("a tier with such steps has stamps"))
}

fn store(tier: &dyn Tier, key: &EncodedKey, number: u64, seed: u64) -> bool {
    block_on(tier.put_if_unchanged(key, &frame(number, seed))).expect("it succeeds")
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
