//! Decoders of bincode and MessagePack that bound the nesting of their input.
//!
//! Both decoders recurse once per level, and neither bounds that: bincode has no limit, and that of
//! `rmp_serde` does not count enums. Data nested deep enough would overflow the stack, which aborts the
//! process. Larder writes no such data, but earlier builds did, and a file or a server may contain anything.
//!
//! bincode does not describe itself, so its levels cannot be counted beforehand. Each level reads at least
//! one byte; so the reader measures how much of the stack is in use. MessagePack describes itself: a pass
//! over the bytes counts its levels.

use std::io;

use bincode::{BincodeRead, Options};
use rmp::Marker;
use serde::de::{DeserializeOwned, Visitor};

use super::measure::DEPTH_MAX;

/// The maximum bytes of stack that a decoding may use: half of a thread's default stack.
const STACK_MAX: usize = 1 << 20;

/// Decodes bincode with fixed-width integers.
///
/// # Errors
/// For bytes that are not of this type, and for a value whose decoding would use more than `STACK_MAX` bytes
/// of stack.
pub(crate) fn from_bincode<T: DeserializeOwned>(bytes: &[u8]) -> bincode::Result<T> {
    let mut reader = Reader { bytes, stack_at_start: stack_position() };
    // A length inside the bytes may claim anything; the limit bounds it by the actual data.
    let options = bincode::DefaultOptions::new().with_fixint_encoding().with_limit(bytes.len() as u64);
    let value = options.deserialize_from_custom(&mut reader)?;
    match reader.bytes {
        [] => Ok(value),
        _ => Err(bincode::ErrorKind::Custom("bytes follow the value".to_owned()).into()),
    }
}

/// Whether the value was nested too deep to be decoded.
pub(crate) fn is_too_deep(error: &bincode::ErrorKind) -> bool {
    matches!(error, bincode::ErrorKind::Io(error) if error.kind() == io::ErrorKind::Other)
}

/// Decodes MessagePack.
///
/// # Errors
/// For bytes that are not of this type, and for maps and arrays nested more than [`DEPTH_MAX`] times.
pub(crate) fn from_messagepack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    if is_deeper_than(DEPTH_MAX, bytes) {
        return Err(rmp_serde::decode::Error::DepthLimitExceeded);
    }
    rmp_serde::from_slice(bytes)
}

/// A position in the stack of this thread.
#[inline(always)]
fn stack_position() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// Reads bytes while the stack is not too full.
struct Reader<'de> {
    bytes: &'de [u8],
    stack_at_start: usize,
}

impl<'de> Reader<'de> {
    #[inline(always)]
    fn take(&mut self, len: usize) -> io::Result<&'de [u8]> {
        if stack_position().abs_diff(self.stack_at_start) > STACK_MAX {
            return Err(too_deep());
        }
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.bytes = rest;
        Ok(taken)
    }
}

#[cold]
fn too_deep() -> io::Error {
    io::Error::other("the value is nested too deep to be decoded")
}

impl io::Read for Reader<'_> {
    #[inline(always)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_exact(buffer).map(|()| buffer.len())
    }

    #[inline(always)]
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        buffer.copy_from_slice(self.take(buffer.len())?);
        Ok(())
    }
}

impl<'de> BincodeRead<'de> for &mut Reader<'de> {
    #[inline(always)]
    fn forward_read_str<V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> bincode::Result<V::Value> {
        let text =
            std::str::from_utf8(self.take(length)?).map_err(bincode::ErrorKind::InvalidUtf8Encoding)?;
        visitor.visit_borrowed_str(text)
    }

    #[inline(always)]
    fn get_byte_buffer(&mut self, length: usize) -> bincode::Result<Vec<u8>> {
        Ok(self.take(length)?.to_vec())
    }

    #[inline(always)]
    fn forward_read_bytes<V: Visitor<'de>>(
        &mut self,
        length: usize,
        visitor: V,
    ) -> bincode::Result<V::Value> {
        visitor.visit_borrowed_bytes(self.take(length)?)
    }
}

