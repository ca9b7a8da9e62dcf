//! Bytes, text, and vectors of numbers: stored as their own bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::{Native, Offer};
use crate::frame::CodecId;
use crate::{Error, ErrorKind, Result};

pub(super) fn offer(offer: Offer<'_>) {
    octets(offer);
    text(offer);
    numbers(offer);
}

fn octets(offer: Offer<'_>) {
    macro_rules! octets {
        ($($type:ty),+) => {$(
            offer(&mut Some(Native::<$type> {
                codec: CodecId::Raw,
                shape: 0,
                yields: false,
                len: |value| Ok(value.len() as u64),
                encode: |value| Ok(Bytes::copy_from_slice(value)),
                bytes: Some(|value| value),
                decode: |bytes| Ok(<$type>::from(Vec::from(bytes))),
            }));
        )+};
    }
    octets!(Vec<u8>, Box<[u8]>, Arc<[u8]>);
    offer(&mut Some(Native::<Bytes> {
        codec: CodecId::Raw,
        shape: 0,
        yields: false,
        len: |value| Ok(value.len() as u64),
        encode: |value| Ok(value.clone()),
        bytes: None,
        decode: Ok,
    }));
}

fn text(offer: Offer<'_>) {
    macro_rules! text {
        ($($type:ty),+) => {$(
            offer(&mut Some(Native::<$type> {
                codec: CodecId::Text,
                shape: 0,
                yields: false,
                len: |value| Ok(value.len() as u64),
                encode: |value| Ok(Bytes::copy_from_slice(value.as_bytes())),
                bytes: Some(|value| value.as_bytes()),
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
                yields: false,
                len: |value| Ok(size_of_val(&value[..]) as u64),
                encode: |value| {
                    let mut bytes = Vec::with_capacity(size_of_val(&value[..]));
                    value.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
                    Ok(bytes.into())
                },
                bytes: None,
                decode: |bytes| {
                    let (whole, rest) = bytes.as_chunks();
                    if !rest.is_empty() {
                        return Err(Error::new(ErrorKind::Corrupt, "the length is not a multiple of the size of a number"));
                    }
                    Ok(whole.iter().map(|number| $number::from_le_bytes(*number)).collect())
                },
            }));
        };
    }
    with_numbers!(numbers);
}
