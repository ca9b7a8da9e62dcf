//! The frame around an encoded value, on disk and on the network.
//!
//! `docs/format.md` specifies every byte. A frame is written in two parts, the head (fixed part, key, attributes)
//! and the body (payload), so that no large payload is copied to put a header before it.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes};
use thiserror::Error;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::clock::Time;
use crate::key::EncodedKey;
use crate::place::Kind;
use crate::stream::Sums;

pub mod compact;

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"LRDR";
/// The format version this build writes.
pub const VERSION: u8 = 1;
/// The length of the fixed part of a head, in bytes.
pub const FIXED_LEN: usize = 96;

/// Offset of the head's checksum, which covers the fixed part before it, the key and the attributes.
const HEAD_SUM_AT: usize = 88;
/// Flag of a frame whose payload is followed by the checksums of its chunks.
const CHUNKED: u8 = 1;

/// The codec that encoded a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum CodecId {
    /// The bytes of the value itself.
    Raw = 0,
    /// bincode 1.3, fixed-width integers, little-endian.
    Bincode = 1,
    /// MessagePack with field names.
    MessagePack = 2,
    /// JSON.
    Json = 3,
    /// Fixed-width numbers, little-endian, one after another.
    Numbers = 4,
    /// UTF-8 text.
    Text = 5,
    /// No payload: the entry records that there is no value.
    Absent = 6,
    /// An array: its axes, then fixed-width numbers, little-endian.
    Array = 7,
    /// A picture: its size, then its pixels.
    Pixels = 8,
    /// An Arrow IPC stream of one record batch.
    Arrow = 9,
    /// Another frame, sealed. No reader decodes it as a value.
    Sealed = 10,
    /// A dictionary that payloads are compressed with, or the index of these. No reader decodes it as a value.
    Dictionary = 11,
}

/// The compression of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Compression {
    /// Not compressed.
    None = 0,
    /// zstd.
    Zstd = 1,
    /// LZ4 block format.
    Lz4 = 2,
    /// zstd with a dictionary; the number of the dictionary comes first.
    Dictionary = 3,
}

macro_rules! from_byte {
    ($name:ident: $($variant:ident),+) => {
        impl $name {
            fn from_byte(byte: u8) -> Option<Self> {
                $(if byte == Self::$variant as u8 { return Some(Self::$variant); })+
                None
            }
        }
    };
}

from_byte!(CodecId: Raw, Bincode, MessagePack, Json, Numbers, Text, Absent, Array, Pixels, Arrow, Sealed, Dictionary);
from_byte!(Compression: None, Zstd, Lz4, Dictionary);

/// Why bytes are not a usable frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Shorter than its own lengths say.
    #[error("the frame is truncated")]
    Truncated,
    /// Longer than its own lengths say.
    #[error("bytes follow the frame")]
    Trailing,
    /// Does not begin with the magic bytes.
    #[error("not a frame")]
    Foreign,
    /// Written by a format this build does not know.
    #[error("the frame has format version {0}; this build reads {VERSION}")]
    Version(u8),
    /// A codec, compression or flag this build does not know.
    #[error("the frame uses a feature this build does not know")]
    Unknown,
    /// A checksum does not match.
    #[error("a checksum does not match")]
    Checksum,
    /// The frame belongs to another key.
    #[error("the frame belongs to another key")]
    OtherKey,
    /// The frame is sealed, and the reader has no key for it.
    #[error("the frame is sealed by a key that this cache does not have")]
    Sealed,
}

/// The fields of a head, apart from key and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The codec of the payload.
    pub codec: CodecId,
    /// The compression of the payload.
    pub compression: Compression,
    /// The kind of value, for the selector and for display.
    pub kind: Kind,
    /// The schema version that the user set.
    pub schema: u32,
    /// The fingerprint of the value's type, or the form of the value; zero if the codec needs neither.
    pub shape: u64,
    /// When the entry was written.
    pub created: Time,
    /// The entry is absent from this time on.
    pub deadline: Time,
    /// The entry may not even be served as stale from this time on.
    pub stale_deadline: Time,
    /// A number that orders the changes of one key.
    pub generation: u64,
    /// Bytes of the value before compression.
    pub value_len: u64,
    /// The cost of the load, to the microsecond and capped at [`LOAD_COST_MAX`]; `None` if it was not
    /// measured.
    pub load_cost: Option<Duration>,
}

