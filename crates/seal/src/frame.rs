//! A sealed frame: a frame of the usual format around a sealed one.
//!
//! Tiers read from it what they need: its length, its name, until when it may be served, and the checksum of
//! the head, which differs for each write. All the rest is zero. Attributes hold the sealed head of the inner
//! frame, the payload its sealed body.

use std::sync::Arc;

use larder_core::clock::Time;
use larder_core::entry_meta::{self, SEALED_HEAD};
use larder_core::frame::{self, CodecId, Compression, Frame, Head, Header, Payload};
use larder_core::key::EncodedKey;
use larder_core::place::Kind;
use larder_core::{Bytes, Error, ErrorKind, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::cache_keys::Ring;
use crate::keys::{KeyId, random};
use crate::segments::{self, FrameCipher, NotAuthentic, PREFIX_LEN, SEALED, SEGMENT, SegmentId, TAG_LEN};

/// Bytes of the identifier of a key.
const ID_LEN: usize = 8;
/// Bytes of a sealed head beside the head.
const ADDED: usize = ID_LEN + PREFIX_LEN + TAG_LEN;
/// Most bytes of the content of one attribute.
const ATTRIBUTE_MAX: usize = u16::MAX as usize;
/// Bytes of kind and length before the content of an attribute.
const ATTRIBUTE_HEAD: usize = 3;
/// Bytes of the attribute with the offset of the shared clock.
const OFFSET_LEN: usize = ATTRIBUTE_HEAD + 8;

/// What opening a sealed frame found.
pub(crate) enum Opened<T> {
    /// The frame of the engine.
    Frame(T),
    /// A frame that is sealed by a key that the cache does not have.
    OtherKey,
    /// A frame that no holder of the keys sealed for this place.
    NotAuthentic,
}

impl<T> From<Result<T, NotAuthentic>> for Opened<T> {
    fn from(opened: Result<T, NotAuthentic>) -> Self {
        opened.map_or(Self::NotAuthentic, Self::Frame)
    }
}

/// What the fixed part of a sealed frame says.
#[derive(Clone, Copy)]
pub(crate) struct Outside {
    pub(crate) kept_until: Time,
    pub(crate) payload: Payload,
}

impl Outside {
    fn header(&self) -> Header {
        Header {
            codec: CodecId::Sealed,
            compression: Compression::None,
            kind: Kind::Other,
            schema: 0,
            shape: 0,
            created: Time::from_millis(0),
            deadline: self.kept_until,
            stale_deadline: self.kept_until,
            generation: 0,
            value_len: self.payload.len,
            load_cost: None,
        }
    }

    /// What the sealed head is bound to: everything outside of it.
    fn bound(&self, name: &EncodedKey, offset: &[u8]) -> Vec<u8> {
        let words = [self.kept_until.as_millis(), self.payload.len, self.payload.sum].map(u64::to_le_bytes);
        [b"larder sealed head 1", name.as_bytes(), words.as_flattened(), offset].concat()
    }
}

/// Begins a frame: the identifier of the key that writes, and new random bytes.
pub(crate) fn begin(ring: &Arc<Ring>) -> Result<(KeyId, FrameCipher<'_>)> {
    let (id, cipher) = ring.writing().ok_or_else(|| Error::new(ErrorKind::Unavailable, "no key to write"))?;
    let mut prefix = [0; PREFIX_LEN];
    random(&mut prefix)?;
    Ok((id, FrameCipher { cipher, prefix }))
}

/// Seals a frame of the engine. With `keeps_offset`, the offset of the shared clock stays readable: the tier
/// expires entries by it.
pub(crate) fn seal(ring: &Arc<Ring>, name: &EncodedKey, plain: &Frame, keeps_offset: bool) -> Result<Frame> {
    let (id, cipher) = begin(ring)?;
    let body = seal_body(&cipher, name, plain.body())?;
    let payload = Payload { len: body.len() as u64, sum: xxh3_64(&body), chunked: false };
    let head = seal_head(id, &cipher, name, plain.head(), Outer { payload, keeps_offset })?;
    Ok(Frame::from_parts(head, body.into()))
}

fn seal_body(cipher: &FrameCipher<'_>, name: &EncodedKey, body: &[u8]) -> Result<Vec<u8>> {
    let bound = segments::bound_to_body(name.as_bytes());
    let count = body.len().div_ceil(SEGMENT).max(1) as u64;
    let mut sealed = Vec::with_capacity(segments::sealed_len(body.len()));
    for at in 0..count {
        let begins = at as usize * SEGMENT;
        let plain = &body[begins..body.len().min(begins + SEGMENT)];
        let place = segments::place(at, count).map_err(|_| too_long())?;
        cipher.seal(place, &bound, plain, &mut sealed)?;
    }
    Ok(sealed)
}

pub(crate) fn too_long() -> Error {
    Error::new(ErrorKind::TooLarge, "the value is too long to be sealed")
}

/// What of a frame stays readable outside its sealed head.
pub(crate) struct Outer {
    /// The sealed body.
    pub(crate) payload: Payload,
    /// Whether the offset of the shared clock does.
    pub(crate) keeps_offset: bool,
}

/// Seals the head of a frame of the engine, and returns the head of the sealed frame.
pub(crate) fn seal_head(
    id: KeyId,
    cipher: &FrameCipher<'_>,
    name: &EncodedKey,
    plain: &[u8],
    Outer { payload, keeps_offset }: Outer,
) -> Result<Vec<u8>> {
    let inner = Head::parse(plain).map_err(|error| Error::new(ErrorKind::Corrupt, error.to_string()))?;
    let kept_until = inner.header.deadline.max(inner.header.stale_deadline);
    let outside = Outside { kept_until, payload };
    let mut attributes = Vec::new();
    if let Some(offset) = entry_meta::read_offset(inner.attributes).filter(|_| keeps_offset) {
        entry_meta::write_offset(&mut attributes, offset);
    }
    let mut content = Vec::with_capacity(plain.len() + ADDED);
    content.extend_from_slice(&id.to_bytes());
    content.extend_from_slice(&cipher.prefix);
    cipher.seal(SegmentId::HEAD, &outside.bound(name, &attributes), plain, &mut content)?;
    for part in content.chunks(ATTRIBUTE_MAX) {
        attributes.push(SEALED_HEAD);
        attributes.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes());
        attributes.extend_from_slice(part);
    }
    Ok(frame::head(&outside.header(), name, &attributes, payload))
}

