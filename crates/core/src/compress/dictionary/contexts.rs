//! Contexts of zstd that are prepared for one dictionary.

use parking_lot::Mutex;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound};

use super::DICTIONARY_LEN;
use crate::compress::failed;
use crate::{Error, ErrorKind, Result};

/// Contexts of each kind that are kept for the next call, at most.
const KEPT_MAX: usize = 16;
/// What every zstd frame begins with, and stored payloads do without.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Contexts that no call uses at the moment. Each has its own digested copy of the dictionary.
pub(super) struct Contexts {
    level: i32,
    packers: Mutex<Vec<Compressor<'static>>>,
    unpackers: Mutex<Vec<Unpacker>>,
}

struct Unpacker {
    context: Decompressor<'static>,
    /// A frame with its magic number.
    frame: Vec<u8>,
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contexts").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Contexts {
    /// # Errors
    /// [`ErrorKind::Corrupt`] if zstd does not take the dictionary.
    pub(super) fn new(dictionary: &[u8], level: i32) -> Result<Self> {
        let contexts = Self { level, packers: Mutex::default(), unpackers: Mutex::default() };
        contexts.packers.lock().push(contexts.packer(dictionary)?);
        contexts.unpackers.lock().push(Unpacker::new(dictionary)?);
        Ok(contexts)
    }

    fn packer(&self, dictionary: &[u8]) -> Result<Compressor<'static>> {
        let mut packer = Compressor::with_dictionary(self.level, dictionary).map_err(failed)?;
        // The frame of the entry has the length, the checksum and the number of the dictionary.
        let left_out = [
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        left_out.into_iter().try_for_each(|flag| packer.set_parameter(flag)).map_err(failed)?;
        // Digests the dictionary, which fails for one that is damaged.
        packer.compress(b"").map_err(failed)?;
        Ok(packer)
    }

    /// A compressed form of `plain` after `room` bytes, without the magic number. `None` if it fails.
    pub(super) fn pack(&self, dictionary: &[u8], plain: &[u8], room: usize) -> Option<Vec<u8>> {
        let kept = self.packers.lock().pop();
        let mut packer = kept.map_or_else(|| self.packer(dictionary), Ok).ok()?;
        let before = room.checked_sub(ZSTD_MAGIC.len())?;
        let mut stored = vec![0; before + compress_bound(plain.len())];
        let len = packer.compress_to_buffer(plain, &mut stored[before..]).ok()?;
        stored.truncate(before + len);
        keep(&self.packers, packer);
        Some(stored)
    }

    /// The payload of a frame without its magic number. At most `len` bytes of it.
    pub(super) fn unpack(&self, dictionary: &[u8], frame: &[u8], len: usize) -> Result<Vec<u8>> {
        let kept = self.unpackers.lock().pop();
        let mut unpacker = kept.map_or_else(|| Unpacker::new(dictionary), Ok)?;
        let plain = unpacker.unpack(frame, len)?;
        keep(&self.unpackers, unpacker);
        Ok(plain)
    }
}

fn keep<T>(contexts: &Mutex<Vec<T>>, context: T) {
    let mut contexts = contexts.lock();
    if contexts.len() < KEPT_MAX {
        contexts.push(context);
    }
}

impl Unpacker {
    fn new(dictionary: &[u8]) -> Result<Self> {
        let context = Decompressor::with_dictionary(dictionary).map_err(failed)?;
        Ok(Self { context, frame: ZSTD_MAGIC.to_vec() })
    }

    fn unpack(&mut self, frame: &[u8], len: usize) -> Result<Vec<u8>> {
        self.frame.truncate(ZSTD_MAGIC.len());
        self.frame.extend_from_slice(frame);
        let mut plain = Vec::with_capacity(len);
        self.context.decompress_to_buffer(&self.frame, &mut plain).map_err(failed)?;
        Ok(plain)
    }
}

/// Trains a dictionary.
pub(super) fn train(samples: &[u8], lens: &[usize]) -> Result<Vec<u8>> {
    zstd::dict::from_continuous(samples, lens, DICTIONARY_LEN).map_err(|error| {
        Error::new(ErrorKind::Unsupported, "the samples make no dictionary").with_source(error)
    })
}
