//! Checks of values: a get returns the frame that was put.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use larder_core::ErrorKind;
use larder_core::tier::BoxFuture;

use super::*;
use crate::conformance::report::NotApplicable;

/// Above this size no frame is made only to be refused.
const TRIED_MAX: u64 = 128 << 20;

const LENGTHS: [usize; 9] = [0, 1, 100, 4095, 4096, 4097, 64 << 10, 1 << 20, 5 << 20];

pub(super) fn get_of_an_absent_key_is_none(place: &Place) -> Verdict {
    expect_none(&place.storing()?, &sample::key(1));
    Ok(())
}

pub(super) fn get_after_put_returns_the_frame_byte_for_byte(place: &Place) -> Verdict {
    let tier = place.storing()?;
    for len in taken(&tier) {
        put(&tier, &sample::key(len as u64), 1, len);
        expect(&tier, &sample::key(len as u64), 1, len);
    }
    taken(&tier).into_iter().for_each(|len| expect(&tier, &sample::key(len as u64), 1, len));
    Ok(())
}

pub(super) fn put_replaces_what_was_there(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let key = sample::key(1);
    let largest = taken(&tier).last().copied().unwrap_or_default();
    for (seed, len) in [10, largest, 10, 10, 0, largest.min(64 << 10)].into_iter().enumerate() {
        put(&tier, &key, seed as u64, len);
        expect(&tier, &key, seed as u64, len);
    }
    Ok(())
}

pub(super) fn put_above_the_limit_is_too_large_and_stores_nothing(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let limit = tier.capability().frame_bytes_max;
    if limit > TRIED_MAX {
        return Err(NotApplicable("the largest frame is larger than is tried"));
    }
    let key = sample::key(1);
    let frame = sample::frame(&key, vec![7; limit as usize + 1].into());
    let kind = block_on(tier.put(&key, &frame)).map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::TooLarge), "put of {} bytes, allowed {limit}", frame.len());
    expect_none(&tier, &key);
    Ok(())
}

pub(super) fn contains_tells_whether_there_is_an_entry(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let key = sample::key(1);
    assert!(!contains(&tier, &key), "before put");
    put(&tier, &key, 1, 100);
    assert!(contains(&tier, &key), "after put");
    assert!(!contains(&tier, &sample::key(2)), "another key");
    remove(&tier, &key);
    assert!(!contains(&tier, &key), "after remove");
    Ok(())
}

pub(super) fn kind_and_capability_are_constant(place: &Place) -> Verdict {
    let tier = place.open();
    let before = (tier.kind(), tier.capability());
    put(&tier, &sample::key(1), 1, 100);
    assert_eq!((tier.kind(), tier.capability()), before, "after put");
    close(&tier);
    assert_eq!((tier.kind(), tier.capability()), before, "after close");
    Ok(())
}

pub(super) fn usage_grows_with_entries_and_shrinks_without(place: &Place) -> Verdict {
    let tier = place.storing()?;
    assert_eq!(tier.usage().entries, 0, "entries of an empty tier");
    (0..20).for_each(|number| put(&tier, &sample::key(number), number, 1000));
    flush(&tier);
    let full = tier.usage();
    assert!(full.entries > 0 && full.bytes > 0, "after 20 puts: {full:?}");
    (0..10).for_each(|number| assert!(remove(&tier, &sample::key(number)), "key {number}"));
    let half = tier.usage();
    assert!(half.entries < full.entries, "{full:?}, after 10 removals {half:?}");
    clear(&tier);
    let empty = tier.usage();
    assert!(empty.entries < half.entries, "{half:?}, after clear {empty:?}");
    Ok(())
}

pub(super) fn a_blocking_tier_is_ready_in_the_first_poll(place: &Place) -> Verdict {
    let tier = place.storing()?;
    if !tier.capability().blocking {
        return Err(NotApplicable("it does not block"));
    }
    let key = sample::key(1);
    let frame = sample::frame(&key, sample::payload(1, 1000));
    first_poll("put", tier.put(&key, &frame));
    first_poll("get", tier.get(&key));
    first_poll("contains", tier.contains(&key));
    first_poll("scan", tier.scan(&mut |_| ()));
    first_poll("remove", tier.remove(&key));
    first_poll("clear", tier.clear());
    first_poll("flush", tier.flush());
    first_poll("close", tier.close());
    Ok(())
}

fn first_poll<T>(operation: &str, future: BoxFuture<'_, larder_core::Result<T>>) {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => drop(result.unwrap_or_else(|error| panic!("{operation}: {error:?}"))),
        Poll::Pending => panic!("{operation} is pending after its first poll"),
    }
}

/// The lengths whose frames the tier accepts.
fn taken(tier: &dyn Tier) -> Vec<usize> {
    let limit = tier.capability().frame_bytes_max;
    LENGTHS.into_iter().filter(|len| *len as u64 + 1024 <= limit).collect()
}
