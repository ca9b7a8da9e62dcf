//! Checks of durability: flushed entries survive closing and reopening.

use super::*;

const LENGTHS: [usize; 5] = [0, 100, 5000, 100_000, 1 << 20];

pub(super) fn flushed_entries_are_there_after_closing_and_reopening(place: &Place) -> Verdict {
    let tier = place.persistent()?;
    fill(&tier, 1);
    flush(&tier);
    close(&tier);
    drop(tier);
    expect_filled(&place.open(), 1);
    Ok(())
}

pub(super) fn flushed_entries_are_there_after_dropping_and_reopening(place: &Place) -> Verdict {
    let tier = place.persistent()?;
    fill(&tier, 1);
    flush(&tier);
    drop(tier);
    expect_filled(&place.open(), 1);
    Ok(())
}

pub(super) fn close_flushes(place: &Place) -> Verdict {
    let tier = place.persistent()?;
    fill(&tier, 1);
    close(&tier);
    drop(tier);
    expect_filled(&place.open(), 1);
    Ok(())
}

pub(super) fn reopening_finds_the_last_frame(place: &Place) -> Verdict {
    let tier = place.persistent()?;
    fill(&tier, 1);
    flush(&tier);
    fill(&tier, 2);
    flush(&tier);
    drop(tier);
    let tier = place.open();
    expect_filled(&tier, 2);
    fill(&tier, 3);
    close(&tier);
    drop(tier);
    expect_filled(&place.open(), 3);
    Ok(())
}

pub(super) fn removed_entries_stay_removed_after_reopening(place: &Place) -> Verdict {
    let tier = place.persistent()?;
    fill(&tier, 1);
    flush(&tier);
    taken(&tier).for_each(|len| assert!(remove(&tier, &sample::key(len as u64)), "remove"));
    put(&tier, &sample::key(9), 9, 100);
    flush(&tier);
    drop(tier);
    let tier = place.open();
    LENGTHS.into_iter().for_each(|len| expect_none(&tier, &sample::key(len as u64)));
    expect(&tier, &sample::key(9), 9, 100);
    Ok(())
}

pub(super) fn a_cleared_tier_is_empty_after_reopening(place: &Place) -> Verdict {
    let tier = place.persistent()?;
    fill(&tier, 1);
    flush(&tier);
    clear(&tier);
    flush(&tier);
    drop(tier);
    let tier = place.open();
    LENGTHS.into_iter().for_each(|len| expect_none(&tier, &sample::key(len as u64)));
    assert_eq!(tier.usage().entries, 0, "entries after reopening");
    Ok(())
}

fn fill(tier: &dyn Tier, seed: u64) {
    taken(tier).for_each(|len| put(tier, &sample::key(len as u64), seed, len));
}

fn expect_filled(tier: &dyn Tier, seed: u64) {
    taken(tier).for_each(|len| expect(tier, &sample::key(len as u64), seed, len));
    assert!(tier.usage().entries > 0, "usage is zero after reopening");
}

fn taken(tier: &dyn Tier) -> impl Iterator<Item = usize> {
    let limit = tier.capability().frame_bytes_max;
    LENGTHS.into_iter().filter(move |len| *len as u64 + 1024 <= limit)
}