/// The fields of a head that describe its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Length in bytes, as stored.
    pub len: u64,
    /// XXH3-64 of the whole payload.
    pub sum: u64,
    /// Whether the checksums of its chunks follow.
    pub chunked: bool,
}

/// A frame to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    head: Bytes,
    body: Bytes,
}

impl Frame {
    /// Puts a frame around `payload`.
    pub fn new(header: &Header, key: &EncodedKey, attributes: &[u8], payload: Bytes) -> Self {
        let told = Payload { len: payload.len() as u64, sum: xxh3_64(&payload), chunked: false };
        Self { head: head(header, key, attributes, told).into(), body: payload }
    }

    /// The frame of a head that [`head`] encoded and of its payload.
    pub fn from_parts(head: Vec<u8>, payload: Bytes) -> Self {
        Self { head: head.into(), body: payload }
    }

    /// The fixed part, the key and the attributes.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The payload.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The payload, without the head.
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// Bytes of head and body.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Always false: a frame has a head.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies head and body into one buffer.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.len());
        whole.extend_from_slice(&self.head);
        whole.extend_from_slice(&self.body);
        whole
    }
}

/// Encodes the head of a frame: the fixed part, the key, the attributes.
///
/// Its length depends only on key and attributes, so space for it can be reserved before a payload of unknown
/// length.
pub fn head(header: &Header, key: &EncodedKey, attributes: &[u8], payload: Payload) -> Vec<u8> {
    let mut head = Vec::with_capacity(head_len(key, attributes));
    let flags = if payload.chunked { CHUNKED } else { 0 };
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&[VERSION, header.codec as u8, header.compression as u8, flags]);
    head.extend_from_slice(&header.schema.to_le_bytes());
    head.extend_from_slice(&len_u32(key.as_bytes()).to_le_bytes());
    head.extend_from_slice(&len_u32(attributes).to_le_bytes());
    let [low, middle, high] = cost_bytes(header.load_cost);
    head.extend_from_slice(&[header.kind as u8, low, middle, high]);
    let words = [
        header.shape,
        header.created.as_millis(),
        header.deadline.as_millis(),
        header.stale_deadline.as_millis(),
        header.generation,
        payload.len,
        header.value_len,
        payload.sum,
    ];
    for word in words {
        head.extend_from_slice(&word.to_le_bytes());
    }
    let sum = head_sum(&head, key.as_bytes(), attributes);
    head.extend_from_slice(&sum.to_le_bytes());
    head.extend_from_slice(key.as_bytes());
    head.extend_from_slice(attributes);
    head
}

/// Bytes of the head of a frame with this key and these attributes.
pub fn head_len(key: &EncodedKey, attributes: &[u8]) -> usize {
    FIXED_LEN + key.as_bytes().len() + attributes.len()
}

/// The largest load cost that a frame can store: 2^24 - 1 microseconds.
pub const LOAD_COST_MAX: Duration = Duration::from_micros((1 << 24) - 1);

/// Encodes microseconds in three bytes; zero means that the cost was not measured.
fn cost_bytes(cost: Option<Duration>) -> [u8; 3] {
    let micros = cost.map_or(0, |cost| cost.min(LOAD_COST_MAX).as_micros().max(1));
    let bytes = micros.to_le_bytes();
    [bytes[0], bytes[1], bytes[2]]
}

fn cost(bytes: [u8; 3]) -> Option<Duration> {
    let micros = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    (micros > 0).then(|| Duration::from_micros(u64::from(micros)))
}

/// The length of a key or of attributes. Keys longer than `u32::MAX` are rejected when they are encoded.
fn len_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn head_sum(fixed: &[u8], key: &[u8], attributes: &[u8]) -> u64 {
    if attributes.is_empty() && key.len() <= SHORT_KEY {
        let mut joined = [0; HEAD_SUM_AT + SHORT_KEY];
        joined[..HEAD_SUM_AT].copy_from_slice(&fixed[..HEAD_SUM_AT]);
        joined[HEAD_SUM_AT..HEAD_SUM_AT + key.len()].copy_from_slice(key);
        return xxh3_64(&joined[..HEAD_SUM_AT + key.len()]);
    }
    let mut sum = Xxh3::new();
    sum.update(&fixed[..HEAD_SUM_AT]);
    sum.update(key);
    sum.update(attributes);
    sum.digest()
}

