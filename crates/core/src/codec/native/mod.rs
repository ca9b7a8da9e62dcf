//! Types with a natural form of their own: recognised by type, never sent through serde.
//!
//! A `Vec<u8>` of 1 MiB through serde is a call a byte; here it is a copy.

/// Calls a macro with the numbers that have a fixed width, each with what stands
/// for it in the field `shape` of a frame, and with those that are added.
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

/// How values of one native type become bytes and back.
pub(super) struct Native<V> {
    pub(super) codec: CodecId,
    /// Tells element types apart that share a codec.
    pub(super) shape: u64,
    /// Whether a codec that the cache names counts more.
    pub(super) yields: bool,
    pub(super) len: fn(&V) -> Result<u64>,
    pub(super) encode: fn(&V) -> Result<Bytes>,
    pub(super) decode: fn(Bytes) -> Result<V>,
}

impl<V: 'static> Native<V> {
    /// The native form of `V`, when it has one.
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

/// Takes `Option<Native<T>>` for some `T`, and keeps the one that is asked for.
type Offer<'a> = &'a mut dyn FnMut(&mut dyn Any);
