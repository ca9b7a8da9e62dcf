//! Seals a body in segments, as the construction STREAM does.
//!
//! Each segment has a nonce of its own: 19 random bytes of the frame, the number of the segment, and a byte
//! that tells the last one. So segments cannot be moved, left out, or added at the end.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use larder_core::{Error, ErrorKind, Result};

use crate::cache_keys::NAME_LEN;

/// Bytes of a segment before it is sealed; the last one may be shorter.
pub(crate) const SEGMENT: usize = 64 << 10;
/// Bytes that sealing adds.
pub(crate) const TAG_LEN: usize = 16;
/// Bytes of a whole sealed segment.
pub(crate) const SEALED: usize = SEGMENT + TAG_LEN;
/// Random bytes of a frame.
pub(crate) const PREFIX_LEN: usize = 19;

/// What a segment is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentPart {
    /// A segment of the body that others follow.
    Body = 0,
    /// The last segment of the body.
    LastOfBody = 1,
    /// The head.
    Head = 2,
}

/// The number and the part of a segment: what makes its nonce unique in its frame.
#[derive(Clone, Copy)]
pub(crate) struct SegmentId {
    pub(crate) number: u32,
    pub(crate) part: SegmentPart,
}

impl SegmentId {
    pub(crate) const HEAD: Self = Self { number: 0, part: SegmentPart::Head };
}

/// A sealed part that does not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

/// A cipher with the random bytes of one frame.
#[derive(Clone, Copy)]
pub(crate) struct FrameCipher<'a> {
    pub(crate) cipher: &'a XChaCha20Poly1305,
    pub(crate) prefix: [u8; PREFIX_LEN],
}

impl FrameCipher<'_> {
    fn nonce(&self, SegmentId { number, part }: SegmentId) -> XNonce {
        let mut nonce = XNonce::default();
        nonce[..PREFIX_LEN].copy_from_slice(&self.prefix);
        nonce[PREFIX_LEN..PREFIX_LEN + 4].copy_from_slice(&number.to_be_bytes());
        nonce[PREFIX_LEN + 4] = part as u8;
        nonce
    }

    /// Appends `plain`, sealed, to `out`.
    pub(crate) fn seal(
        &self,
        segment: SegmentId,
        bound: &[u8],
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let begun = out.len();
        out.extend_from_slice(plain);
        let nonce = self.nonce(segment);
        let tag = self.cipher.encrypt_inout_detached(&nonce, bound, (&mut out[begun..]).into());
        out.extend_from_slice(&tag.map_err(|_| Error::new(ErrorKind::TooLarge, "too long to be sealed"))?);
        Ok(())
    }

    /// Appends what `sealed` holds to `out`. Leaves `out` as it is if it does not authenticate.
    pub(crate) fn open(
        &self,
        segment: SegmentId,
        bound: &[u8],
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), NotAuthentic> {
        let (plain, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(NotAuthentic)?;
        let begun = out.len();
        out.extend_from_slice(plain);
        let nonce = self.nonce(segment);
        let buffer = (&mut out[begun..]).into();
        let opened = self.cipher.decrypt_inout_detached(&nonce, bound, buffer, &Tag::from(*tag));
        opened.map_err(|_| {
            out.truncate(begun);
            NotAuthentic
        })
    }
}

/// The segment of the body at this place, of so many.
pub(crate) fn place(at: u64, count: u64) -> Result<SegmentId, NotAuthentic> {
    let part = if at + 1 == count { SegmentPart::LastOfBody } else { SegmentPart::Body };
    Ok(SegmentId { number: u32::try_from(at).map_err(|_| NotAuthentic)?, part })
}

/// How a sealed body of this many bytes is divided: the number of segments, and the bytes in them.
pub(crate) fn division(sealed_len: u64) -> Result<(u64, u64), NotAuthentic> {
    let count = sealed_len.div_ceil(SEALED as u64).max(1);
    let tags = count * TAG_LEN as u64;
    Ok((count, sealed_len.checked_sub(tags).ok_or(NotAuthentic)?))
}

/// Bytes of a body of this length, sealed.
pub(crate) fn sealed_len(len: usize) -> usize {
    len + len.div_ceil(SEGMENT).max(1) * TAG_LEN
}

/// What the segments of a body are bound to, beside the nonce: the name of the entry.
pub(crate) fn bound_to_body(name: &[u8]) -> [u8; BODY_BOUND_LEN] {
    let mut bound = [0; BODY_BOUND_LEN];
    let (text, rest) = bound.split_at_mut(BODY.len());
    text.copy_from_slice(BODY);
    let len = name.len().min(NAME_LEN);
    rest[..len].copy_from_slice(&name[..len]);
    bound
}

const BODY: &[u8] = b"larder sealed body 1";
const BODY_BOUND_LEN: usize = BODY.len() + NAME_LEN;
