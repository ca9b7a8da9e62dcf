//! Sample keys and frames for tests of tiers.

use larder_core::Bytes;
use larder_core::clock::Time;
use larder_core::frame::{CodecId, Compression, Frame, Header};
use larder_core::key::EncodedKey;
use larder_core::place::Kind;

/// Returns a key of eight bytes.
pub fn key(number: u64) -> EncodedKey {
    EncodedKey::new(number.to_be_bytes())
}

/// Returns a frame around `payload` that never expires.
///
/// ```
/// use larder_testkit::sample;
///
/// let (key, payload) = (sample::key(1), sample::payload(7, 100));
/// let whole = sample::frame(&key, payload.clone()).to_vec().into();
/// assert_eq!(larder_core::frame::open(&whole, &key).unwrap().1, payload);
/// ```
pub fn frame(key: &EncodedKey, payload: Bytes) -> Frame {
    Frame::new(&header(payload.len()), key, b"", payload)
}

/// Returns the header of a frame that never expires.
pub fn header(payload_len: usize) -> Header {
    Header {
        codec: CodecId::Raw,
        compression: Compression::None,
        kind: Kind::Bytes,
        schema: 0,
        shape: 0,
        created: Time::from_millis(1_700_000_000_000),
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 1,
        value_len: payload_len as u64,
        load_cost: None,
    }
}

/// Returns `len` bytes that do not compress, and that differ by place and by `seed`.
pub fn payload(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}
