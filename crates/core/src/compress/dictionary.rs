//! Dictionaries: what small values of one cache share, so that each is stored without it.
//!
//! A dictionary is an entry of the tier. Its number is the hash of its bytes, and each payload that was
//! compressed with it begins with that number. `docs/format.md` has the bytes.

#[cfg(feature = "zstd")]
mod contexts;
#[cfg(not(feature = "zstd"))]
#[path = "dictionary/contexts_off.rs"]
mod contexts;

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Time;
use crate::frame::{self, CodecId, Compression, FIXED_LEN, Frame, Header, MAGIC, VERSION};
use crate::key::EncodedKey;
use crate::place::Kind;
use crate::{Error, ErrorKind, Result};

use self::contexts::Contexts;

/// Payloads of at most this many bytes are compressed with a dictionary. Larger ones gain nothing by it.
pub const DICTIONARY_VALUE_MAX: usize = 64 << 10;
/// Payloads of fewer bytes are stored as they are.
pub const DICTIONARY_VALUE_MIN: usize = 64;
/// Bytes of a dictionary that this build trains, at most.
pub const DICTIONARY_LEN: usize = 16 << 10;
/// A larger dictionary is refused, in bytes.
const LEN_MAX: usize = 1 << 20;
/// Numbers in an index, at most.
pub const INDEX_MAX: usize = 8;
/// Bytes of the number before a compressed payload.
const NUMBER_LEN: usize = 8;
/// The keys of dictionaries and of their index begin with these bytes. `c1` begins no MessagePack, so no key
/// of a user has this encoding; the name of a sealed entry is longer.
const KEY: &[u8] = b"\xc1dict";

/// A payload needs a dictionary that is not at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the dictionary {0:016x} is lost")]
pub struct LostDictionary(pub u64);

/// A zstd dictionary, with contexts that are prepared to use it.
#[derive(Debug)]
pub struct Dictionary {
    number: u64,
    bytes: Bytes,
    contexts: Contexts,
}

impl Dictionary {
    /// Prepares a dictionary for compression at `level` and for decompression.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for bytes that zstd does not take, and for more than 1 MiB;
    /// [`ErrorKind::Unsupported`] without the feature `zstd`.
    pub fn new(bytes: Bytes, level: i32) -> Result<Self> {
        if bytes.is_empty() || bytes.len() > LEN_MAX {
            return Err(Error::new(ErrorKind::Corrupt, "a dictionary has 1 byte to 1 MiB"));
        }
        let contexts = Contexts::new(&bytes, level)?;
        Ok(Self { number: xxh3_64(&bytes), bytes, contexts })
    }

    /// Trains a dictionary of at most [`DICTIONARY_LEN`] bytes. `samples` are the payloads one after another,
    /// `lens` their lengths.
    ///
    /// Takes about 0.1 s for a thousand small samples.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if there are too few samples for a dictionary, and without the feature
    /// `zstd`.
    pub fn train(samples: &[u8], lens: &[usize], level: i32) -> Result<Self> {
        Self::new(contexts::train(samples, lens)?.into(), level)
    }

    /// The hash of its bytes.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compresses a payload: the number, then a zstd frame without its magic number. `None` if that saves
    /// less than a tenth.
    pub fn pack(&self, plain: &[u8]) -> Option<Bytes> {
        let mut stored = self.contexts.pack(&self.bytes, plain, NUMBER_LEN)?;
        stored.get_mut(..NUMBER_LEN)?.copy_from_slice(&self.number.to_le_bytes());
        super::saves_a_tenth(stored.len(), plain.len()).then(|| stored.into())
    }

    /// Restores a payload of `len` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for a payload of another dictionary or of another length.
    pub fn unpack(&self, stored: &[u8], len: u64) -> Result<Bytes> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "the payload cannot be decompressed");
        let len = usize::try_from(len).ok().filter(|len| *len <= DICTIONARY_VALUE_MAX).ok_or_else(corrupt)?;
        let (number, frame) = stored.split_first_chunk().ok_or_else(corrupt)?;
        if u64::from_le_bytes(*number) != self.number {
            return Err(corrupt());
        }
        let plain = self.contexts.unpack(&self.bytes, frame, len)?;
        if plain.len() == len { Ok(plain.into()) } else { Err(corrupt()) }
    }

    /// Its entry in a tier.
    pub fn entry(&self, created: Time) -> (EncodedKey, Frame) {
        let key = entry_key(self.number);
        let frame = entry(&key, self.bytes.clone(), created);
        (key, frame)
    }

    /// Whether this is the whole entry of the dictionary of this number. Does not prepare it.
    pub fn is_intact(entry: &Bytes, number: u64) -> bool {
        content(entry, &entry_key(number)).is_some_and(|bytes| xxh3_64(&bytes) == number)
    }

    /// Reads the dictionary of this number from its entry. `None` for a damaged one.
    pub fn read(entry: &Bytes, number: u64, level: i32) -> Option<Self> {
        let bytes = content(entry, &entry_key(number)).filter(|bytes| xxh3_64(bytes) == number)?;
        // A copy, so that the dictionary does not keep the buffer of its entry.
        Self::new(Bytes::copy_from_slice(&bytes), level).ok()
    }
}

