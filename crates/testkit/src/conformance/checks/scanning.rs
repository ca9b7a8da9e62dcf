//! Checks of scans: a scan visits the entries of the tier.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use larder_core::frame::{Frame, Head};

use super::*;

pub(super) fn scan_visits_each_head_exactly_once(place: &Place) -> Verdict {
    let tier = place.storing()?;
    assert!(visits(&tier).is_empty(), "an empty tier");
    for number in 0..60 {
        put(&tier, &sample::key(number), number, 3000 * number as usize);
    }
    put(&tier, &sample::key(7), 8, 10);
    let tagged = EncodedKey::new(*b"tagged");
    let frame = Frame::new(&sample::header(0), &tagged, b"some tags", Bytes::new());
    block_on(tier.put(&tagged, &frame)).expect("put succeeds");
    let mut tags = Vec::new();
    let mut visit = |head: &[u8]| tags.extend_from_slice(Head::parse(head).expect("a head").attributes);
    block_on(tier.scan(&mut visit)).expect("scan succeeds");
    assert_eq!(tags, b"some tags");
    let seen = visits(&tier);
    let missing = (0..60).find(|number| !seen.contains_key(sample::key(*number).as_bytes()));
    assert_eq!((seen.len(), missing), (61, None), "keys, the first missing");
    assert!(seen.values().all(|visits| *visits == 1), "visited more than once");
    Ok(())
}

pub(super) fn scan_passes_over_what_was_removed(place: &Place) -> Verdict {
    let tier = place.storing()?;
    (0..10).for_each(|number| put(&tier, &sample::key(number), number, 100));
    (0..9).for_each(|number| assert!(remove(&tier, &sample::key(number)), "key {number}"));
    let seen = visits(&tier);
    assert_eq!((seen.len(), seen.get(sample::key(9).as_bytes())), (1, Some(&1)), "keys, visits of the last");
    clear(&tier);
    assert!(visits(&tier).is_empty(), "after clear");
    Ok(())
}

pub(super) fn scan_visits_once_what_stays_while_others_come_and_go(place: &Place) -> Verdict {
    let tier = place.storing()?;
    (0..50).for_each(|number| put(&tier, &sample::key(number), number, 100));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            for number in (1000..1100).cycle().take_while(|_| !done.load(Ordering::SeqCst)) {
                put(&tier, &sample::key(number), number, 100);
                remove(&tier, &sample::key(number));
            }
        });
        let scans: Vec<_> = (0..10).map(|_| visits(&tier)).collect();
        done.store(true, Ordering::SeqCst);
        others.join().expect("puts and removals succeed");
        for seen in scans {
            let wrong = (0..50).find(|number| seen.get(sample::key(*number).as_bytes()) != Some(&1));
            assert_eq!(wrong, None, "a key that stayed and was not visited once");
        }
    });
    Ok(())
}

/// Returns the key in a head.
pub(super) fn key_of(head: &[u8]) -> Vec<u8> {
    Head::parse(head).expect("scan visits heads").key.to_vec()
}

/// Counts how often each key is visited.
fn visits(tier: &dyn Tier) -> HashMap<Vec<u8>, usize> {
    let mut seen = HashMap::new();
    block_on(tier.scan(&mut |head| *seen.entry(key_of(head)).or_default() += 1)).expect("scan succeeds");
    seen
}
