//! The directory of a file tier: its file names, and the file system calls.
//!
//! ```text
//! <dir>/entries/<2 hex>/<2 hex>/<28 hex>   one frame, named by the digest of its key
//! <dir>/tmp/<number>.put                   a frame being written
//! <dir>/tmp/<number>.clear                 entries being deleted
//! <dir>/tmp/<id>.<number>.put              a frame being written, if the directory is shared
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::frame::{self, Frame, Head};
use larder_core::{Bytes, Durability, Error, ErrorKind, Result};

use crate::durable_sync::sync_dir;

use super::peers::{self, LivenessFile};
use crate::private_file;

/// First read of a file, in bytes: it holds the head of nearly every frame, and all of a small one.
const PAGE: usize = 4096;

/// How often the directory of a file is created again before `publish` gives up.
const CREATE_TRIES: usize = 16;

/// The directory of one tier.
#[derive(Debug)]
pub(super) struct Layout {
    entries: PathBuf,
    tmp: PathBuf,
    uploads: AtomicU64,
    /// Whether changes of files are durable before they are acknowledged.
    is_synced: bool,
    /// The liveness file of this process, if the directory is shared.
    liveness: Option<LivenessFile>,
}

impl Layout {
    /// Creates missing directories, deletes files that an earlier process left half written, and
    /// checks that files can be written.
    pub(super) fn open(dir: &Path, shared: bool, durability: Durability) -> Result<Self> {
        let (entries, tmp) = (dir.join("entries"), dir.join("tmp"));
        create_all(&[dir, &entries, &tmp])?;
        peers::sweep(&tmp).map_err(|error| open_error(&tmp, error))?;
        let liveness =
            shared.then(|| LivenessFile::new(&tmp)).transpose().map_err(|error| open_error(&tmp, error))?;
        let is_synced = durability == Durability::Synced;
        let layout = Self { entries, tmp, uploads: AtomicU64::new(0), is_synced, liveness };
        let probe = layout.tmp_path("put");
        create_file(&probe)
            .and_then(|_| fs::remove_file(&probe))
            .map_err(|error| open_error(&probe, error))?;
        Ok(layout)
    }

    /// The layout of a directory that is only read. Creates and checks nothing.
    pub(super) fn to_read(dir: &Path) -> Self {
        let (entries, tmp) = (dir.join("entries"), dir.join("tmp"));
        Self { entries, tmp, uploads: AtomicU64::new(0), is_synced: false, liveness: None }
    }

    /// Creates the directories that are missing, after they were removed.
    pub(super) fn recreate(&self) -> Result<()> {
        create_all(&[&self.entries, &self.tmp])
    }

    /// Removes the liveness file: this process has no more temporary files that others must keep.
    pub(super) fn remove_liveness_file(&self) {
        if let Some(liveness) = &self.liveness {
            liveness.end();
        }
    }

    /// The directory of the entries.
    pub(super) fn entries(&self) -> &Path {
        &self.entries
    }

    /// The directory of the temporary files.
    pub(super) fn uploads(&self) -> &Path {
        &self.tmp
    }

    /// Reads the frame of `digest`.
    ///
    /// The frame is whole even during an overwrite, which replaces the file and never its bytes. A
    /// frame of up to a page costs one read: it is complete if it has the length that its head says.
    pub(super) fn read(&self, digest: u128) -> io::Result<Bytes> {
        let mut file = File::open(self.path(digest))?;
        let mut page = [0; PAGE];
        let len = read_once(&mut file, &mut page)?;
        let start = &page[..len];
        if frame::lens(start).is_some_and(|lens| lens.frame == len as u64) {
            return Ok(Bytes::copy_from_slice(start));
        }
        let mut whole = start.to_vec();
        file.read_to_end(&mut whole)?;
        Ok(whole.into())
    }

    /// Reads the head of the frame of `digest`. More of the frame may follow it. `None` if no head
    /// can be read.
    pub(super) fn read_head(&self, digest: u128) -> Option<Vec<u8>> {
        let mut file = File::open(self.path(digest)).ok()?;
        let mut head = Vec::with_capacity(PAGE);
        (&mut file).take(PAGE as u64).read_to_end(&mut head).ok()?;
        let missing = frame::lens(&head)?.head.saturating_sub(head.len() as u64);
        if missing > 0 {
            file.take(missing).read_to_end(&mut head).ok()?;
        }
        Head::parse(&head).is_ok().then_some(head)
    }