/// Whether maps and arrays of this MessagePack are nested more than `levels` times. Bytes that are not
/// MessagePack are left to the decoder, which reads no further than this pass.
fn is_deeper_than(levels: usize, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    // The number of items that are left in each open map or array.
    let mut open: Vec<u64> = Vec::new();
    while let Some(items) = next_item(&mut rest) {
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if items > 0 {
            if open.len() == levels {
                return true;
            }
            open.push(items);
        }
        while open.pop_if(|left| *left == 0).is_some() {}
        if open.is_empty() {
            return false;
        }
    }
    false
}

/// Skips an item; returns how many items it contains. `None` if the bytes end, or are not MessagePack.
fn next_item(rest: &mut &[u8]) -> Option<u64> {
    let (marker, after) = rest.split_first()?;
    *rest = after;
    let (skipped, items) = match Marker::from_u8(*marker) {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
        Marker::U8 | Marker::I8 => (1, 0),
        Marker::U16 | Marker::I16 | Marker::FixExt1 => (2, 0),
        Marker::FixExt2 => (3, 0),
        Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
        Marker::FixExt4 => (5, 0),
        Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
        Marker::FixExt8 => (9, 0),
        Marker::FixExt16 => (17, 0),
        Marker::FixStr(len) => (u64::from(len), 0),
        Marker::Str8 | Marker::Bin8 => (length(rest, 1)?, 0),
        Marker::Str16 | Marker::Bin16 => (length(rest, 2)?, 0),
        Marker::Str32 | Marker::Bin32 => (length(rest, 4)?, 0),
        Marker::Ext8 => (length(rest, 1)? + 1, 0),
        Marker::Ext16 => (length(rest, 2)? + 1, 0),
        Marker::Ext32 => (length(rest, 4)? + 1, 0),
        Marker::FixArray(len) => (0, u64::from(len)),
        Marker::Array16 => (0, length(rest, 2)?),
        Marker::Array32 => (0, length(rest, 4)?),
        Marker::FixMap(len) => (0, 2 * u64::from(len)),
        Marker::Map16 => (0, 2 * length(rest, 2)?),
        Marker::Map32 => (0, 2 * length(rest, 4)?),
        Marker::Reserved => return None,
    };
    *rest = rest.get(usize::try_from(skipped).ok()?..)?;
    Some(items)
}

/// Reads a length of `width` bytes, big-endian.
fn length(rest: &mut &[u8], width: usize) -> Option<u64> {
    let (bytes, after) = rest.split_at_checked(width)?;
    *rest = after;
    Some(bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_of_messagepack_is_counted_whatever_its_content() {
        let scalars = (1_u8, -1_i64, 1.5_f32, "text".repeat(20), Some(70_000_u32), (), true);
        let flat = rmp_serde::to_vec_named(&vec![scalars; 3]).unwrap();
        assert!(is_deeper_than(1, &flat) && !is_deeper_than(2, &flat));
        for empty in [&[0x80_u8][..], &[0x90], &[0xdc, 0, 0], &[]] {
            assert!(!is_deeper_than(0, empty), "{empty:?}");
        }
        let nested = [vec![0x91; 300], vec![0xc0]].concat();
        assert!(is_deeper_than(299, &nested) && !is_deeper_than(300, &nested));
        assert!(is_deeper_than(299, &nested[..300]), "the end is missing");
        let maps: Vec<u8> = [0x81_u8, 0xc0].repeat(300);
        assert!(is_deeper_than(299, &maps));
    }

    #[test]
    fn bincode_is_decoded_as_from_a_slice() {
        let options = || bincode::DefaultOptions::new().with_fixint_encoding();
        let value = (7_u64, "text".to_owned(), vec![Some('x'), None], (1_u8, -5_i128));
        let bytes = options().serialize(&value).unwrap();
        assert_eq!(from_bincode::<(u64, String, Vec<Option<char>>, (u8, i128))>(&bytes).unwrap(), value);
        for len in 0..bytes.len() {
            from_bincode::<(u64, String, Vec<Option<char>>, (u8, i128))>(&bytes[..len]).unwrap_err();
        }
        from_bincode::<u8>(&[1, 2]).unwrap_err();
        from_bincode::<Vec<u64>>(&[0xff; 8]).unwrap_err();
    }
}