/// Up to this key length, in bytes, one pass over a joined copy is faster than the streaming state, which is
/// over half a kilobyte to set up. Both give the same checksum.
const SHORT_KEY: usize = 152;

/// A parsed head: its header, and the bytes of key and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The fixed fields.
    pub header: Header,
    /// The encoded key.
    pub key: &'a [u8],
    /// The encoded attributes.
    pub attributes: &'a [u8],
    /// Bytes of the payload as stored.
    pub payload_len: u64,
    /// XXH3-64 of the payload as stored.
    pub payload_sum: u64,
    /// Whether the checksums of its chunks follow the payload.
    pub chunked: bool,
}

/// Reads from the fixed part, without verifying it, until when a frame may be served, fresh or stale. `None`
/// if the bytes are not a frame.
///
/// For tiers that scan many entries and read only this from each.
pub fn kept_until(fixed: &[u8]) -> Option<Time> {
    let fixed = fixed.get(..FIXED_LEN).filter(|fixed| fixed[..4] == MAGIC && fixed[4] == VERSION)?;
    Some(Time::from_millis(word64(fixed, 40).max(word64(fixed, 48))))
}

/// Lengths of a frame, as its fixed part gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lens {
    /// Bytes of the head.
    pub head: u64,
    /// Bytes of the whole frame.
    pub frame: u64,
}

/// Reads from the fixed part, without verifying it, how long the frame is. `None` if the bytes are not the
/// beginning of a frame.
///
/// For tiers that read a frame in parts. A damaged frame has any length, up to `u64::MAX`.
pub fn lens(fixed: &[u8]) -> Option<Lens> {
    let fixed = fixed.get(..FIXED_LEN).filter(|fixed| fixed[..4] == MAGIC && fixed[4] == VERSION)?;
    let (key_len, attributes_len, payload_len) = (word32(fixed, 12), word32(fixed, 16), word64(fixed, 64));
    let trailer_len = if fixed[7] & CHUNKED != 0 { Sums::stored_len(payload_len) } else { 0 };
    let head = FIXED_LEN as u64 + u64::from(key_len) + u64::from(attributes_len);
    Some(Lens { head, frame: head.saturating_add(payload_len).saturating_add(trailer_len) })
}

impl<'a> Head<'a> {
    /// Parses and verifies a head; bytes after it are ignored.
    ///
    /// Costs a checksum over the head only.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let fixed = bytes.get(..FIXED_LEN).ok_or_else(|| too_short(bytes))?;
        if fixed[..4] != MAGIC {
            return Err(FrameError::Foreign);
        }
        if fixed[4] != VERSION {
            return Err(FrameError::Version(fixed[4]));
        }
        let key_len = word32(fixed, 12) as usize;
        let attributes_len = word32(fixed, 16) as usize;
        let rest = &bytes[FIXED_LEN..];
        let (key, rest) = rest.split_at_checked(key_len).ok_or(FrameError::Truncated)?;
        let attributes = rest.get(..attributes_len).ok_or(FrameError::Truncated)?;
        if head_sum(fixed, key, attributes) != word64(fixed, HEAD_SUM_AT) {
            return Err(FrameError::Checksum);
        }
        Ok(Self {
            header: header(fixed)?,
            key,
            attributes,
            payload_len: word64(fixed, 64),
            payload_sum: word64(fixed, 80),
            chunked: fixed[7] & CHUNKED != 0,
        })
    }

    /// Checks that the frame is one of `key`.
    ///
    /// # Errors
    /// [`FrameError::OtherKey`]; [`FrameError::Sealed`] if the key is not told.
    pub fn check_key(&self, key: &EncodedKey) -> Result<(), FrameError> {
        match self.header.codec {
            _ if self.key == key.as_bytes() => Ok(()),
            CodecId::Sealed => Err(FrameError::Sealed),
            _ => Err(FrameError::OtherKey),
        }
    }

    /// Bytes of the head.
    pub fn len(&self) -> usize {
        FIXED_LEN + self.key.len() + self.attributes.len()
    }

    /// Always false: a head has a fixed part.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of the whole frame, saturating.
    pub fn frame_len(&self) -> u64 {
        (self.len() as u64).saturating_add(self.payload_len).saturating_add(self.trailer_len())
    }

    /// Bytes that follow the payload.
    pub fn trailer_len(&self) -> u64 {
        if self.chunked { Sums::stored_len(self.payload_len) } else { 0 }
    }
}

