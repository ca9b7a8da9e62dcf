//! Values that are byte strings.

use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::{Medium, Verified};
use crate::compress;
use crate::frame::{CodecId, Compression, Header};
use crate::{Error, ErrorKind, Result};

mod sealed {
    pub trait Sealed {}
}

/// A value that is its own encoding: a byte string.
///
/// Sealed: the frames of exactly these types have the codec [`Raw`](CodecId::Raw), so a frame written in
/// parts equals one written whole.
#[diagnostic::on_unimplemented(
    message = "values of the type `{Self}` cannot be read and written as a stream",
    label = "not a byte string",
    note = "streams need a cache with values of `larder::Bytes`, `Vec<u8>`, `Box<[u8]>` or `Arc<[u8]>`"
)]
pub trait ByteValue: sealed::Sealed + Sized {
    /// Creates the value from bytes. Copies them for `Box<[u8]>` and `Arc<[u8]>`.
    fn from_bytes(bytes: Bytes) -> Self;

    /// The bytes of the value, without a copy.
    fn into_bytes(self) -> Bytes;
}

macro_rules! byte_values {
    ($($type:ty: $from:expr, $into:expr;)+) => {$(
        impl sealed::Sealed for $type {}

        impl ByteValue for $type {
            fn from_bytes(bytes: Bytes) -> Self {
                $from(bytes)
            }

            fn into_bytes(self) -> Bytes {
                $into(self)
            }
        }
    )+};
}

byte_values! {
    Bytes: |bytes| bytes, |value| value;
    Vec<u8>: Vec::from, Bytes::from;
    Box<[u8]>: |bytes| Vec::from(bytes).into(), Bytes::from;
    Arc<[u8]>: |bytes: Bytes| Arc::from(&bytes[..]), Bytes::from_owner;
}

/// Opens the value in a payload for reading in parts.
///
/// LZ4 block format cannot be read in parts: such a value is decompressed into memory.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a payload of another type, [`ErrorKind::Unsupported`] if this build lacks the
/// compression.
pub fn unpack(header: &Header, payload: Verified) -> Result<Box<dyn Medium>> {
    if header.codec != CodecId::Raw || header.shape != 0 {
        return Err(Error::new(ErrorKind::Corrupt, "the entry was written by another type or codec"));
    }
    match header.compression {
        Compression::None if payload.len() == header.value_len => Ok(Box::new(payload)),
        Compression::None => {
            Err(Error::new(ErrorKind::Corrupt, "the length of the payload is not the one in its frame"))
        }
        Compression::Zstd => unpack_zstd(payload, header.value_len),
        Compression::Lz4 | Compression::Dictionary => unpack_whole(header, payload),
    }
}

#[cfg(feature = "zstd")]
fn unpack_zstd(payload: Verified, len: u64) -> Result<Box<dyn Medium>> {
    Ok(Box::new(super::unpacked::Unpacked::new(payload, len)?))
}

#[cfg(not(feature = "zstd"))]
fn unpack_zstd(_: Verified, _: u64) -> Result<Box<dyn Medium>> {
    Err(Error::new(ErrorKind::Unsupported, "the payload needs the feature `zstd`, which is off"))
}

fn unpack_whole(header: &Header, mut payload: Verified) -> Result<Box<dyn Medium>> {
    let mut stored = Vec::new();
    payload.read_to_end(&mut stored)?;
    let plain = compress::unpack(header.compression, stored.into(), header.value_len)?;
    Ok(Box::new(Cursor::new(plain)))
}
