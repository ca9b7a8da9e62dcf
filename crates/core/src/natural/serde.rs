//! Serde support of the natural types: as a part of another type they are byte strings.

use std::fmt;
use std::marker::PhantomData;

use ::serde::de::{Error as _, SeqAccess, Visitor};
use bytes::Bytes;

use crate::Result;

/// A type with its own byte encoding.
pub(super) trait Natural: Sized {
    fn to_bytes(&self) -> Result<Bytes>;
    fn from_bytes(bytes: Bytes) -> Result<Self>;
}

pub(super) struct Wanted<T>(pub(super) PhantomData<T>);

impl<'de, T: Natural> Visitor<'de> for Wanted<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: ::serde::de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        T::from_bytes(Bytes::copy_from_slice(bytes)).map_err(E::custom)
    }

    fn visit_byte_buf<E: ::serde::de::Error>(self, bytes: Vec<u8>) -> Result<T, E> {
        T::from_bytes(bytes.into()).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<T, A::Error> {
        // Memory grows with the actual data, not with the claimed length.
        let mut bytes = Vec::new();
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        T::from_bytes(bytes.into()).map_err(A::Error::custom)
    }
}

macro_rules! as_bytes {
    ($type:ty) => {
        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let bytes = $crate::natural::serde::Natural::to_bytes(self);
                serializer.serialize_bytes(&bytes.map_err(<S::Error as ::serde::ser::Error>::custom)?)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_byte_buf($crate::natural::serde::Wanted(std::marker::PhantomData))
            }
        }
    };
}

pub(super) use as_bytes;