fn too_short(bytes: &[u8]) -> FrameError {
    let seen = bytes.len().min(MAGIC.len());
    if bytes[..seen] == MAGIC[..seen] { FrameError::Truncated } else { FrameError::Foreign }
}

fn header(fixed: &[u8]) -> Result<Header, FrameError> {
    let codec = CodecId::from_byte(fixed[5]).ok_or(FrameError::Unknown)?;
    let compression = Compression::from_byte(fixed[6]).ok_or(FrameError::Unknown)?;
    if fixed[7] & !CHUNKED != 0 {
        return Err(FrameError::Unknown);
    }
    Ok(Header {
        codec,
        compression,
        kind: Kind::from_byte(fixed[20]),
        schema: word32(fixed, 8),
        shape: word64(fixed, 24),
        created: Time::from_millis(word64(fixed, 32)),
        deadline: Time::from_millis(word64(fixed, 40)),
        stale_deadline: Time::from_millis(word64(fixed, 48)),
        generation: word64(fixed, 56),
        value_len: word64(fixed, 72),
        load_cost: cost([fixed[21], fixed[22], fixed[23]]),
    })
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Verifies a whole frame against the requested key, and returns its header and its payload, which shares the
/// buffer.
///
/// Costs a checksum over all of `bytes`.
pub fn open(bytes: &Bytes, key: &EncodedKey) -> Result<(Header, Bytes), FrameError> {
    open_with_attributes(bytes, key).map(|(header, _, payload)| (header, payload))
}

/// Like [`open`], with the attributes between header and payload.
pub fn open_with_attributes<'a>(
    bytes: &'a Bytes,
    key: &EncodedKey,
) -> Result<(Header, &'a [u8], Bytes), FrameError> {
    let VerifiedFrame { header, attributes, payload } = verify(bytes, key)?;
    Ok((header, attributes, bytes.slice(payload)))
}

/// A whole frame that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedFrame<'a> {
    /// The fixed fields.
    pub header: Header,
    /// The encoded attributes.
    pub attributes: &'a [u8],
    /// Where the payload is.
    pub payload: Range<usize>,
}

/// Verifies a whole frame against the requested key, as [`open`] does, without another handle to its buffer.
pub fn verify<'a>(bytes: &'a [u8], key: &EncodedKey) -> Result<VerifiedFrame<'a>, FrameError> {
    let head = Head::parse(bytes)?;
    head.check_key(key)?;
    match (bytes.len() as u64).cmp(&head.frame_len()) {
        std::cmp::Ordering::Less => return Err(FrameError::Truncated),
        std::cmp::Ordering::Greater => return Err(FrameError::Trailing),
        std::cmp::Ordering::Equal => {}
    }
    // The frame length matches `bytes`, so the cast to `usize` loses nothing.
    let ends = head.len() + head.payload_len as usize;
    let payload = head.len()..ends;
    if head.chunked {
        Sums::parse(&bytes[ends..], head.payload_len)?;
    }
    if xxh3_64(&bytes[payload.clone()]) != head.payload_sum {
        return Err(FrameError::Checksum);
    }
    Ok(VerifiedFrame { header: head.header, attributes: head.attributes, payload })
}

/// Reduces a frame to its payload in place. A slice beside the frame would allocate.
pub fn cut(mut frame: Bytes, payload: Range<usize>) -> Bytes {
    if payload.end < frame.len() {
        frame.truncate(payload.end);
    }
    frame.advance(payload.start);
    frame
}

#[cfg(test)]
mod tests;
