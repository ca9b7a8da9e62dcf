//! Values to bytes and back.
//!
//! [`ValueCodec`] is the contract. [`Values`] fulfils it for every type that
//! serde can carry: bytes, text, vectors and arrays of numbers go as they are,
//! documents as JSON, natural types in their own format; other
//! types by bincode, and by MessagePack with names where bincode would lose
//! something. That is found out, not guessed: [`shape`] sees what a type asks
//! of its decoder, [`measure`] sees what a value gives its encoder, and the
//! first value with each feature of the type is decoded back.

use bytes::Bytes;

use crate::Result;
use crate::frame::CodecId;

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

/// Which codec a cache uses for values that are not bytes, text or numbers.
///
/// Whichever it is, an entry of a type that changed is a miss, and a value that
/// would not be read back is an error of the write. The default is
/// [`Auto`](Codec::Auto).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// bincode for types whose shape is complete, as far as it can carry
    /// their values; MessagePack with names for the others. Any change of a type
    /// that serde can see makes its entries misses.
    #[default]
    Auto,
    /// MessagePack with field names: larger and slower than bincode, readable
    /// by other languages. Entries survive an added `#[serde(default)]` field,
    /// fields in another order and new variants, and no other change of the type.
    MessagePack,
    /// JSON: the largest, readable by people. Entries survive what they do by
    /// `MessagePack`.
    #[cfg(feature = "json")]
    Json,
}

/// An encoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// How it was made.
    pub codec: CodecId,
    /// The fingerprint of the type, or the form of the value where it is stored by
    /// names; zero where neither is needed.
    pub shape: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// Turns values into bytes and back.
///
/// # Behavior
/// - `decode` of what `encode` gave yields an equal value.
/// - `decode` of bytes that another type or another codec gave is an error,
///   never a value. It is `ErrorKind::Codec` where the bytes are known to be of
///   this type, `ErrorKind::Corrupt` otherwise.
/// - A value that would not be read back is an error of `encode`, of `ErrorKind::Codec`.
/// - `measure` is the length `encode` gives, found without building it.
/// - Nothing panics, whatever the bytes.
pub trait ValueCodec<V>: Send + Sync + 'static {
    /// A number that tells types apart whose values cannot be read as one another, as far
    /// as that is known; the same in every process. Two versions of a program that share
    /// a server keep their entries apart by it. Zero where all are the same.
    fn fingerprint(&self) -> u64 {
        0
    }

    /// Bytes of the encoding of `value`. Costs a pass over the value, no buffer.
    fn measure(&self, value: &V) -> Result<u64>;

    /// The encoding of `value`.
    fn encode(&self, value: &V) -> Result<Encoded>;

    /// The value of an encoding.
    fn decode(&self, encoded: Encoded) -> Result<V>;
}
