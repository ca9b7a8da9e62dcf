//! Steps that are one step among all who share a tier.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use larder_core::ErrorKind;
use larder_core::frame::Frame;

use super::*;
use crate::conformance::report::NotApplicable;

const THREADS: u64 = 4;

pub(super) fn insert_if_absent_stores_once(place: &Place) -> Verdict {
    let tier = shared(place)?;
    for number in 0..20 {
        let winners = race(|seed| {
            block_on(tier.insert_if_absent(&sample::key(number), &frame(number, seed))).expect("it succeeds")
        });
        assert_eq!(winners, 1, "of {THREADS} that insert where nothing is");
    }
    put(&tier, &sample::key(50), 1, 100);
    let again = block_on(tier.insert_if_absent(&sample::key(50), &frame(50, 2))).expect("it succeeds");
    assert!(!again, "over what is there");
    expect(&tier, &sample::key(50), 1, 100);
    Ok(())
}

pub(super) fn replace_stores_over_what_is_expected_alone(place: &Place) -> Verdict {
    let tier = shared(place)?;
    let key = sample::key(1);
    let replace = |expected: &Bytes, seed| {
        block_on(tier.replace(&key, expected, &frame(1, seed))).expect("it succeeds")
    };
    let whole = |seed| Bytes::from(frame(1, seed).to_vec());
    assert!(!replace(&whole(1), 2), "where nothing is");
    expect_none(&tier, &key);
    put(&tier, &key, 1, 100);
    assert!(!replace(&whole(7), 2), "over something else");
    assert_eq!(race(|seed| replace(&whole(1), 10 + seed)), 1, "of {THREADS} that replace one frame");
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

pub(super) fn the_steps_are_all_there_or_none_is(place: &Place) -> Verdict {
    let tier = place.open();
    let key = sample::key(1);
    let missing = |error: larder_core::Error| error.kind() == ErrorKind::Unsupported;
    let missing = [
        block_on(tier.insert_if_absent(&key, &frame(1, 1))).is_err_and(missing),
        block_on(tier.replace(&key, &Bytes::new(), &frame(1, 1))).is_err_and(missing),
        block_on(tier.take(&key)).is_err_and(missing),
    ];
    assert!(missing == [true; 3] || missing == [false; 3], "missing: {missing:?}");
    Ok(())
}

fn shared(place: &Place) -> Result<Box<dyn Tier>, NotApplicable> {
    let tier = place.storing()?;
    match block_on(tier.take(&sample::key(0))) {
        Err(error) if error.kind() == ErrorKind::Unsupported => Err(NotApplicable("it has no such steps")),
        _ => Ok(tier),
    }
}

fn frame(number: u64, seed: u64) -> Frame {
    sample::frame(&sample::key(number), sample::payload(seed, 100))
}

/// How many of some threads that do `step` at the same time succeed.
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
