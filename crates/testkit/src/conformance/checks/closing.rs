//! Checks of a closed tier.

use larder_core::{Error, ErrorKind, Result};

use super::*;

pub(super) fn after_close_every_call_fails_with_closed(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let key = sample::key(1);
    put(&tier, &key, 1, 100);
    close(&tier);
    let frame = sample::frame(&key, Bytes::new());
    is_closed("get", block_on(tier.get(&key)));
    is_closed("put", block_on(tier.put(&key, &frame)));
    is_closed("remove", block_on(tier.remove(&key)));
    is_closed("contains", block_on(tier.contains(&key)));
    is_closed("clear", block_on(tier.clear()));
    is_closed("scan", block_on(tier.scan(&mut |_| ())));
    is_closed("flush", block_on(tier.flush()));
    is_closed("get of an absent key", block_on(tier.get(&sample::key(2))));
    Ok(())
}

pub(super) fn after_close_usage_is_zero(place: &Place) -> Verdict {
    let tier = place.storing()?;
    put(&tier, &sample::key(1), 1, 100);
    close(&tier);
    assert_eq!((tier.usage().entries, tier.usage().bytes), (0, 0), "entries, bytes");
    Ok(())
}

pub(super) fn a_second_close_succeeds(place: &Place) -> Verdict {
    let tier = place.open();
    put(&tier, &sample::key(1), 1, 100);
    (0..3).for_each(|_| close(&tier));
    Ok(())
}

pub(super) fn destroy_leaves_nothing_and_closes(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let key = sample::key(1);
    put(&tier, &key, 1, 100);
    block_on(tier.destroy()).unwrap_or_else(|error| panic!("destroy: {error:?}"));
    is_closed("get", block_on(tier.get(&key)));
    close(&tier);
    drop(tier);
    expect_none(&place.open(), &key);
    Ok(())
}

fn is_closed<T>(call: &str, result: Result<T>) {
    let kind = result.map(drop).map_err(|error: Error| error.kind());
    assert_eq!(kind, Err(ErrorKind::Closed), "{call} on a closed tier");
}
