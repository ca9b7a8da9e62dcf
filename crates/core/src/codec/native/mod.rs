//! Types with a native format: recognised by type, without serde.
//!
//! Through serde, a `Vec<u8>` of 1 MiB would cost a call per byte; here it is one copy.

/// Calls a macro with the fixed-width number types, each with its number in the field `shape` of a frame, and
/// with additional types.
macro_rules! with_numbers {
    ($then:ident $(, $more:ident = $shape:literal)*) => {
        $then!(
            i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, u64 = 6, i64 = 7, u128 = 8, i128 = 9, f32 = 10, f64 = 11
            $(, $more = $shape)*
        );
    };
}

#[cfg(feature = "ndarray")]
mod arrays;
#[cfg(feature = "json")]
mod json;
mod plain;
#[cfg(any(feature = "image", feature = "arrow"))]
mod wrapped;

use std::any::Any;

use bytes::Bytes;

use crate::Result;
use crate::frame::CodecId;

/// The native codec of one type.
pub(super) struct Native<V> {
    pub(super) codec: CodecId,
    /// Distinguishes element types that share a codec.
    pub(super) shape: u64,
    /// Whether a codec that the cache chooses takes precedence.
    pub(super) yields: bool,
    pub(super) len: fn(&V) -> Result<u64>,
    pub(super) encode: fn(&V) -> Result<Bytes>,
    /// The encoding, if it is a part of the value.
    pub(super) bytes: Option<fn(&V) -> &[u8]>,
    pub(super) decode: fn(Bytes) -> Result<V>,
}

impl<V: 'static> Native<V> {
    /// The native codec of `V`, if it has one.
    pub(super) fn of() -> Option<Self> {
        let mut found = None;
        let mut offer = |candidate: &mut dyn Any| {
            if let Some(native) = candidate.downcast_mut::<Option<Self>>() {
                found = native.take();
            }
        };
        plain::offer(&mut offer);
        #[cfg(feature = "json")]
        json::offer(&mut offer);
        #[cfg(feature = "ndarray")]
        arrays::offer(&mut offer);
        #[cfg(any(feature = "image", feature = "arrow"))]
        wrapped::offer(&mut offer);
        found
    }
}

/// Receives an `Option<Native<T>>` for some `T`, and takes it if `T` is the requested type.
type Offer<'a> = &'a mut dyn FnMut(&mut dyn Any);
