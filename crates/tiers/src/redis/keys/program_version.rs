//! The number of a version of the program, which entries in Redis are kept apart by.

use larder_core::frame::{CodecId, Header};

/// The number of the version that writes this schema version and values of the type with this fingerprint. It
/// goes into [`RedisOptions::version`](crate::redis::RedisOptions::version).
pub fn program_version(schema: u32, fingerprint: u64) -> u64 {
    fingerprint.rotate_left(32) ^ u64::from(schema).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The number of the version that wrote a frame; `None` if the frame does not tell the type of its value.
///
/// A frame with names (MessagePack, JSON of a Rust type), one without a value and a sealed one do not tell.
pub fn program_version_of(header: &Header) -> Option<u64> {
    /// The shapes of natural formats are smaller, and fingerprints of types larger.
    const NATURAL_MAX: u64 = 0xff;
    let shape = header.shape;
    let fingerprint = match header.codec {
        CodecId::Bincode => shape,
        CodecId::Json if shape > NATURAL_MAX => return None,
        CodecId::Raw
        | CodecId::Numbers
        | CodecId::Text
        | CodecId::Json
        | CodecId::Array
        | CodecId::Pixels
        | CodecId::Arrow => (header.codec as u64) << 8 | shape,
        _ => return None,
    };
    Some(program_version(header.schema, fingerprint))
}
