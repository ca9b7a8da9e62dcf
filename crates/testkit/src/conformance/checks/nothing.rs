//! Checks of a tier that stores nothing.

use super::*;
use crate::conformance::report::NotApplicable;

pub(super) fn a_tier_that_stores_nothing_answers_that_nothing_is_there(place: &Place) -> Verdict {
    let tier = place.open();
    if tier.capability().stores {
        return Err(NotApplicable("it stores"));
    }
    let key = sample::key(1);
    put(&tier, &key, 1, 100);
    expect_none(&tier, &key);
    assert!(!remove(&tier, &key), "remove found an entry");
    let mut heads = 0;
    block_on(tier.scan(&mut |_| heads += 1)).expect("scan succeeds");
    assert_eq!((heads, tier.usage().entries, tier.usage().bytes), (0, 0, 0), "scanned, entries, bytes");
    clear(&tier);
    flush(&tier);
    Ok(())
}
