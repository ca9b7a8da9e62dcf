//! Checks of keys of all lengths.

use super::*;
use crate::conformance::report::NotApplicable;

/// The length of the longest key that is tried.
const KEY_LEN: usize = 1 << 20;
/// More than the payload that [`lives`] puts, and the rest of its frame.
const FRAME_ROOM: u64 = 8 << 10;

pub(super) fn keys_that_differ_in_one_byte_are_different(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let last_byte = (0..=255_u8).map(|last| EncodedKey::new([7, 7, 7, last]));
    let prefixes = (1..=8_usize).map(|len| EncodedKey::new(vec![0; len]));
    let long = (0..2_u8).map(|last| EncodedKey::new([vec![9; 5000], vec![last]].concat()));
    let keys: Vec<_> = last_byte.chain(prefixes).chain(long).collect();
    for (seed, key) in keys.iter().enumerate() {
        put(&tier, key, seed as u64, 50);
    }
    for (seed, key) in keys.iter().enumerate() {
        expect(&tier, key, seed as u64, 50);
    }
    assert!(remove(&tier, &keys[0]), "remove of one");
    expect_none(&tier, &keys[0]);
    expect(&tier, &keys[1], 1, 50);
    Ok(())
}

pub(super) fn an_empty_key_is_a_key(place: &Place) -> Verdict {
    lives(&place.storing()?, &EncodedKey::new([]))
}

pub(super) fn a_key_of_1_mib_is_a_key(place: &Place) -> Verdict {
    let tier = place.storing()?;
    if tier.capability().frame_bytes_max < KEY_LEN as u64 + FRAME_ROOM {
        return Err(NotApplicable("a frame with such a key is larger than it takes"));
    }
    lives(&tier, &EncodedKey::new(vec![9; KEY_LEN]))
}

fn lives(tier: &dyn Tier, key: &EncodedKey) -> Verdict {
    expect_none(tier, key);
    put(tier, key, 1, 100);
    expect(tier, key, 1, 100);
    put(tier, key, 2, 5000);
    expect(tier, key, 2, 5000);
    let mut keys = Vec::new();
    block_on(tier.scan(&mut |head| keys.push(scanning::key_of(head)))).expect("scan succeeds");
    assert!(keys == [key.as_bytes()], "scan does not visit the key alone");
    assert!(remove(tier, key), "remove finds it");
    expect_none(tier, key);
    Ok(())
}
