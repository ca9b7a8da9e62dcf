//! Compression of payloads, applied only where it saves space.

pub mod dictionary;

#[cfg(feature = "zstd")]
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use self::dictionary::Dictionary;
use crate::frame::Compression;
use crate::{Error, ErrorKind, Result};

/// How payloads are compressed.
///
/// With every setting, a compressed form that saves less than a tenth is discarded. A payload below 1 KiB is
/// compressed with a dictionary only.
///
/// The default is [`Auto`](Compress::Auto).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compress {
    /// LZ4 below 16 KiB if the feature `lz4` is on, otherwise zstd at level 1. No compression if a sample
    /// does not shrink.
    #[default]
    Auto,
    /// Never.
    None,
    /// zstd at this level, 1 to 22.
    #[cfg(feature = "zstd")]
    Zstd(i32),
    /// LZ4 block format.
    #[cfg(feature = "lz4")]
    Lz4,
    /// zstd at this level, 1 to 22; payloads of 64 bytes to 64 KiB with a dictionary.
    #[cfg(feature = "zstd")]
    Dictionary(i32),
}

impl Compress {
    /// zstd with a dictionary that is trained on the first entries of the cache, at level 3. It is for many
    /// small values that resemble one another: JSON records of 300 bytes are stored in about a quarter of
    /// that.
    ///
    /// The first thousand values are stored without it. The dictionary lies in each tier as an entry of 16 KiB,
    /// and a new one is trained when it no longer fits the values.
    #[cfg(feature = "zstd")]
    pub fn dictionary() -> Self {
        Self::Dictionary(3)
    }

    /// The level of compression with a dictionary; `None` for settings without one.
    pub fn dictionary_level(self) -> Option<i32> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Dictionary(level) => Some(level),
            _ => None,
        }
    }

    /// zstd at `level`; `build()` rejects levels outside 1 to 22.
    #[cfg(feature = "zstd")]
    pub fn zstd(level: i32) -> Self {
        Self::Zstd(level)
    }

    /// LZ4.
    #[cfg(feature = "lz4")]
    pub fn lz4() -> Self {
        Self::Lz4
    }

    /// Rejects invalid levels.
    pub fn check(self) -> Result<()> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(level) | Self::Dictionary(level) if !(1..=22).contains(&level) => {
                Err(Error::config("compress", format_args!("zstd level {level}"), "zstd levels 1 to 22"))
            }
            _ => Ok(()),
        }
    }

    /// Compresses a payload without a dictionary; returns the method and the bytes to store.
    ///
    /// For a payload above 64 KiB it first compresses 12 KiB of samples, and the whole payload only if the
    /// samples shrink.
    pub fn apply(self, payload: Bytes) -> Result<(Compression, Bytes)> {
        let method = self.method(payload.len());
        if method == Method::None || payload.len() < MIN_LEN || !promising(method, &payload)? {
            return Ok((Compression::None, payload));
        }
        let packed = method.pack(&payload)?;
        if !saves_a_tenth(packed.len(), payload.len()) {
            return Ok((Compression::None, payload));
        }
        Ok((method.id(), packed.into()))
    }

    fn method(self, len: usize) -> Method {
        match self {
            Self::Auto => Method::auto(len),
            Self::None => Method::None,
            #[cfg(feature = "zstd")]
            Self::Zstd(level) | Self::Dictionary(level) => Method::Zstd(level),
            #[cfg(feature = "lz4")]
            Self::Lz4 => Method::Lz4,
        }
    }
}

/// Payloads shorter than this are not compressed, in bytes.
const MIN_LEN: usize = 1 << 10;
/// `Auto` uses LZ4 below this length, in bytes, and zstd from there on.
#[cfg(feature = "lz4")]
const LZ4_BELOW: usize = 16 << 10;
/// Payloads of at least this many bytes are sampled first.
const SAMPLE_FROM: usize = 64 << 10;
/// Bytes of one sample; three are taken: from the front, the middle and the end.
const SAMPLE_LEN: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    None,
    #[cfg(feature = "zstd")]
    Zstd(i32),
    #[cfg(feature = "lz4")]
    Lz4,
}

impl Method {
    #[cfg_attr(not(feature = "lz4"), allow(unused_variables, reason = "only LZ4 asks for the length"))]
    fn auto(len: usize) -> Self {
        #[cfg(feature = "lz4")]
        if len < LZ4_BELOW || cfg!(not(feature = "zstd")) {
            return Self::Lz4;
        }
        #[cfg(feature = "zstd")]
        return Self::Zstd(1);
        #[cfg(not(feature = "zstd"))]
        Self::None
    }

    fn id(self) -> Compression {
        match self {
            Self::None => Compression::None,
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => Compression::Zstd,
            #[cfg(feature = "lz4")]
            Self::Lz4 => Compression::Lz4,
        }
    }

    fn pack(self, payload: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::None => Ok(payload.to_vec()),
            #[cfg(feature = "zstd")]
            Self::Zstd(level) => zstd::bulk::compress(payload, level).map_err(failed),
            #[cfg(feature = "lz4")]
            Self::Lz4 => Ok(lz4_flex::block::compress(payload)),
        }
    }
}

fn saves_a_tenth(packed: usize, plain: usize) -> bool {
    packed <= plain - plain / 10
}

/// Whether samples of a large payload shrink; true for a payload too small to sample.
fn promising(method: Method, payload: &[u8]) -> Result<bool> {
    if payload.len() < SAMPLE_FROM {
        return Ok(true);
    }
    let middle = payload.len() / 2;
    let end = payload.len() - SAMPLE_LEN;
    let mut samples = Vec::with_capacity(3 * SAMPLE_LEN);
    for from in [0, middle, end] {
        samples.extend_from_slice(&payload[from..from + SAMPLE_LEN]);
    }
    Ok(saves_a_tenth(method.pack(&samples)?.len(), samples.len()))
}