    /// Writes `frame` to a temporary file, which no reader sees.
    pub(super) fn write_upload(&self, frame: &Frame) -> io::Result<UploadFile> {
        let mut upload = self.begin()?;
        write_whole(&mut upload.file, frame)?;
        upload.len = frame.len() as u64;
        Ok(upload)
    }

    /// Creates a temporary file, which no reader sees.
    pub(super) fn begin(&self) -> io::Result<UploadFile> {
        let path = self.tmp_path("put");
        let file = create_file(&path)?;
        Ok(UploadFile { path, file, len: 0 })
    }

    /// Opens the file of `digest` for reading in parts. Returns it with its length.
    pub(super) fn open_entry(&self, digest: u128) -> io::Result<(File, u64)> {
        let file = File::open(self.path(digest))?;
        let len = file.metadata()?.len();
        Ok((file, len))
    }

    /// Renames `upload` to the file of `digest`, in place of a former one.
    ///
    /// Creates the directory only if the rename does not find it, since it usually exists. Another
    /// process that scans the directory may delete it again while it is empty, so this retries.
    pub(super) fn publish(&self, upload: &mut UploadFile, digest: u128) -> io::Result<()> {
        if self.is_synced {
            upload.file.sync_data()?;
        }
        let path = self.path(digest);
        let mut renamed = fs::rename(&upload.path, &path);
        for _ in 0..CREATE_TRIES {
            match renamed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let created = create_dir(path.parent().unwrap_or(&self.entries));
                    renamed = created.and_then(|()| fs::rename(&upload.path, &path));
                }
                _ => break,
            }
        }
        renamed?;
        upload.forget();
        self.sync_above(digest).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }

    /// Waits until the directory entries on the path to the file of `digest` are durable, if the
    /// tier is synced.
    fn sync_above(&self, digest: u128) -> io::Result<()> {
        if !self.is_synced {
            return Ok(());
        }
        self.path(digest).ancestors().skip(1).take(3).try_for_each(|folder| match sync_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    /// Deletes the file of `digest`. Returns whether there was one.
    pub(super) fn unlink(&self, digest: u128) -> io::Result<bool> {
        let was_there = absent_is_false(fs::remove_file(self.path(digest)))?;
        self.sync_above(digest).map(|()| was_there)
    }

    /// Deletes the lowest `count` directories above the file of `digest`. Directories with foreign
    /// files stay.
    pub(super) fn unlink_folders(&self, digest: u128, count: usize) {
        for folder in self.path(digest).ancestors().skip(1).take(count) {
            let _ = fs::remove_dir(folder);
        }
    }

    /// Renames the directory of all entries, so that no reader finds them. Returns its new path,
    /// which the caller deletes.
    pub(super) fn set_aside(&self) -> io::Result<Option<PathBuf>> {
        let aside = self.tmp_path("clear");
        let was_there = absent_is_false(fs::rename(&self.entries, &aside))?;
        if self.is_synced {
            self.entries.parent().map_or(Ok(()), sync_dir)?;
        }
        Ok(was_there.then_some(aside))
    }

    /// Deletes all entries, because they cannot be trusted. Returns whether there were any.
    pub(super) fn discard(&self) -> io::Result<bool> {
        let is_empty = fs::read_dir(&self.entries)?.next().is_none();
        if !is_empty && let Some(aside) = self.set_aside()? {
            fs::remove_dir_all(aside)?;
            self.entries.parent().map_or(Ok(()), sync_dir)?;
        }
        Ok(!is_empty)
    }

    /// The path of the file of `digest`.
    pub(super) fn path(&self, digest: u128) -> PathBuf {
        let hex = hex_of(digest);
        let (first, rest) = hex.split_at(2);
        let (second, name) = rest.split_at(2);
        let mut path = PathBuf::with_capacity(self.entries.as_os_str().len() + hex.len() + 3);
        path.push(&self.entries);
        path.extend([first, second, name]);
        path
    }

    fn tmp_path(&self, suffix: &str) -> PathBuf {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        match &self.liveness {
            Some(liveness) => self.tmp.join(format!("{}.{number}.{suffix}", liveness.id())),
            None => self.tmp.join(format!("{number}.{suffix}")),
        }
    }
}

/// A temporary file that is deleted on drop unless it is published.
#[derive(Debug)]
pub(super) struct UploadFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl UploadFile {
    /// Bytes written, including the skipped head.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Leaves `len` bytes free for the head.
    pub(super) fn skip(&mut self, len: u64) -> io::Result<()> {
        self.len = self.file.seek(SeekFrom::Start(len))?;
        Ok(())
    }

    /// Appends `bytes`. If that fails, none of them stay in the file.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            let _ = self.file.set_len(self.len).and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
            return Err(error);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Writes the head into the bytes that were left free.
    pub(super) fn write_front(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(bytes)
    }

    fn forget(&mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for UploadFile {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Converts `error`, and adds the path to its message.
pub(super) fn error_at(path: &Path, error: io::Error) -> Error {
    let kind = Error::from(io::Error::from(error.kind())).kind();
    Error::new(kind, format!("{}: {error}", path.display())).with_source(error)
}

/// Converts the error of opening `path`. The system reports a file in place of the directory as
/// `AlreadyExists`.
fn open_error(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::AlreadyExists {
        let message = format!("{}: the path is not a directory", path.display());
        return Error::new(ErrorKind::Unavailable, message).with_source(error);
    }
    error_at(path, error)
}

/// The 32 lower-case hexadecimal digits of a digest.
fn hex_of(digest: u128) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = digest.to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

fn create_all(folders: &[&Path]) -> Result<()> {
    folders.iter().try_for_each(|path| create_dir(path).map_err(|error| open_error(path, error)))
}

fn absent_is_false(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads once into `buffer`. Returns the number of bytes, which may be fewer than the file has.
fn read_once(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Writes head and body with as few system calls as possible.
fn write_whole(file: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let mut parts = [IoSlice::new(frame.head()), IoSlice::new(frame.body())];
    let mut left = &mut parts[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

pub(super) fn create_file(path: &Path) -> io::Result<File> {
    private_file::open(OpenOptions::new().write(true).create_new(true), path)
}

#[cfg(test)]
mod tests {
    use larder_core::clock::Time;
    use larder_core::frame::{CodecId, Compression, Header};
    use larder_core::key::EncodedKey;
    use larder_core::place::Kind;

    use super::*;

    /// A writer that accepts a few bytes a call, and is interrupted in between.
    #[derive(Default)]
    struct Sips {
        taken: Vec<u8>,
        calls: usize,
        room: usize,
    }

    impl Write for Sips {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(2) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let sip = bytes.len().min(7).min(self.room - self.taken.len());
            if sip == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.extend_from_slice(&bytes[..sip]);
            Ok(sip)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame(payload: &'static [u8]) -> Frame {
        let header = Header {
            codec: CodecId::Raw,
            compression: Compression::None,
            kind: Kind::Bytes,
            schema: 0,
            shape: 0,
            created: Time::from_millis(0),
            deadline: Time::NEVER,
            stale_deadline: Time::NEVER,
            generation: 0,
            value_len: payload.len() as u64,
            load_cost: None,
        };
        Frame::new(&header, &EncodedKey::new(*b"key"), b"", Bytes::from_static(payload))
    }

    #[test]
    fn short_and_interrupted_writes_lose_no_bytes() {
        for payload in [&b""[..], b"p", b"a payload of some length"] {
            let mut sips = Sips { room: 1000, ..Sips::default() };
            write_whole(&mut sips, &frame(payload)).unwrap();
            assert_eq!(sips.taken, frame(payload).to_vec());
        }
    }

    #[test]
    fn full_disk_is_reported_as_full() {
        let mut sips = Sips { room: 50, ..Sips::default() };
        let error = write_whole(&mut sips, &frame(b"payload")).unwrap_err();
        assert_eq!(error_at(Path::new("tmp"), error).kind(), ErrorKind::Full);
    }

    #[test]
    fn unpublished_upload_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path(), false, Durability::Buffered).unwrap();
        let target = layout.path(1);
        fs::create_dir_all(target.join("in the way")).unwrap();
        let mut upload = layout.write_upload(&frame(b"payload")).unwrap();
        assert_eq!(fs::read_dir(&layout.tmp).unwrap().count(), 1);
        layout.publish(&mut upload, 1).unwrap_err();
        drop(upload);
        assert_eq!(fs::read_dir(&layout.tmp).unwrap().count(), 0);
    }
}
