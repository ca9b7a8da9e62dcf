//! Checks of versions that cost no I/O.

use larder_core::tier::{EntryVersion, PutOptions, VersionedTier};

use super::*;
use crate::conformance::report::NotApplicable;

pub(super) fn every_change_changes_the_version_at_once(place: &Place) -> Verdict {
    let tier = versioned(place)?;
    let key = sample::key(1);
    let mut seen = vec![version(&tier, &key)];
    let mut changed = |what: &str| {
        let now = version(&tier, &key);
        assert!(!seen.contains(&now), "after {what}");
        seen.push(now);
    };
    remove(&tier, &key);
    changed("a removal of nothing");
    put(&tier, &key, 7, 100);
    changed("a write");
    put(&tier, &key, 7, 100);
    changed("the same write again");
    remove(&tier, &key);
    changed("a removal");
    clear(&tier);
    changed("a clear");
    let before = version(&tier, &key);
    get(&tier, &key);
    assert_eq!(version(&tier, &key), before, "after a read");
    Ok(())
}

pub(super) fn a_write_by_a_former_version_stores_nothing(place: &Place) -> Verdict {
    let tier = versioned(place)?;
    let (key, frame) = (sample::key(1), sample::frame(&sample::key(1), sample::payload(9, 100)));
    let store = |version| {
        let options = PutOptions::if_version(version);
        block_on(of(&tier).compare_and_set(&key, &frame, options)).expect("it succeeds")
    };
    let before = version(&tier, &key);
    put(&tier, &key, 7, 100);
    assert!(!store(before), "after a write");
    expect(&tier, &key, 7, 100);
    let before = version(&tier, &key);
    remove(&tier, &key);
    assert!(!store(before), "after a removal");
    expect_none(&tier, &key);
    let before = version(&tier, &key);
    assert!(store(before) && !store(before), "one of two with one version");
    expect(&tier, &key, 9, 100);
    Ok(())
}

fn versioned(place: &Place) -> Result<Box<dyn Tier>, NotApplicable> {
    let tier = place.storing()?;
    if tier.versioned().is_some() {
        Ok(tier)
    } else {
        Err(NotApplicable("its versions cost I/O, or it has none"))
    }
}

fn of(tier: &dyn Tier) -> &dyn VersionedTier {
    tier.versioned().expect("the accessor is constant")
}

fn version(tier: &dyn Tier, key: &EncodedKey) -> EntryVersion {
    of(tier).version(key).expect("no process changes the entry now")
}
