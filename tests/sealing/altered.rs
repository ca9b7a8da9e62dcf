//! Frames that were changed, moved or cut are never served.

use larder::{Bytes, Keys};
use larder_core::frame::{self, Head, Header, Payload};
use larder_core::key::EncodedKey;
use larder_testkit::{block_on, sample};
use xxhash_rust::xxh3::xxh3_64;

use super::{Sealed, key, keys};

fn sealed() -> Sealed {
    Sealed::of(&keys(1), "cache", "disk")
}

/// The offset of the checksum of a head.
const HEAD_SUM_AT: usize = 88;

/// Corrects both checksums of a frame, as someone who can write to a tier would.
fn with_right_sums(mut bytes: Vec<u8>) -> Vec<u8> {
    let lens = frame::lens(&bytes).filter(|lens| lens.head <= bytes.len() as u64);
    let Some(head) = lens.map(|lens| lens.head as usize) else { return bytes };
    let sum = xxh3_64(&bytes[head..]);
    bytes[80..88].copy_from_slice(&sum.to_le_bytes());
    let covered = [&bytes[..HEAD_SUM_AT], &bytes[frame::FIXED_LEN..head]].concat();
    bytes[HEAD_SUM_AT..frame::FIXED_LEN].copy_from_slice(&xxh3_64(&covered).to_le_bytes());
    bytes
}

#[test]
fn no_flipped_bit_is_accepted() {
    let (tier, key) = (sealed(), sample::key(1));
    tier.put(&key, &sample::frame(&key, sample::payload(1, 100)));
    let (name, stored) = tier.stored().pop().unwrap();
    assert!(tier.served(&key).is_some());
    let (mut tried, mut resummed) = (0, 0);
    for bit in 0..stored.len() * 8 {
        let mut flipped = stored.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        tier.plant(&name, &flipped);
        assert_eq!(tier.served(&key), None, "bit {bit}");
        let head = block_on(tier.tier.head(&key)).unwrap().unwrap();
        let is_of_body = bit / 8 >= frame::lens(&stored).unwrap().head as usize;
        assert!(
            is_of_body
                || frame::Head::parse(&head).is_ok_and(|head| head.key != key.as_bytes())
                || head.is_empty()
        );
        let right = with_right_sums(flipped);
        if right != stored {
            tier.plant(&name, &right);
            assert_eq!(tier.served(&key), None, "bit {bit}, with right checksums");
            resummed += 1;
        }
        tried += 1;
    }
    assert!(tried > 2000 && resummed > 1900, "{tried} {resummed}");
    tier.plant(&name, &stored);
    assert!(tier.served(&key).is_some(), "the frame itself is served");
}

#[test]
fn no_part_of_a_frame_and_no_longer_one_is_accepted() {
    let (tier, key) = (sealed(), sample::key(1));
    tier.put(&key, &sample::frame(&key, sample::payload(1, 100)));
    let (name, stored) = tier.stored().pop().unwrap();
    for len in 0..stored.len() {
        tier.plant(&name, &stored[..len]);
        assert_eq!(tier.served(&key), None, "{len} bytes");
    }
    tier.plant(&name, &[&stored[..], b"x"].concat());
    assert_eq!(tier.served(&key), None);
}

/// Cuts, repeats and exchanges whole segments, with lengths and checksums that fit.
#[test]
fn no_other_order_of_segments_is_accepted() {
    const SEALED: usize = (64 << 10) + 16;
    let (tier, key) = (sealed(), sample::key(1));
    tier.put(&key, &sample::frame(&key, sample::payload(1, 200_000)));
    let (name, stored) = tier.stored().pop().unwrap();
    assert!(tier.served(&key).is_some());
    let head_len = frame::lens(&stored).unwrap().head as usize;
    let (head, body) = stored.split_at(head_len);
    let segments: Vec<&[u8]> = body.chunks(SEALED).collect();
    assert_eq!(segments.len(), 4);
    for order in [&[0, 1, 2][..], &[0, 1, 3], &[3], &[1, 0, 2, 3], &[0, 1, 2, 2, 3], &[0, 1, 2, 3, 3], &[]] {
        let body: Vec<u8> = order.iter().flat_map(|at| segments[*at]).copied().collect();
        let mut head = head.to_vec();
        for at in [64, 72] {
            head[at..at + 8].copy_from_slice(&(body.len() as u64).to_le_bytes());
        }
        tier.plant(&name, &with_right_sums([head, body].concat()));
        assert_eq!(tier.served(&key), None, "{order:?}");
    }
}

/// Writes the head in another way that has the same content.
#[test]
fn other_spellings_of_a_head_are_not_accepted() {
    let (tier, key) = (sealed(), sample::key(1));
    tier.put(&key, &sample::frame(&key, sample::payload(1, 100)));
    let (name, stored) = tier.stored().pop().unwrap();
    let outer = Head::parse(&stored).unwrap();
    let content = &outer.attributes[3..];
    let attribute = |part: &[u8]| [&[10][..], &(part.len() as u16).to_le_bytes(), part].concat();
    assert_eq!(attribute(content), outer.attributes);
    let spelled = |attributes: &[u8], header: Header| {
        let payload = Payload { len: outer.payload_len, sum: outer.payload_sum, chunked: false };
        let body = stored.slice(outer.len()..);
        [frame::head(&header, &name, attributes, payload), body.to_vec()].concat()
    };
    assert_eq!(spelled(outer.attributes, outer.header), stored);
    let (front, back) = content.split_at(20);
    let others = [
        [attribute(front), attribute(back)].concat(),
        [outer.attributes, &attribute(b"")].concat(),
        [outer.attributes, &[200, 1, 0, 7]].concat(),
        [&[8, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0], outer.attributes].concat(),
    ];
    for attributes in others {
        tier.plant(&name, &spelled(&attributes, outer.header));
        assert_eq!(tier.served(&key), None, "{attributes:?}");
    }
    let later = Header { deadline: larder::Time::from_millis(7), ..outer.header };
    tier.plant(&name, &spelled(outer.attributes, later));
    assert_eq!(tier.served(&key), None, "another deadline");
}

