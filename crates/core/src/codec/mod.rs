//! Codecs of values.
//!
//! [`ValueCodec`] is the contract. [`Values`] implements it for every type with serde support. Bytes, text,
//! vectors and arrays of numbers are stored as they are, documents as JSON, natural types in their own
//! format. Other types use bincode, or MessagePack with names if bincode would lose data. The choice is
//! verified: [`shape`] finds which data a type requests from its decoder, [`measure`] which data a value
//! gives its encoder, and the first value with each feature of the type is decoded back.

use bytes::Bytes;

use crate::Result;
use crate::frame::CodecId;

#[cfg(feature = "codec")]
pub(crate) mod bounded;
#[cfg(feature = "codec")]
mod form;
#[cfg(feature = "codec")]
pub mod measure;
#[cfg(feature = "codec")]
mod named;
#[cfg(feature = "codec")]
mod native;
#[cfg(feature = "codec")]
mod node;
#[cfg(feature = "codec")]
mod proof;
#[cfg(feature = "codec")]
pub mod shape;
#[cfg(feature = "codec")]
#[cfg(test)]
mod tests;
#[cfg(feature = "codec")]
mod values;

#[cfg(feature = "arrow")]
pub(crate) use values::Sink;
#[cfg(feature = "codec")]
pub use values::Values;

/// The codec of a cache for values that are not bytes, text or numbers.
///
/// With every codec, an entry of a type that changed is a miss, and a write fails if the value would not be
/// read back. The default is [`Auto`](Codec::Auto).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// bincode for types with a complete shape, if it can represent their values; MessagePack with names for
    /// the others. Any change of a type that serde can see makes its entries misses.
    #[default]
    Auto,
    /// MessagePack with field names: larger and slower than bincode, readable by other languages. Entries
    /// survive an added `#[serde(default)]` field, another order of fields, and new variants, and no other
    /// change of the type.
    MessagePack,
    /// JSON: the largest, readable by people. Entries survive the same changes as with `MessagePack`.
    #[cfg(feature = "json")]
    Json,
}

/// An encoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The codec that encoded it.
    pub codec: CodecId,
    /// The fingerprint of the type, or the form of the value if it is stored by names; zero if neither is
    /// needed.
    pub shape: u64,
    /// The encoded bytes.
    pub bytes: Bytes,
}

/// An encoding that is a part of the value.
#[derive(Debug)]
pub struct Plain<V> {
    /// As in [`Encoded`].
    pub codec: CodecId,
    /// As in [`Encoded`].
    pub shape: u64,
    /// Returns the encoding.
    pub bytes: fn(&V) -> &[u8],
}

/// Encodes and decodes values.
///
/// # Behavior
/// - `decode` of the result of `encode` returns an equal value.
/// - `decode` of bytes from another type or codec is an error, never a value. It is `ErrorKind::Codec` if the
///   bytes are known to be of this type, otherwise `ErrorKind::Corrupt`.
/// - `encode` fails with `ErrorKind::Codec` for a value that would not be read back.
/// - `measure` returns the length of the result of `encode`, without building it.
/// - No method panics, whatever the bytes.
pub trait ValueCodec<V>: Send + Sync + 'static {
    /// A number that differs between types whose values cannot be read as one another, as far as this is
    /// known; the same in every process. Two versions of a program that share a server separate their entries
    /// by it. Zero if no separation is needed.
    fn fingerprint(&self) -> u64 {
        0
    }

    /// Whether `decode` accepts a payload with this codec and this shape. `None` if only the payload can tell.
    fn accepts(&self, codec: CodecId, shape: u64) -> Option<bool> {
        let _ = (codec, shape);
        None
    }

    /// The length of the encoding of `value` in bytes. Costs a pass over the value, and no buffer.
    fn measure(&self, value: &V) -> Result<u64>;

    /// Encodes `value`.
    fn encode(&self, value: &V) -> Result<Encoded>;

    /// The encoding of every value, if it is a part of the value. Then a large value is encoded without a copy.
    fn plain(&self) -> Option<Plain<V>> {
        None
    }

    /// Decodes a value.
    fn decode(&self, encoded: Encoded) -> Result<V>;
}
