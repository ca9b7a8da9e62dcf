//! Checks of removals: a removed entry is absent.

use super::*;

pub(super) fn remove_tells_whether_there_was_an_entry(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let key = sample::key(1);
    assert!(!remove(&tier, &key), "remove of what never was");
    put(&tier, &key, 1, 100);
    assert!(remove(&tier, &key), "first remove");
    assert!(!remove(&tier, &key), "second remove");
    Ok(())
}

pub(super) fn get_after_remove_is_none(place: &Place) -> Verdict {
    let tier = place.storing()?;
    for len in [0, 100, 100_000] {
        put(&tier, &sample::key(1), 1, len);
        put(&tier, &sample::key(2), 2, len);
        remove(&tier, &sample::key(1));
        expect_none(&tier, &sample::key(1));
        expect(&tier, &sample::key(2), 2, len);
    }
    Ok(())
}

pub(super) fn get_after_clear_is_none(place: &Place) -> Verdict {
    let tier = place.storing()?;
    clear(&tier);
    (0..50).for_each(|number| put(&tier, &sample::key(number), number, 3000 * number as usize));
    clear(&tier);
    (0..50).for_each(|number| expect_none(&tier, &sample::key(number)));
    assert!(!remove(&tier, &sample::key(7)), "remove after clear");
    Ok(())
}

pub(super) fn put_after_remove_and_clear_is_there(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let key = sample::key(1);
    put(&tier, &key, 1, 100);
    remove(&tier, &key);
    put(&tier, &key, 2, 200);
    expect(&tier, &key, 2, 200);
    clear(&tier);
    put(&tier, &key, 3, 300);
    expect(&tier, &key, 3, 300);
    Ok(())
}