/// Restores the payload that was passed to [`Compress::apply`].
///
/// Fails with [`ErrorKind::Corrupt`] if the result is not `len` bytes, and with [`ErrorKind::Unsupported`] if
/// this build lacks the method. Memory use grows with the actual data, not with the claimed `len`. A payload
/// that needs a dictionary fails as if that were lost, see [`unpack_with`].
pub fn unpack(compression: Compression, stored: Bytes, len: u64) -> Result<Bytes> {
    unpack_with(compression, stored, len, &|_| None)
}

/// As [`unpack`], with the dictionaries that `find` returns for their numbers.
///
/// # Errors
/// Those of [`unpack`]; [`dictionary::is_lost`] tells a payload whose dictionary was not found.
pub fn unpack_with(
    compression: Compression,
    stored: Bytes,
    len: u64,
    find: &dyn Fn(u64) -> Option<Arc<Dictionary>>,
) -> Result<Bytes> {
    let plain = match compression {
        Compression::Dictionary => dictionary::unpack(&stored, len, find)?,
        Compression::None => stored,
        Compression::Zstd => unpack_zstd(&stored, len)?,
        Compression::Lz4 => unpack_lz4(&stored, len)?,
    };
    if plain.len() as u64 != len {
        let message = format!("the payload has {} bytes; the frame declares {len}", plain.len());
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    Ok(plain)
}

#[cfg(feature = "zstd")]
fn unpack_zstd(stored: &[u8], len: u64) -> Result<Bytes> {
    let room = usize::try_from(len).unwrap_or(usize::MAX).min(stored.len().saturating_mul(PLAUSIBLE_RATIO));
    let mut plain = Vec::with_capacity(room);
    let decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(failed)?;
    decoder.take(len.saturating_add(1)).read_to_end(&mut plain).map_err(failed)?;
    Ok(plain.into())
}

#[cfg(not(feature = "zstd"))]
fn unpack_zstd(_: &[u8], _: u64) -> Result<Bytes> {
    Err(missing("zstd"))
}

#[cfg(feature = "lz4")]
fn unpack_lz4(stored: &[u8], len: u64) -> Result<Bytes> {
    // LZ4 expands at most 255 times; reject a larger claim.
    if len > (stored.len() as u64).saturating_mul(255).saturating_add(64) {
        return Err(Error::new(ErrorKind::Corrupt, "the frame declares an impossible payload length"));
    }
    let len = usize::try_from(len).map_err(failed)?;
    lz4_flex::block::decompress(stored, len).map(Bytes::from).map_err(failed)
}

#[cfg(not(feature = "lz4"))]
fn unpack_lz4(_: &[u8], _: u64) -> Result<Bytes> {
    Err(missing("lz4"))
}

/// The largest expansion for which memory is reserved up front.
#[cfg(feature = "zstd")]
const PLAUSIBLE_RATIO: usize = 64;

#[cfg(any(feature = "zstd", feature = "lz4"))]
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Corrupt, "the payload cannot be decompressed").with_source(error)
}

#[cfg(not(all(feature = "zstd", feature = "lz4")))]
fn missing(feature: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the payload needs the feature `{feature}`, which is off"))
}

#[cfg(test)]
#[cfg(all(feature = "zstd", feature = "lz4"))]
mod tests {
    use super::*;

    fn noise(len: usize) -> Bytes {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn check(compress: Compress, payload: Bytes, expect: Compression) {
        let (compression, stored) = compress.apply(payload.clone()).unwrap();
        assert_eq!(compression, expect, "{compress:?} over {} bytes", payload.len());
        assert!(stored.len() <= payload.len());
        assert_eq!(unpack(compression, stored, payload.len() as u64).unwrap(), payload);
    }

    #[test]
    fn auto_chooses_method_by_size_and_gain() {
        let text = |len| Bytes::from(vec![b'x'; len]);
        check(Compress::Auto, text(1023), Compression::None);
        check(Compress::Auto, text(1024), Compression::Lz4);
        check(Compress::Auto, text(16 << 10), Compression::Zstd);
        check(Compress::Auto, text(1 << 20), Compression::Zstd);
        check(Compress::Auto, noise(2 << 10), Compression::None);
        check(Compress::Auto, noise(1 << 20), Compression::None);
        check(Compress::None, text(1 << 20), Compression::None);
        check(Compress::Zstd(3), text(4096), Compression::Zstd);
        check(Compress::Lz4, text(1 << 20), Compression::Lz4);
        check(Compress::Zstd(3), Bytes::new(), Compression::None);
    }

    #[test]
    fn unpack_with_wrong_length_fails() {
        let payload = Bytes::from(vec![b'x'; 4096]);
        for compress in [Compress::Zstd(1), Compress::Lz4] {
            let (compression, stored) = compress.apply(payload.clone()).unwrap();
            for len in [0, 4095, 4097, 1 << 40, u64::MAX] {
                assert!(
                    unpack(compression, stored.clone(), len).is_err(),
                    "{compress:?} read as {len} bytes"
                );
            }
        }
    }

    #[test]
    fn levels_out_of_range_are_rejected() {
        assert!(Compress::zstd(3).check().is_ok());
        let error = Compress::zstd(99).check().unwrap_err().to_string();
        assert_eq!(error, "option `compress`: given zstd level 99, allowed zstd levels 1 to 22");
        assert!(Compress::dictionary().check().is_ok());
        assert!(Compress::Dictionary(0).check().is_err());
    }
}
