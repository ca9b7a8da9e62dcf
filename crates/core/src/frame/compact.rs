//! Format 2: a small frame without what its place knows.
//!
//! A place that finds a frame by its whole key, and knows where the frame ends, stores neither of the two. The
//! checksum of the head covers the checksum of the payload, so that one is computed again. The rest has
//! variable length. [`expand`] restores the frame of format 1, byte for byte.
//!
//! Only the disk tier writes this form, for its own rows. Frames that other processes read have format 1.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::{FIXED_LEN, Frame, HEAD_SUM_AT, MAGIC, VERSION, word32, word64};
use crate::clock::Time;

/// Bytes before the fields of variable length: two of flags, the checksum of the head, the time of creation.
const START_LEN: usize = 16;
/// The most bytes that precede attributes and payload.
const HEAD_LEN_MAX: usize = START_LEN + 3 + 8 + 6 * 10;

// The first byte: the codec in the lower half, the compression in the next two bits.
const HAS_ATTRIBUTES: u8 = 1 << 6;
const HAS_COST: u8 = 1 << 7;
// The second byte: the kind in the lower half.
const HAS_SHAPE: u8 = 1 << 4;
const HAS_DEADLINE: u8 = 1 << 5;
const HAS_STALE_DEADLINE: u8 = 1 << 6;
const HAS_VALUE_LEN: u8 = 1 << 7;

/// Appends the compact form of a frame of format 1 to `to`. Returns false, and appends nothing, for a frame
/// that has none: one with checksums of chunks, or with a time after the year 10,889.
pub fn shrink(frame: &Frame, to: &mut Vec<u8>) -> bool {
    let (head, body) = (frame.head(), frame.body());
    let Some(fixed) = head.get(..FIXED_LEN) else { return false };
    let [codec, compression, flags, kind] = [fixed[5], fixed[6], fixed[7], fixed[20]];
    let created = word64(fixed, 32);
    let is_plain =
        fixed[..4] == MAGIC && fixed[4] == VERSION && flags == 0 && word64(fixed, 64) == body.len() as u64;
    if !is_plain || codec > 15 || compression > 3 || kind > 15 || created >> 48 != 0 {
        return false;
    }
    let key_len = word32(fixed, 12) as usize;
    let Some(attributes) = head.get(FIXED_LEN + key_len..) else { return false };
    let [shape, deadline, stale_deadline, value_len] = [24, 40, 48, 72].map(|at| word64(fixed, at));
    let cost = &fixed[21..24];
    let set = |is: bool, flag: u8| if is { flag } else { 0 };
    to.push(
        codec
            | compression << 4
            | set(!attributes.is_empty(), HAS_ATTRIBUTES)
            | set(cost != [0; 3], HAS_COST),
    );
    to.push(
        kind | set(shape != 0, HAS_SHAPE)
            | set(deadline != NEVER, HAS_DEADLINE)
            | set(stale_deadline != NEVER, HAS_STALE_DEADLINE)
            | set(value_len != body.len() as u64, HAS_VALUE_LEN),
    );
    to.extend_from_slice(&fixed[HEAD_SUM_AT..]);
    to.extend_from_slice(&created.to_le_bytes()[..6]);
    put_varint(to, u64::from(word32(fixed, 8)));
    put_varint(to, word64(fixed, 56));
    if cost != [0; 3] {
        to.extend_from_slice(cost);
    }
    if shape != 0 {
        to.extend_from_slice(&shape.to_le_bytes());
    }
    if deadline != NEVER {
        put_varint(to, deadline.wrapping_sub(created));
    }
    if stale_deadline != NEVER {
        put_varint(to, stale_deadline.wrapping_sub(deadline));
    }
    if value_len != body.len() as u64 {
        put_varint(to, value_len);
    }
    if !attributes.is_empty() {
        put_varint(to, attributes.len() as u64);
    }
    to.extend_from_slice(attributes);
    to.extend_from_slice(body);
    true
}

/// Bytes that [`shrink`] appends for a frame, at most.
pub fn len_max(frame: &Frame) -> usize {
    HEAD_LEN_MAX + frame.len().saturating_sub(FIXED_LEN)
}

