//! Streaming reads and uploads.

use std::io;

use larder_core::key::EncodedKey;
use larder_core::stream::Stored;
use larder_core::{Error, ErrorKind, Result};

use super::eviction::until_of;
use super::folder::{self, at};
use super::index::rounded;
use super::room::Room;
use super::{ABOVE, FileTier};

/// An upload: a file being written, and the room that is reserved for it.
#[derive(Debug)]
pub(super) struct FileUpload {
    file: folder::UploadFile,
    room: Room,
    head_len: u64,
}

impl FileTier {
    pub(super) fn open_now(&self, key: &EncodedKey) -> Result<Option<Stored>> {
        let Some(held) = self.expect(key.digest())? else { return Ok(None) };
        match self.folder.open_entry(held.digest) {
            Ok((file, len)) => {
                self.found(held, len)?;
                Ok(Some(Stored { medium: Box::new(file), len }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.missed(held).map(|()| None),
            Err(error) => Err(at(&self.folder.path(held.digest), error)),
        }
    }

    pub(super) fn begin_upload_now(&self, key: &EncodedKey, head_len: usize) -> Result<FileUpload> {
        let head_len = head_len as u64;
        let digest = key.digest();
        self.check_len(head_len)?;
        let failed = |error| at(&self.folder.path(digest), error);
        let begin = || {
            let room = self.make_room(rounded(head_len) + ABOVE, digest)?;
            let mut file = self.folder.begin().map_err(failed)?;
            file.skip(head_len).map_err(failed)?;
            Ok(FileUpload { file, room, head_len })
        };
        self.in_place(|| self.relieved(begin))
    }

    /// Reserves room first, so that the upload stays within the budget.
    pub(super) fn append_now(&self, upload: &mut FileUpload, bytes: &[u8]) -> Result<()> {
        let len = upload.file.len().saturating_add(bytes.len() as u64);
        self.check_len(len)?;
        self.relieved(|| {
            let missing = (rounded(len) + ABOVE).saturating_sub(upload.room.bytes());
            if missing > 0 {
                upload.room.join(self.make_room(missing, 0)?);
            }
            upload.file.append(bytes).map_err(|error| at(self.folder.drafts(), error))
        })
    }

    pub(super) fn publish_now(&self, key: &EncodedKey, mut upload: FileUpload, head: &[u8]) -> Result<()> {
        if head.len() as u64 != upload.head_len {
            let message = format!("a head of {} bytes where {} were said", head.len(), upload.head_len);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        self.relieved(|| {
            upload.file.write_front(head).map_err(|error| at(self.folder.drafts(), error))?;
            self.replace((key, None), (&mut upload.file, &mut upload.room), until_of(head)).map(drop)
        })
    }
}
