//! Streaming reads and uploads.

use std::io;

use larder_core::key::EncodedKey;
use larder_core::stream::Stored;
use larder_core::tier::{BoxFuture, StreamingTier, Upload};
use larder_core::{Error, ErrorKind, Result};

use super::eviction::deadline_of;
use super::index::rounded;
use super::layout::{self, error_at};
use super::reservation::Reservation;
use super::{ABOVE, FileTier, Replacement, work};

/// An upload: a file being written, and the bytes that are reserved for it.
#[derive(Debug)]
pub(super) struct FileUpload {
    file: layout::UploadFile,
    reservation: Reservation,
    head_len: u64,
}

impl FileTier {
    pub(super) fn open_now(&self, key: &EncodedKey) -> Result<Option<Stored>> {
        let Some(id) = self.look_up(key.digest())? else { return Ok(None) };
        match self.layout.open_entry(id.digest) {
            Ok((file, len)) => {
                self.file_found(id, len)?;
                Ok(Some(Stored { medium: Box::new(file), len }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.file_missing(id).map(|()| None),
            Err(error) => Err(error_at(&self.layout.path(id.digest), error)),
        }
    }

    pub(super) fn begin_upload_now(&self, key: &EncodedKey, head_len: usize) -> Result<FileUpload> {
        let head_len = head_len as u64;
        let digest = key.digest();
        self.check_len(head_len)?;
        let failed = |error| error_at(&self.layout.path(digest), error);
        let begin = || {
            let reservation = self.make_room(rounded(head_len) + ABOVE, digest)?;
            let mut file = self.layout.begin().map_err(failed)?;
            file.skip(head_len).map_err(failed)?;
            Ok(FileUpload { file, reservation, head_len })
        };
        self.with_dir(|| self.retry_when_full(begin))
    }

    /// Reserves room first, so that the upload stays within the budget.
    pub(super) fn append_now(&self, upload: &mut FileUpload, bytes: &[u8]) -> Result<()> {
        let len = upload.file.len().saturating_add(bytes.len() as u64);
        self.check_len(len)?;
        self.retry_when_full(|| {
            let missing = (rounded(len) + ABOVE).saturating_sub(upload.reservation.bytes());
            if missing > 0 {
                upload.reservation.merge(self.make_room(missing, 0)?);
            }
            upload.file.append(bytes).map_err(|error| error_at(self.layout.uploads(), error))
        })
    }

    pub(super) fn publish_now(&self, key: &EncodedKey, mut upload: FileUpload, head: &[u8]) -> Result<()> {
        if head.len() as u64 != upload.head_len {
            let message =
                format!("the head has {} bytes; {} bytes were reserved for it", head.len(), upload.head_len);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        self.retry_when_full(|| {
            upload.file.write_front(head).map_err(|error| error_at(self.layout.uploads(), error))?;
            let FileUpload { file, reservation, .. } = &mut upload;
            self.replace(key, None, Replacement { upload: file, reservation, until: deadline_of(head) })
                .map(drop)
        })
    }
}

impl StreamingTier for FileTier {
    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        work("open", move || self.open_now(key))
    }

    /// The file stays open until the upload is published or dropped.
    fn begin_upload<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        work("begin_upload", move || self.begin_upload_now(key, head_len).map(Upload::new))
    }

    fn append<'a>(&'a self, upload: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        work("append", move || self.append_now(upload.state()?, bytes))
    }

    fn publish<'a>(
        &'a self,
        key: &'a EncodedKey,
        upload: Upload,
        head: &'a [u8],
    ) -> BoxFuture<'a, Result<()>> {
        work("publish", move || self.publish_now(key, upload.into_state()?, head))
    }
}