/// The frame of format 1 of which `bytes` are the compact form, under this encoded key. `None` if they are too
/// short. Says nothing about checksums: what the bytes do not tell right, the restored frame fails for.
pub fn expand(bytes: &[u8], key: &[u8]) -> Option<Bytes> {
    let fields = Fields::read(bytes)?;
    let payload = fields.payload;
    let mut whole = Vec::with_capacity(FIXED_LEN + key.len() + fields.attributes.len() + payload.len());
    whole.extend_from_slice(&MAGIC);
    whole.extend_from_slice(&[VERSION, fields.first & 15, fields.first >> 4 & 3, 0]);
    whole.extend_from_slice(&fields.schema.to_le_bytes());
    whole.extend_from_slice(&u32::try_from(key.len()).ok()?.to_le_bytes());
    whole.extend_from_slice(&u32::try_from(fields.attributes.len()).ok()?.to_le_bytes());
    let [low, middle, high] = fields.cost;
    whole.extend_from_slice(&[fields.second & 15, low, middle, high]);
    let words = [
        fields.shape,
        fields.created,
        fields.deadline,
        fields.stale_deadline,
        fields.generation,
        payload.len() as u64,
        fields.value_len,
        xxh3_64(payload),
        fields.sum,
    ];
    for word in words {
        whole.extend_from_slice(&word.to_le_bytes());
    }
    whole.extend_from_slice(key);
    whole.extend_from_slice(fields.attributes);
    whole.extend_from_slice(payload);
    Some(whole.into())
}

/// Reads from a compact form, without verifying it, until when the frame may be served. `None` if the bytes
/// are too short.
pub fn kept_until(bytes: &[u8]) -> Option<Time> {
    let fields = Fields::read(bytes)?;
    Some(Time::from_millis(fields.deadline.max(fields.stale_deadline)))
}

const NEVER: u64 = Time::NEVER.as_millis();

/// The fields of a compact form.
struct Fields<'a> {
    first: u8,
    second: u8,
    sum: u64,
    created: u64,
    schema: u32,
    generation: u64,
    cost: [u8; 3],
    shape: u64,
    deadline: u64,
    stale_deadline: u64,
    value_len: u64,
    attributes: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (start, mut rest) = bytes.split_first_chunk::<START_LEN>()?;
        let [first, second, ..] = *start;
        let created = word64(start, 8) >> 16;
        let schema = u32::try_from(varint(&mut rest)?).ok()?;
        let generation = varint(&mut rest)?;
        let cost = if first & HAS_COST != 0 { *chunk(&mut rest)? } else { [0; 3] };
        let shape = if second & HAS_SHAPE != 0 { u64::from_le_bytes(*chunk(&mut rest)?) } else { 0 };
        let after = |is: bool, base: u64, rest: &mut &'a [u8]| match is {
            true => varint(rest).map(|span| base.wrapping_add(span)),
            false => Some(NEVER),
        };
        let deadline = after(second & HAS_DEADLINE != 0, created, &mut rest)?;
        let stale_deadline = after(second & HAS_STALE_DEADLINE != 0, deadline, &mut rest)?;
        let value_len = if second & HAS_VALUE_LEN != 0 { Some(varint(&mut rest)?) } else { None };
        let attributes_len = if first & HAS_ATTRIBUTES != 0 { varint(&mut rest)? } else { 0 };
        let (attributes, payload) = rest.split_at_checked(usize::try_from(attributes_len).ok()?)?;
        Some(Self {
            first,
            second,
            sum: word64(start, 2),
            created,
            schema,
            generation,
            cost,
            shape,
            deadline,
            stale_deadline,
            value_len: value_len.unwrap_or(payload.len() as u64),
            attributes,
            payload,
        })
    }
}

fn chunk<'a, const LEN: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; LEN]> {
    let (chunk, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(chunk)
}

