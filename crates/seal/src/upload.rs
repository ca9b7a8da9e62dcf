//! Seals a frame that is written in parts.

use std::sync::Arc;

use larder_core::frame::Payload;
use larder_core::key::EncodedKey;
use larder_core::tier::{StreamingTier, Upload};
use larder_core::{Error, ErrorKind, Result};
use xxhash_rust::xxh3::Xxh3;

use crate::cache_keys::Ring;
use crate::frame::{self, too_long};
use crate::keys::KeyId;
use crate::segments::{self, FrameCipher, PREFIX_LEN, SEALED, SEGMENT, SegmentId, SegmentPart};

/// A frame that is being sealed, and written in parts.
pub(crate) struct SealedUpload {
    inner: Upload,
    ring: Arc<Ring>,
    id: KeyId,
    prefix: [u8; PREFIX_LEN],
    name: EncodedKey,
    head_len: usize,
    /// Bytes that the body may still take.
    room: u64,
    /// Bytes that are not sealed yet: a segment is sealed when it is known whether it is the last one.
    waiting: Vec<u8>,
    /// Segments that are sealed.
    count: u64,
    sum: Xxh3,
    len: u64,
}

impl SealedUpload {
    /// Begins an upload for a head of `head_len` bytes.
    pub(crate) async fn begin(
        tier: &dyn StreamingTier,
        ring: Arc<Ring>,
        (name, head_len, limit): (EncodedKey, usize, u64),
    ) -> Result<Self> {
        let (id, prefix) = frame::begin(&ring).map(|(id, cipher)| (id, cipher.prefix))?;
        let inner = tier.begin_upload(&name, frame::head_len(&name, head_len)).await?;
        let sum = Xxh3::new();
        let room = limit.saturating_sub(head_len as u64);
        Ok(Self { inner, ring, id, prefix, name, head_len, room, waiting: Vec::new(), count: 0, sum, len: 0 })
    }

    /// Appends bytes of the body.
    pub(crate) async fn append(&mut self, tier: &dyn StreamingTier, mut bytes: &[u8]) -> Result<()> {
        self.room = self.room.checked_sub(bytes.len() as u64).ok_or_else(too_long)?;
        let mut sealed = Vec::with_capacity((bytes.len() / SEGMENT + 1) * SEALED);
        while !bytes.is_empty() {
            if self.waiting.len() == SEGMENT {
                self.seal_waiting(SegmentPart::Body, &mut sealed)?;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(SEGMENT - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            bytes = rest;
        }
        self.write(tier, &sealed).await
    }

    /// Writes the rest of the body and the head. Returns the upload, and the head of the sealed frame.
    pub(crate) async fn finish(
        mut self,
        tier: &dyn StreamingTier,
        head: &[u8],
    ) -> Result<(EncodedKey, Upload, Vec<u8>)> {
        if head.len() != self.head_len {
            return Err(Error::new(ErrorKind::Corrupt, "the head has another length than was reserved"));
        }
        let mut sealed = Vec::with_capacity(SEALED);
        self.seal_waiting(SegmentPart::LastOfBody, &mut sealed)?;
        self.write(tier, &sealed).await?;
        let payload = Payload { len: self.len, sum: self.sum.digest(), chunked: false };
        let cipher = self.cipher()?;
        let head = frame::seal_head(
            self.id,
            &cipher,
            &self.name,
            head,
            frame::Outer { payload, keeps_offset: false },
        )?;
        Ok((self.name, self.inner, head))
    }

    fn cipher(&self) -> Result<FrameCipher<'_>> {
        let cipher = self.ring.cipher(self.id);
        let cipher = cipher.ok_or_else(|| Error::new(ErrorKind::Unavailable, "no key to write"))?;
        Ok(FrameCipher { cipher, prefix: self.prefix })
    }

    fn seal_waiting(&mut self, part: SegmentPart, sealed: &mut Vec<u8>) -> Result<()> {
        let number = u32::try_from(self.count).map_err(|_| too_long())?;
        let bound = segments::bound_to_body(self.name.as_bytes());
        self.cipher()?.seal(SegmentId { number, part }, &bound, &self.waiting, sealed)?;
        self.waiting.clear();
        self.count += 1;
        Ok(())
    }

    async fn write(&mut self, tier: &dyn StreamingTier, sealed: &[u8]) -> Result<()> {
        if sealed.is_empty() {
            return Ok(());
        }
        self.sum.update(sealed);
        self.len += sealed.len() as u64;
        tier.append(&mut self.inner, sealed).await
    }
}
