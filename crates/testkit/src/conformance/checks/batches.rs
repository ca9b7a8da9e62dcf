//! Checks of batches: many keys in one call.

use larder_core::frame::Frame;

use super::*;

pub(super) fn batches_answer_in_order_key_by_key(place: &Place) -> Verdict {
    let tier = place.storing()?;
    put_many(&tier, &(0..20).map(|number| entry(number, number)).collect::<Vec<_>>());
    (0..20).for_each(|number| expect(&tier, &sample::key(number), number, len(number)));
    let keys: Vec<_> = [3, 100, 7, 3, 101, 0].map(sample::key).into();
    let expected = [Some(3), None, Some(7), Some(3), None, Some(0)];
    assert_eq!(
        get_many(&tier, &keys),
        expected.map(|found| found.map(|number| frame(number, number).to_vec()))
    );
    let keys: Vec<_> = [3, 100, 7].map(sample::key).into();
    assert_eq!(remove_many(&tier, &keys), [true, false, true]);
    assert_eq!(get_many(&tier, &keys), [None, None, None]);
    expect(&tier, &sample::key(4), 4, len(4));
    Ok(())
}

pub(super) fn the_later_of_two_puts_in_a_batch_stays(place: &Place) -> Verdict {
    let tier = place.storing()?;
    put_many(&tier, &[entry(1, 1), entry(2, 2), entry(1, 3)]);
    assert_eq!(get(&tier, &sample::key(1)), Some(frame(1, 3).to_vec().into()));
    Ok(())
}

pub(super) fn an_empty_batch_is_a_batch(place: &Place) -> Verdict {
    let tier = place.open();
    put_many(&tier, &[]);
    assert_eq!((get_many(&tier, &[]).len(), remove_many(&tier, &[]).len()), (0, 0));
    Ok(())
}

fn len(seed: u64) -> usize {
    seed as usize * 977
}

fn frame(number: u64, seed: u64) -> Frame {
    sample::frame(&sample::key(number), sample::payload(seed, len(seed)))
}

fn entry(number: u64, seed: u64) -> (EncodedKey, Frame) {
    (sample::key(number), frame(number, seed))
}

fn put_many(tier: &dyn Tier, entries: &[(EncodedKey, Frame)]) {
    let stored = block_on(tier.put_many(entries));
    assert_eq!(stored.len(), entries.len(), "results of put_many");
    stored.into_iter().for_each(|stored| stored.expect("put_many succeeds"));
}

fn get_many(tier: &dyn Tier, keys: &[EncodedKey]) -> Vec<Option<Vec<u8>>> {
    let found = block_on(tier.get_many(keys)).into_iter();
    found.map(|found| found.expect("get_many succeeds").map(|whole| whole.to_vec())).collect()
}

fn remove_many(tier: &dyn Tier, keys: &[EncodedKey]) -> Vec<bool> {
    let removed = block_on(tier.remove_many(keys)).into_iter();
    removed.map(|removed| removed.expect("remove_many succeeds")).collect()
}