/// Appends a number in groups of seven bits, the lowest first; the highest bit of a byte says that more
/// follow.
fn put_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        number |= bits << shift;
        if bits << shift >> shift != bits {
            return None;
        }
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::frame::{CodecId, Compression, Header, open};
    use crate::key::EncodedKey;
    use crate::place::Kind;

    fn key() -> EncodedKey {
        EncodedKey::new(*b"\xa3key")
    }

    fn header(value_len: u64) -> Header {
        Header {
            codec: CodecId::Arrow,
            compression: Compression::Lz4,
            kind: Kind::Model,
            schema: 7,
            shape: 0x0102_0304_0506_0708,
            created: Time::from_millis(1_800_000_000_000),
            deadline: Time::from_millis(1_800_000_060_000),
            stale_deadline: Time::from_millis(1_800_000_090_000),
            generation: 300,
            value_len,
            load_cost: Some(Duration::from_millis(3)),
        }
    }

    fn plain(payload: &[u8]) -> Frame {
        let header = Header {
            codec: CodecId::Raw,
            compression: Compression::None,
            kind: Kind::Bytes,
            schema: 0,
            shape: 0,
            deadline: Time::NEVER,
            stale_deadline: Time::NEVER,
            generation: 0,
            load_cost: None,
            ..header(payload.len() as u64)
        };
        Frame::new(&header, &key(), b"", Bytes::copy_from_slice(payload))
    }

    fn shrunk(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(shrink(frame, &mut bytes));
        assert!(bytes.len() <= len_max(frame));
        bytes
    }

    #[test]
    fn frames_are_restored_byte_for_byte() {
        let tagged =
            |header: &Header| Frame::new(header, &key(), b"\x01\x01\x00a", Bytes::from_static(b"payload"));
        let earlier =
            Header { deadline: Time::from_millis(5), stale_deadline: Time::from_millis(0), ..header(9) };
        let late = Header {
            created: Time::from_millis((1 << 48) - 1),
            schema: u32::MAX,
            generation: u64::MAX,
            ..header(u64::MAX)
        };
        let frames = [
            plain(b""),
            plain(b"payload"),
            plain(&[7; 300]),
            tagged(&header(7)),
            tagged(&earlier),
            tagged(&late),
        ];
        for frame in frames {
            assert_eq!(expand(&shrunk(&frame), key().as_bytes()).unwrap(), frame.to_vec());
        }
    }

    #[test]
    fn entry_without_tags_takes_at_most_forty_bytes_beside_key_and_value() {
        assert_eq!(shrunk(&plain(&[7; 100])).len() - 100, 18);
        let all = Frame::new(&header(1000), &key(), b"", Bytes::from(vec![7; 100]));
        assert_eq!(shrunk(&all).len() - 100, 38);
    }

    #[test]
    fn any_change_is_detected_by_the_restored_frame() {
        let bytes = shrunk(&Frame::new(&header(7), &key(), b"\x01\x01\x00a", Bytes::from_static(b"payload")));
        let opens =
            |bytes: &[u8]| expand(bytes, key().as_bytes()).is_some_and(|frame| open(&frame, &key()).is_ok());
        assert!(opens(&bytes));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&flipped), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(!opens(&bytes[..len]), "length {len}");
        }
        assert!(!opens(&[&bytes[..], &[0]].concat()));
        assert!(
            expand(&bytes, b"\xa3kez")
                .is_some_and(|frame| open(&frame, &EncodedKey::new(*b"\xa3kez")).is_err())
        );
    }

    #[test]
    fn kept_until_is_that_of_the_frame() {
        let frame = Frame::new(&header(7), &key(), b"", Bytes::from_static(b"payload"));
        assert_eq!(kept_until(&shrunk(&frame)), crate::frame::kept_until(frame.head()));
        assert_eq!(kept_until(&shrunk(&plain(b"7"))), Some(Time::NEVER));
    }

    #[test]
    fn frames_without_a_compact_form_are_refused() {
        let far = Header { created: Time::from_millis(1 << 48), ..header(7) };
        let mut bytes = Vec::new();
        assert!(!shrink(&Frame::new(&far, &key(), b"", Bytes::from_static(b"payload")), &mut bytes));
        assert!(bytes.is_empty());
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        assert_eq!(
            varint(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..]),
            Some(u64::MAX)
        );
        assert_eq!(varint(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..]), None);
        assert_eq!(varint(&mut &[0x80; 12][..]), None);
        assert_eq!(varint(&mut &[0x80][..]), None);
    }
}
