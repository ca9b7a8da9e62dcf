//! Checks of streams: frames that are read and written in parts.

use std::io::Read;

use larder_core::frame::{self, Head};
use larder_core::stream::{Stored, Summing};
use larder_core::tier::{StreamingTier, Upload};
use larder_core::{ErrorKind, Result};

use super::*;
use crate::conformance::report::NotApplicable;

const LENGTHS: [usize; 4] = [0, 100, 5000, 3 << 20];
/// Number of bytes appended at once.
const PART: usize = 70_000;

/// A head and the payload after it, as a stream writes them.
fn parts(key: &EncodedKey, seed: u64, len: usize) -> (Vec<u8>, Vec<u8>) {
    let payload = sample::payload(seed, len);
    let mut summing = Summing::default();
    summing.update(&payload);
    let (told, sums) = summing.finish();
    let head = frame::head(&sample::header(len), key, b"", told);
    (head, [&payload[..], &sums.to_bytes()].concat())
}

fn upload(tier: &dyn Tier, key: &EncodedKey, seed: u64, len: usize) -> Result<Upload> {
    let (head, body) = parts(key, seed, len);
    let mut upload = block_on(of(tier).begin_upload(key, head.len()))?;
    for part in body.chunks(PART) {
        block_on(of(tier).append(&mut upload, part))?;
    }
    Ok(upload)
}

fn publish(tier: &dyn Tier, key: &EncodedKey, seed: u64, len: usize) {
    let upload = upload(tier, key, seed, len).expect("an upload is written");
    block_on(of(tier).publish(key, upload, &parts(key, seed, len).0)).expect("publish succeeds");
}

fn expect_parts(tier: &dyn Tier, key: &EncodedKey, seed: u64, len: usize) {
    let (head, body) = parts(key, seed, len);
    let whole = [head, body].concat();
    let found = get(tier, key).unwrap_or_else(|| panic!("{key:?}, {len} bytes: published, and absent"));
    assert!(found == whole, "{key:?}, {len} bytes: other bytes than were published");
    assert!(read(open(tier, key)) == whole, "{key:?}, {len} bytes: open reads other bytes than get");
}

fn open(tier: &dyn Tier, key: &EncodedKey) -> Stored {
    block_on(of(tier).open(key)).expect("open succeeds").expect("open finds what get finds")
}

fn read(mut stored: Stored) -> Vec<u8> {
    let mut whole = Vec::new();
    stored.medium.read_to_end(&mut whole).expect("what was opened is read");
    assert_eq!(whole.len() as u64, stored.len, "the length that open tells");
    whole
}

fn streaming(place: &Place) -> std::result::Result<Box<dyn Tier>, NotApplicable> {
    let tier = place.storing()?;
    if tier.streaming().is_some() { Ok(tier) } else { Err(NotApplicable("it does not stream")) }
}

fn of(tier: &dyn Tier) -> &dyn StreamingTier {
    tier.streaming().expect("the accessor is constant")
}

pub(super) fn open_reads_what_put_stored(place: &Place) -> Verdict {
    let tier = streaming(place)?;
    let key = sample::key(1);
    assert!(block_on(of(&tier).open(&key)).expect("open succeeds").is_none(), "before put");
    put(&tier, &key, 1, 5000);
    assert!(read(open(&tier, &key)) == sample::frame(&key, sample::payload(1, 5000)).to_vec());
    remove(&tier, &key);
    assert!(block_on(of(&tier).open(&key)).expect("open succeeds").is_none(), "after remove");
    Ok(())
}

pub(super) fn what_was_opened_stays_what_it_was(place: &Place) -> Verdict {
    let tier = streaming(place)?;
    let key = sample::key(1);
    put(&tier, &key, 1, 300_000);
    let [replaced, removed, cleared, closed]: [Stored; 4] = std::array::from_fn(|_| open(&tier, &key));
    let whole = sample::frame(&key, sample::payload(1, 300_000)).to_vec();
    put(&tier, &key, 2, 300_000);
    assert!(read(replaced) == whole, "after the entry was replaced");
    remove(&tier, &key);
    assert!(read(removed) == whole, "after it was removed");
    put(&tier, &key, 3, 100);
    clear(&tier);
    assert!(read(cleared) == whole, "after the tier was cleared");
    close(&tier);
    assert!(read(closed) == whole, "after it was closed");
    Ok(())
}

pub(super) fn a_frame_in_parts_is_stored_as_one_in_one_piece(place: &Place) -> Verdict {
    let tier = streaming(place)?;
    let limit = tier.capability().frame_bytes_max;
    let lengths: Vec<usize> = LENGTHS.into_iter().filter(|len| *len as u64 + 1024 <= limit).collect();
    for (number, len) in lengths.iter().copied().enumerate() {
        let key = sample::key(number as u64);
        publish(&tier, &key, 1, len);
        expect_parts(&tier, &key, 1, len);
    }
    let key = sample::key(0);
    publish(&tier, &key, 2, 5000);
    expect_parts(&tier, &key, 2, 5000);
    put(&tier, &key, 3, 100);
    expect(&tier, &key, 3, 100);
    let mut heads = 0;
    block_on(tier.scan(&mut |head| heads += usize::from(Head::parse(head).is_ok()))).expect("scan succeeds");
    assert_eq!(heads, lengths.len(), "heads that scan finds");
    Ok(())
}

pub(super) fn an_upload_that_is_not_published_changes_nothing(place: &Place) -> Verdict {
    let tier = streaming(place)?;
    let (key, other) = (sample::key(1), sample::key(2));
    put(&tier, &key, 1, 100);
    let before = tier.usage();
    let uploads = [upload(&tier, &key, 2, 300_000), upload(&tier, &other, 2, 300_000)];
    expect(&tier, &key, 1, 100);
    expect_none(&tier, &other);
    drop(uploads);
    expect(&tier, &key, 1, 100);
    expect_none(&tier, &other);
    assert_eq!(tier.usage(), before, "usage");
    Ok(())
}

pub(super) fn two_uploads_of_one_key_do_not_meet(place: &Place) -> Verdict {
    let tier = streaming(place)?;
    let key = sample::key(1);
    let first = upload(&tier, &key, 1, 300_000).expect("an upload is written");
    let second = upload(&tier, &key, 2, 5000).expect("a second one is written");
    block_on(of(&tier).publish(&key, second, &parts(&key, 2, 5000).0)).expect("publish succeeds");
    expect_parts(&tier, &key, 2, 5000);
    block_on(of(&tier).publish(&key, first, &parts(&key, 1, 300_000).0)).expect("publish succeeds");
    expect_parts(&tier, &key, 1, 300_000);
    Ok(())
}

pub(super) fn a_stream_is_refused_as_a_put_is(place: &Place) -> Verdict {
    let tier = streaming(place)?;
    let key = sample::key(1);
    let kind = |result: Result<Upload>| result.map(drop).map_err(|error| error.kind());
    let limit = tier.capability().frame_bytes_max;
    if limit < 64 << 20 {
        let refused = kind(upload(&tier, &key, 1, limit as usize + 1));
        assert!(
            matches!(refused, Err(ErrorKind::TooLarge | ErrorKind::Full)),
            "above the limit: {refused:?}"
        );
        expect_none(&tier, &key);
    }
    close(&tier);
    assert_eq!(kind(upload(&tier, &key, 1, 100)), Err(ErrorKind::Closed), "after close");
    Ok(())
}
