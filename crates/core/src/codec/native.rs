//! Types whose bytes are their value: recognised by type, never sent through serde.
//!
//! A `Vec<u8>` of 1 MiB through serde is a call a byte; here it is a copy.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use crate::frame::CodecId;
use crate::{Error, ErrorKind, Result};

/// How values of one native type become bytes and back.
pub(super) struct Native<V> {
    pub(super) codec: CodecId,
    /// Tells element types apart that share a codec.
    pub(super) shape: u64,
    pub(super) len: fn(&V) -> usize,
    pub(super) encode: fn(&V) -> Bytes,
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
        octets(&mut offer);
        text(&mut offer);
        numbers(&mut offer);
        found
    }
}

type Offer<'a> = &'a mut dyn FnMut(&mut dyn Any);

fn octets(offer: Offer<'_>) {
    macro_rules! octets {
        ($($type:ty),+) => {$(
            offer(&mut Some(Native::<$type> {
                codec: CodecId::Raw,
                shape: 0,
                len: |value| value.len(),
                encode: |value| Bytes::copy_from_slice(value),
                decode: |bytes| Ok(<$type>::from(Vec::from(bytes))),
            }));
        )+};
    }
    octets!(Vec<u8>, Box<[u8]>, Arc<[u8]>);
    offer(&mut Some(Native::<Bytes> {
        codec: CodecId::Raw,
        shape: 0,
        len: Bytes::len,
        encode: Bytes::clone,
        decode: Ok,
    }));
}

fn text(offer: Offer<'_>) {
    macro_rules! text {
        ($($type:ty),+) => {$(
            offer(&mut Some(Native::<$type> {
                codec: CodecId::Text,
                shape: 0,
                len: |value| value.len(),
                encode: |value| Bytes::copy_from_slice(value.as_bytes()),
                decode: |bytes| utf8(bytes).map(<$type>::from),
            }));
        )+};
    }
    text!(String, Box<str>, Arc<str>);
}

fn utf8(bytes: Bytes) -> Result<String> {
    String::from_utf8(bytes.into())
        .map_err(|error| Error::new(ErrorKind::Corrupt, "the text is not UTF-8").with_source(error))
}

fn numbers(offer: Offer<'_>) {
    macro_rules! numbers {
        ($($number:ident = $shape:literal),+) => {$(
            numbers!(@ $number, $shape, Vec<$number>);
            numbers!(@ $number, $shape, Arc<[$number]>);
        )+};
        (@ $number:ident, $shape:literal, $type:ty) => {
            offer(&mut Some(Native::<$type> {
                codec: CodecId::Numbers,
                shape: $shape,
                len: |value| size_of_val(&value[..]),
                encode: |value| {
                    let mut bytes = Vec::with_capacity(size_of_val(&value[..]));
                    value.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
                    bytes.into()
                },
                decode: |bytes| {
                    let (whole, rest) = bytes.as_chunks();
                    if !rest.is_empty() {
                        return Err(Error::new(ErrorKind::Corrupt, "not a whole count of numbers"));
                    }
                    Ok(whole.iter().map(|number| $number::from_le_bytes(*number)).collect())
                },
            }));
        };
    }
    numbers!(
        i8 = 1,
        u16 = 2,
        i16 = 3,
        u32 = 4,
        i32 = 5,
        u64 = 6,
        i64 = 7,
        u128 = 8,
        i128 = 9,
        f32 = 10,
        f64 = 11
    );
}