#[test]
fn frames_of_other_keys_caches_tiers_and_secrets_are_not_accepted() {
    let (tier, one, two) = (sealed(), sample::key(1), sample::key(2));
    let frame = |key: &EncodedKey| sample::frame(key, sample::payload(1, 100));
    tier.put(&one, &frame(&one));
    let own = tier.stored().pop().unwrap();
    let others = [
        ("another key", Sealed::of(&keys(1), "cache", "disk"), &two),
        ("another cache", Sealed::of(&keys(1), "other", "disk"), &one),
        ("another tier", Sealed::of(&keys(1), "cache", "file"), &one),
        ("another secret", Sealed::of(&keys(2), "cache", "disk"), &one),
    ];
    for (what, other, of) in others {
        other.put(of, &frame(of));
        let (name, foreign) = other.stored().pop().unwrap();
        assert_ne!(name, own.0, "{what} has another name");
        // Moved as it is, then under the right name.
        tier.plant(&own.0, &foreign);
        assert_eq!(tier.served(&one), None, "{what}");
        let outer = Head::parse(&foreign).unwrap();
        let payload = Payload { len: outer.payload_len, sum: outer.payload_sum, chunked: false };
        let head = frame::head(&outer.header, &own.0, outer.attributes, payload);
        tier.plant(&own.0, &[&head[..], &foreign[outer.len()..]].concat());
        assert_eq!(tier.served(&one), None, "{what}, renamed");
    }
    tier.plant(&own.0, &own.1);
    assert!(tier.served(&one).is_some());
}

#[test]
fn parts_of_two_frames_of_one_key_are_not_accepted() {
    let (tier, key) = (sealed(), sample::key(1));
    let stored = [1, 2].map(|seed| {
        tier.put(&key, &sample::frame(&key, sample::payload(seed, 100)));
        tier.stored().pop().unwrap()
    });
    let (name, old) = &stored[0];
    let new = &stored[1].1;
    let head_len = frame::lens(new).unwrap().head as usize;
    for mixed in [[&old[..head_len], &new[head_len..]], [&new[..head_len], &old[head_len..]]] {
        for bytes in [mixed.concat(), with_right_sums(mixed.concat())] {
            tier.plant(name, &bytes);
            assert_eq!(tier.served(&key), None);
        }
    }
}

#[test]
fn plain_frames_in_a_sealed_tier_are_not_accepted() {
    let (tier, key) = (sealed(), sample::key(1));
    let plain = sample::frame(&key, sample::payload(1, 100));
    tier.put(&key, &plain);
    let (name, _) = tier.stored().pop().unwrap();
    tier.plant(&name, &plain.to_vec());
    assert_eq!(tier.served(&key), None);
    let renamed = sample::frame(&name, sample::payload(1, 100));
    tier.plant(&name, &renamed.to_vec());
    assert_eq!(tier.served(&key), None);
}

/// After a retired key is gone from the ring, its frames are no longer accepted.
#[test]
fn frames_of_a_retired_key_are_not_accepted() {
    let (storage, sample_key) = (larder_testkit::MapStorage::default(), sample::key(1));
    let old = Sealed::on(&storage, &keys(1), ("cache", "disk"));
    old.put(&sample_key, &sample::frame(&sample_key, sample::payload(1, 100)));
    let rotated = keys(1).rotate(key(2));
    let both = Sealed::on(&storage, &rotated, ("cache", "disk"));
    assert!(both.served(&sample_key).is_some());
    let retired: Keys = rotated.retire(key(1).id()).unwrap();
    let new = Sealed::on(&storage, &retired, ("cache", "disk"));
    assert_eq!(new.served(&sample_key), None);
    let replayed: Bytes = old.stored().pop().unwrap().1;
    new.put(&sample_key, &sample::frame(&sample_key, sample::payload(2, 100)));
    assert!(new.served(&sample_key).is_some());
    let (name, _) = new.stored().pop().unwrap();
    new.plant(&name, &replayed);
    assert_eq!(new.served(&sample_key), None, "replayed");
}

#[test]
fn long_keys_and_empty_values_are_sealed_and_opened() {
    let tier = sealed();
    for (len, payload) in [(0, 0), (65_000, 10), (70_000, 65_536), (200_000, 131_072), (3, 65_535)] {
        let key = EncodedKey::new(vec![7_u8; len]);
        let frame = sample::frame(&key, sample::payload(3, payload));
        tier.put(&key, &frame);
        assert_eq!(tier.served(&key).as_deref(), Some(&*frame.to_vec()), "{len} {payload}");
        let head = block_on(tier.tier.head(&key)).unwrap().unwrap();
        assert_eq!(head[..frame.head().len()], frame.head()[..]);
    }
}