/// The key of the entry of a dictionary.
pub fn entry_key(number: u64) -> EncodedKey {
    EncodedKey::new([KEY, &number.to_le_bytes()].concat())
}

/// The key of the index of a tier.
pub fn index_key() -> EncodedKey {
    EncodedKey::new(KEY)
}

/// The entry of an index. The dictionary that writes is the first one.
pub fn index_entry(numbers: &[u64], created: Time) -> Frame {
    let listed: Vec<u8> = numbers.iter().take(INDEX_MAX).flat_map(|number| number.to_le_bytes()).collect();
    entry(&index_key(), listed.into(), created)
}

/// The numbers in the entry of an index. `None` for a damaged one.
pub fn read_index(entry: &Bytes) -> Option<Vec<u64>> {
    let bytes = content(entry, &index_key())?;
    let (numbers, rest) = bytes.as_chunks::<8>();
    let is_whole = rest.is_empty() && numbers.len() <= INDEX_MAX;
    is_whole.then(|| numbers.iter().map(|number| u64::from_le_bytes(*number)).collect())
}

fn entry(key: &EncodedKey, content: Bytes, created: Time) -> Frame {
    let header = Header {
        codec: CodecId::Dictionary,
        compression: Compression::None,
        kind: Kind::Other,
        schema: 0,
        shape: 0,
        created,
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 0,
        value_len: content.len() as u64,
        load_cost: None,
    };
    Frame::new(&header, key, b"", content)
}

fn content(entry: &Bytes, key: &EncodedKey) -> Option<Bytes> {
    let (header, payload) = frame::open(entry, key).ok()?;
    (header.codec == CodecId::Dictionary && header.compression == Compression::None).then_some(payload)
}

/// Whether a head is that of a dictionary or of an index, without verifying it.
pub fn is_entry(head: &[u8]) -> bool {
    head.get(..6).is_some_and(|start| {
        start[..4] == MAGIC && start[4] == VERSION && start[5] == CodecId::Dictionary as u8
    })
}

/// The number of the dictionary that a frame needs, without verifying the frame. `None` if it needs none, or
/// if its payload is not among the bytes.
#[inline]
pub fn needed_by(frame: &[u8]) -> Option<u64> {
    let fixed = frame.get(..FIXED_LEN)?;
    if fixed[6] != Compression::Dictionary as u8 || fixed[..4] != MAGIC || fixed[4] != VERSION {
        return None;
    }
    let len = |at: usize| fixed.get(at..)?.first_chunk().map(|len| u32::from_le_bytes(*len) as usize);
    let payload = FIXED_LEN.checked_add(len(12)?)?.checked_add(len(16)?)?;
    number_of(frame.get(payload..)?)
}

/// The number that a payload begins with.
fn number_of(stored: &[u8]) -> Option<u64> {
    stored.first_chunk().map(|number| u64::from_le_bytes(*number))
}

/// Restores a payload with the dictionary that `find` returns for its number.
pub(super) fn unpack(
    stored: &[u8],
    len: u64,
    find: &dyn Fn(u64) -> Option<Arc<Dictionary>>,
) -> Result<Bytes> {
    let Some(number) = number_of(stored) else {
        return Err(Error::new(ErrorKind::Corrupt, "the payload has no number of a dictionary"));
    };
    match find(number) {
        Some(dictionary) => dictionary.unpack(stored, len),
        None => {
            let lost = LostDictionary(number);
            Err(Error::new(ErrorKind::Corrupt, lost.to_string()).with_source(lost))
        }
    }
}

/// Whether a payload could not be restored because its dictionary is lost.
pub fn is_lost(error: &Error) -> bool {
    use std::error::Error as _;
    error.source().is_some_and(|source| source.is::<LostDictionary>())
}

#[cfg(test)]
#[cfg(feature = "zstd")]
mod tests;
