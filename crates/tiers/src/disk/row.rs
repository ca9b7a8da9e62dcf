//! A row: its key and its value.
//!
//! A short key is stored as it is, so that neighbouring keys share pages. A long key is stored as
//! its digest. The value is a tag, followed by the frame itself or by a pointer to a frame in a
//! segment. A third tag stands alone and is a tombstone: the row was removed, and older places have
//! no valid value of it. After a fourth tag follows the compact form of a frame, without its key, which
//! is the key of the row. Any other value is invalid and treated as absent.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use larder_core::Bytes;
use larder_core::clock::Time;
use larder_core::frame::{self, Frame, compact};
use larder_core::key::EncodedKey;
use sled::IVec;

/// Longest key, in bytes, that is stored as it is.
const SHORT_MAX: usize = 128;
/// Longest key of a row, in bytes.
pub(in crate::disk) const ROW_LEN_MAX: usize = 1 + SHORT_MAX;
const TAG_SHORT: u8 = 0;
const TAG_DIGEST: u8 = 1;

const TAG_INLINE: u8 = 0;
const TAG_RECORD: u8 = 1;
const TAG_REMOVED: u8 = 2;
const TAG_COMPACT: u8 = 3;
const RECORD_LEN: usize = 1 + 3 * 8;

/// The tombstone: value of a row that was removed. Only `tables` and compaction see it.
pub(in crate::disk) const REMOVED: &[u8] = &[TAG_REMOVED];

/// The key of a row, stored without an allocation.
pub(in crate::disk) struct RowKey {
    bytes: [u8; ROW_LEN_MAX],
    len: usize,
}

impl RowKey {
    /// The key of the row of `key`.
    pub(in crate::disk) fn of(key: &EncodedKey) -> Self {
        if key.as_bytes().len() <= SHORT_MAX {
            Self::tagged(TAG_SHORT, key.as_bytes())
        } else {
            Self::tagged(TAG_DIGEST, &key.digest().to_be_bytes())
        }
    }

    fn tagged(tag: u8, key: &[u8]) -> Self {
        let mut bytes = [0; ROW_LEN_MAX];
        bytes[0] = tag;
        bytes[1..=key.len()].copy_from_slice(key);
        Self { bytes, len: 1 + key.len() }
    }
}

impl AsRef<[u8]> for RowKey {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The hash of a row that chooses its stripe lock.
pub(in crate::disk) fn stripe(row: &[u8]) -> usize {
    FixedState::default().hash_one(row) as usize
}

/// The position of a frame in a segment. It is read from disk, so its fields are checked before
/// use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) struct Pointer {
    /// The number of the segment.
    pub(in crate::disk) segment: u64,
    /// The offset of the frame in it.
    pub(in crate::disk) offset: u64,
    /// Bytes of the frame.
    pub(in crate::disk) len: u64,
}

/// The value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Row<'a> {
    /// The frame itself.
    Inline(&'a [u8]),
    /// The compact form of the frame.
    Compact(&'a [u8]),
    /// The position of the frame.
    Record(Pointer),
}

impl<'a> Row<'a> {
    /// Parses a value. `None` if it is a tombstone or invalid.
    pub(in crate::disk) fn parse(value: &'a [u8]) -> Option<Self> {
        match value.split_first()? {
            (&TAG_INLINE, frame) => Some(Self::Inline(frame)),
            (&TAG_COMPACT, bytes) => Some(Self::Compact(bytes)),
            (&TAG_RECORD, words) if value.len() == RECORD_LEN => Some(Self::Record(Pointer {
                segment: word(words, 0)?,
                offset: word(words, 1)?,
                len: word(words, 2)?,
            })),
            _ => None,
        }
    }

    /// The pointer, if the frame is in a segment.
    pub(in crate::disk) fn pointer(value: &'a [u8]) -> Option<Pointer> {
        match Self::parse(value) {
            Some(Self::Record(pointer)) => Some(pointer),
            _ => None,
        }
    }
}

fn word(words: &[u8], index: usize) -> Option<u64> {
    let bytes = words.get(index * 8..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// A value of [`Row::Inline`], borrowed as the frame in it.
struct InlineFrame(IVec);

impl AsRef<[u8]> for InlineFrame {
    fn as_ref(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }
}

/// The frame in the value of a row, unless it is in a segment.
///
/// A frame that was stored as it is shares memory with sled's cache. From about 1 KiB on a copy would
/// cost more than the look-up, because it reads bytes that the look-up does not.
pub(in crate::disk) fn frame_of(row: &[u8], value: IVec) -> Option<Bytes> {
    match Row::parse(&value)? {
        Row::Inline(_) => Some(Bytes::from_owner(InlineFrame(value))),
        Row::Compact(bytes) => match row.split_first()? {
            (&TAG_SHORT, key) => compact::expand(bytes, key),
            _ => None,
        },
        Row::Record(_) => None,
    }
}

/// Until when the entry of a value may be served. `None` if it is in a segment, or not a frame.
pub(in crate::disk) fn kept_until(value: &[u8]) -> Option<Time> {
    match Row::parse(value)? {
        Row::Inline(frame) => frame::kept_until(frame),
        Row::Compact(bytes) => compact::kept_until(bytes),
        Row::Record(_) => None,
    }
}

/// Encodes the value that holds `frame` itself into `value`, in place of what it held: the compact form of the
/// frame where the key of the row is that of the frame.
pub(in crate::disk) fn inline(row: &[u8], frame: &Frame, value: &mut Vec<u8>) {
    value.clear();
    value.reserve(1 + compact::len_max(frame));
    if row.first() == Some(&TAG_SHORT) {
        value.push(TAG_COMPACT);
        if compact::shrink(frame, value) {
            return;
        }
        value.clear();
    }
    value.push(TAG_INLINE);
    value.extend_from_slice(frame.head());
    value.extend_from_slice(frame.body());
}

impl Pointer {
    /// Encodes the value that holds this pointer.
    pub(in crate::disk) fn to_value(self) -> [u8; RECORD_LEN] {
        let mut value = [0; RECORD_LEN];
        value[0] = TAG_RECORD;
        for (at, word) in [self.segment, self.offset, self.len].into_iter().enumerate() {
            value[1 + at * 8..9 + at * 8].copy_from_slice(&word.to_le_bytes());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_reads_back() {
        let pointer = Pointer { segment: 7, offset: u64::MAX, len: 1 };
        assert_eq!(Row::parse(&pointer.to_value()), Some(Row::Record(pointer)));
    }

    #[test]
    fn invalid_values_are_none() {
        let pointer = Pointer { segment: 7, offset: 8, len: 9 }.to_value();
        for len in 0..pointer.len() {
            assert_eq!(Row::parse(&pointer[..len]), None, "{len} bytes of a pointer");
        }
        assert_eq!(Row::parse(&[2, 0, 0]), None);
        assert_eq!(Row::parse(&[4, 0, 0]), None);
    }

    #[test]
    fn long_keys_are_stored_as_digests() {
        let short = EncodedKey::new(vec![1; SHORT_MAX]);
        let long = EncodedKey::new(vec![1; SHORT_MAX + 1]);
        assert_eq!(&RowKey::of(&short).as_ref()[1..], short.as_bytes());
        assert_eq!(RowKey::of(&long).as_ref().len(), 17);
        assert_eq!(&RowKey::of(&long).as_ref()[1..], &long.digest().to_be_bytes());
    }
}
