//! The types of [`natural`](crate::natural).

use super::{Native, Offer};
use crate::frame::CodecId;
use crate::natural;

pub(super) fn offer(offer: Offer<'_>) {
    #[cfg(feature = "image")]
    offer(&mut Some(Native::<natural::Image> {
        codec: CodecId::Pixels,
        shape: 0,
        yields: false,
        len: natural::Image::encoded_len,
        encode: natural::Image::encode,
        bytes: None,
        decode: |bytes| natural::Image::decode(&bytes),
    }));
    #[cfg(feature = "arrow")]
    offer(&mut Some(Native::<natural::Frame> {
        codec: CodecId::Arrow,
        shape: 0,
        yields: false,
        len: natural::Frame::encoded_len,
        encode: natural::Frame::encode,
        bytes: None,
        decode: natural::Frame::decode,
    }));
}