/// Bytes of the head of a sealed frame around a head of this length, without an offset.
pub(crate) fn head_len(name: &EncodedKey, plain_len: usize) -> usize {
    let content = plain_len + ADDED;
    let attributes = content + content.div_ceil(ATTRIBUTE_MAX) * ATTRIBUTE_HEAD;
    frame::FIXED_LEN + name.as_bytes().len() + attributes
}

/// The head of a sealed frame, opened.
pub(crate) struct OpenedHead<'a> {
    /// The head of the frame of the engine.
    pub(crate) plain: Vec<u8>,
    /// What its body is opened by.
    pub(crate) cipher: FrameCipher<'a>,
    /// The name that the frame is bound to.
    pub(crate) name: &'a [u8],
    /// Bytes of the head of the sealed frame.
    pub(crate) outer_len: usize,
    /// Number of segments of the body.
    pub(crate) segments: u64,
    /// Bytes of the sealed body.
    pub(crate) sealed_body_len: u64,
}

/// Opens the head of a sealed frame; more bytes may follow it. `name` is the expected one, if that is known.
pub(crate) fn open_head<'a>(
    ring: &'a Ring,
    bytes: &'a [u8],
    name: Option<&EncodedKey>,
) -> Opened<OpenedHead<'a>> {
    let Ok(outer) = Head::parse(bytes) else { return Opened::NotAuthentic };
    if name.is_some_and(|name| outer.key != name.as_bytes()) || outer.header.codec != CodecId::Sealed {
        return Opened::NotAuthentic;
    }
    let (offset, content) = match parts(outer.attributes) {
        Ok(parts) => parts,
        Err(NotAuthentic) => return Opened::NotAuthentic,
    };
    let Some((id, rest)) = content.split_first_chunk::<ID_LEN>() else { return Opened::NotAuthentic };
    let Some((prefix, sealed)) = rest.split_first_chunk::<PREFIX_LEN>() else { return Opened::NotAuthentic };
    let Some(cipher) = ring.cipher(KeyId::from_bytes(*id)) else { return Opened::OtherKey };
    let cipher = FrameCipher { cipher, prefix: *prefix };
    open_sealed_head(bytes, outer, (cipher, offset, sealed)).into()
}

