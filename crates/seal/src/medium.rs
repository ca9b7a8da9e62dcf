//! Reads a sealed frame in parts, as the frame of the engine.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use chacha20poly1305::XChaCha20Poly1305;
use larder_core::frame::{self, FIXED_LEN};
use larder_core::key::EncodedKey;
use larder_core::stream::{Medium, Stored};
use larder_core::{Error, Result};

use crate::cache_keys::PlaceKeys;
use crate::frame::{Opened, OpenedHead, open_head};
use crate::segments::{self, FrameCipher, PREFIX_LEN, SEALED, SEGMENT};

/// Opens a stored frame for reading in parts. A frame of another key is returned as it is, one that does not
/// authenticate as an empty one.
pub(crate) fn open(
    keys: &PlaceKeys,
    mut stored: Stored,
    (key, name): (&EncodedKey, &EncodedKey),
) -> Result<Stored> {
    let ring = keys.ring();
    let bytes = read_head(&mut stored)?;
    match open_head(&ring, &bytes, Some(name)) {
        Opened::Frame(head)
            if head.is_of(key) && stored.len == head.outer_len as u64 + head.sealed_body_len =>
        {
            let opened = SealedMedium::new(stored.medium, head);
            Ok(Stored { len: opened.len, medium: Box::new(opened) })
        }
        Opened::OtherKey => {
            stored.medium.seek(SeekFrom::Start(0))?;
            Ok(stored)
        }
        _ => Ok(Stored { medium: Box::new(Cursor::new(Vec::new())), len: 0 }),
    }
}

/// Reads as many bytes as the head has. Memory grows with the actual data, not with the claimed length.
fn read_head(stored: &mut Stored) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut take = |len: u64, bytes: &mut Vec<u8>| {
        (&mut stored.medium).take(len).read_to_end(bytes).map(drop).map_err(Error::from)
    };
    take(FIXED_LEN as u64, &mut bytes)?;
    if let Some(lens) = frame::lens(&bytes) {
        take(lens.head.saturating_sub(FIXED_LEN as u64), &mut bytes)?;
    }
    Ok(bytes)
}

/// The frame of the engine in a sealed one. It needs memory for one segment, and no byte of a segment is
/// returned before the segment was authenticated.
struct SealedMedium {
    medium: Box<dyn Medium>,
    cipher: XChaCha20Poly1305,
    prefix: [u8; PREFIX_LEN],
    name: Box<[u8]>,
    head: Vec<u8>,
    /// The position of the sealed body on the medium.
    starts: u64,
    sealed_len: u64,
    segments: u64,
    len: u64,
    position: u64,
    /// The segment in `buffer`.
    held: Option<u64>,
    buffer: Vec<u8>,
    sealed: Vec<u8>,
}

impl SealedMedium {
    fn new(medium: Box<dyn Medium>, head: OpenedHead<'_>) -> Self {
        let tags = head.segments * segments::TAG_LEN as u64;
        Self {
            medium,
            cipher: head.cipher.cipher.clone(),
            prefix: head.cipher.prefix,
            name: head.name.into(),
            starts: head.outer_len as u64,
            sealed_len: head.sealed_body_len,
            segments: head.segments,
            len: head.plain.len() as u64 + head.sealed_body_len - tags,
            head: head.plain,
            position: 0,
            held: None,
            buffer: Vec::new(),
            sealed: Vec::new(),
        }
    }

    fn hold(&mut self, segment: u64) -> io::Result<()> {
        if self.held == Some(segment) {
            return Ok(());
        }
        self.held = None;
        let begins = segment * SEALED as u64;
        let len = (self.sealed_len - begins).min(SEALED as u64) as usize;
        self.sealed.resize(len, 0);
        self.medium.seek(SeekFrom::Start(self.starts + begins))?;
        self.medium.read_exact(&mut self.sealed).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(),
            _ => error,
        })?;
        self.buffer.clear();
        let cipher = FrameCipher { cipher: &self.cipher, prefix: self.prefix };
        let place = segments::place(segment, self.segments).map_err(|_| damaged())?;
        let bound = segments::bound_to_body(&self.name);
        cipher.open(place, &bound, &self.sealed, &mut self.buffer).map_err(|_| damaged())?;
        self.held = Some(segment);
        Ok(())
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a part of the entry does not authenticate")
}

impl Read for SealedMedium {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.len || into.is_empty() {
            return Ok(0);
        }
        let head_len = self.head.len() as u64;
        let read = if self.position < head_len {
            (&self.head[self.position as usize..]).read(into)?
        } else {
            let at = self.position - head_len;
            self.hold(at / SEGMENT as u64)?;
            let within = (at % SEGMENT as u64) as usize;
            self.buffer.get(within..).unwrap_or_default().read(into)?
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SealedMedium {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the seek position is before the beginning")
        })?;
        Ok(self.position)
    }
}
