//! The default codec of keys.

use std::any::TypeId;
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::canonical::{self, Subject};
use super::rewrites::Plan;
use super::sink::{BINCODE, Buffer, Feed, Form, Sink};
use super::writer::{Refusal, Writer};
use super::{EncodedKey, KeyCodec};
use crate::codec::bounded::{from_bincode, from_messagepack};
use crate::{Error, ErrorKind, Result};

/// The default codec of keys: MessagePack with field names, or bincode for keys that MessagePack cannot
/// distinguish.
///
/// bincode alone would be shorter, but two keys that skip different fields may have the same bincode
/// encoding; with names they never do. MessagePack in turn has one encoding for `None`, `Some(None)` and
/// `Some(())`. So an encoding is decoded before it is used, and must give an equal key: then no other key has
/// it. Numbers, text and similar types need no check.
///
/// Equal keys have one encoding, even if serde represents them differently: paths with repeated separators,
/// moments with offsets, decimals with trailing zeros, text that is compared case-insensitively, sets that
/// hash their elements in no order, and parts that equality ignores.
///
/// # Errors
/// `encode` fails with [`ErrorKind::Codec`] for a key that neither format restores, such as one with a field
/// that serde skips, and for a key whose encoding differs each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamedKeys;

impl<K: Serialize + DeserializeOwned + Hash + Eq + 'static> KeyCodec<K> for NamedKeys {
    fn encode(&self, key: &K) -> Result<EncodedKey> {
        if comes_back::<K>() {
            let bytes = canonical::write(&Native(key), Form::Names, &Plan::default())?;
            return Ok(EncodedKey::of(&bytes));
        }
        canonical::encode(&Native(key))
    }

    fn decode(&self, bytes: &[u8]) -> Result<K> {
        decode(bytes)
            .map_err(|error| Error::new(ErrorKind::Corrupt, "the key cannot be decoded").with_source(error))
    }
}

struct Native<'k, K>(&'k K);

impl<K: Serialize + DeserializeOwned + Hash + Eq> Subject for Native<'_, K> {
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Refusal> {
        self.0.serialize(writer)
    }

    fn feed(&self, feed: &mut Feed) {
        self.0.hash(feed);
    }

    fn is(&self, bytes: &[u8]) -> bool {
        decode::<K>(bytes).is_ok_and(|key| key == *self.0)
    }

    fn again(&self, bytes: &[u8], form: Form, plan: &Plan) -> Option<Buffer> {
        let key = decode::<K>(bytes).ok().filter(|key| key == self.0)?;
        let mut writer = Writer::new(Sink::of(form), plan);
        key.serialize(&mut writer).ok()?;
        Some(writer.into_bytes())
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

fn decode<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, Source> {
    match bytes.split_first() {
        Some((&BINCODE, bytes)) => Ok(from_bincode(bytes)?),
        _ => Ok(from_messagepack(bytes)?),
    }
}

/// Whether MessagePack is known to restore every `K`.
fn comes_back<K: 'static>() -> bool {
    macro_rules! is_one_of {
        ($($known:ty),+) => { $(TypeId::of::<K>() == TypeId::of::<$known>())||+ };
    }
    is_one_of!(
        bool,
        char,
        u8,
        u16,
        u32,
        u64,
        u128,
        usize,
        i8,
        i16,
        i32,
        i64,
        i128,
        isize,
        String,
        Box<str>,
        std::sync::Arc<str>,
        Buffer,
        (u64, u64),
        (String, u64),
        (String, String)
    )
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