/// Splits the attributes of a sealed frame into that of the offset and the content of the others. There is one
/// way to write them, and no other is accepted.
fn parts(attributes: &[u8]) -> Result<(&[u8], Vec<u8>), NotAuthentic> {
    let has_offset = attributes.first() != Some(&SEALED_HEAD);
    let (offset, mut rest) =
        attributes.split_at_checked(if has_offset { OFFSET_LEN } else { 0 }).ok_or(NotAuthentic)?;
    let mut content = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let (head, after) = rest.split_first_chunk::<ATTRIBUTE_HEAD>().ok_or(NotAuthentic)?;
        let len = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let (part, after) = after.split_at_checked(len).ok_or(NotAuthentic)?;
        if head[0] != SEALED_HEAD || len == 0 || (len < ATTRIBUTE_MAX && !after.is_empty()) {
            return Err(NotAuthentic);
        }
        content.extend_from_slice(part);
        rest = after;
    }
    Ok((offset, content))
}

fn open_sealed_head<'a>(
    bytes: &'a [u8],
    outer: Head<'a>,
    (cipher, offset, sealed): (FrameCipher<'a>, &[u8], &[u8]),
) -> Result<OpenedHead<'a>, NotAuthentic> {
    let payload = Payload { len: outer.payload_len, sum: outer.payload_sum, chunked: false };
    let outside = Outside { kept_until: outer.header.deadline, payload };
    let name = EncodedKey::new(outer.key);
    // Each byte of the fixed part is as it was written, also those that the header reads as something else.
    let outer_len = outer.len();
    if bytes[..outer_len] != frame::head(&outside.header(), &name, outer.attributes, payload) {
        return Err(NotAuthentic);
    }
    let mut plain = Vec::with_capacity(sealed.len());
    cipher.open(SegmentId::HEAD, &outside.bound(&name, offset), sealed, &mut plain)?;
    let (segments, body_len) = segments::division(payload.len)?;
    let inner = Head::parse(&plain).map_err(|_| NotAuthentic)?;
    if inner.frame_len() != plain.len() as u64 + body_len || inner.len() != plain.len() {
        return Err(NotAuthentic);
    }
    Ok(OpenedHead { plain, cipher, name: outer.key, outer_len, segments, sealed_body_len: payload.len })
}

impl OpenedHead<'_> {
    /// Whether it is the head of the entry of `key`.
    pub(crate) fn is_of(&self, key: &EncodedKey) -> bool {
        Head::parse(&self.plain).is_ok_and(|head| head.key == key.as_bytes())
    }
}

/// Opens a whole sealed frame. Returns the frame of the engine.
pub(crate) fn open(ring: &Ring, bytes: &Bytes, (key, name): (&EncodedKey, &EncodedKey)) -> Opened<Bytes> {
    let head = match open_head(ring, bytes, Some(name)) {
        Opened::Frame(head) if head.is_of(key) => head,
        Opened::OtherKey => return Opened::OtherKey,
        _ => return Opened::NotAuthentic,
    };
    open_body(&head, &bytes[head.outer_len..]).map(Bytes::from).into()
}

/// Opens the body after the head.
fn open_body(head: &OpenedHead<'_>, sealed: &[u8]) -> Result<Vec<u8>, NotAuthentic> {
    if sealed.len() as u64 != head.sealed_body_len {
        return Err(NotAuthentic);
    }
    let bound = segments::bound_to_body(head.name);
    let mut whole = Vec::with_capacity(head.plain.len() + sealed.len());
    whole.extend_from_slice(&head.plain);
    for (at, segment) in (0..head.segments).zip(sealed.chunks(SEALED)) {
        head.cipher.open(segments::place(at, head.segments)?, &bound, segment, &mut whole)?;
    }
    Ok(whole)
}
