//! A segment: an append-only file of frames.
//!
//! The file has no structure of its own: rows point to the frames. Bytes without a row are unused,
//! so a half-written tail does no harm. A reader holds the segment by `Arc`, so its file can be
//! deleted meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder_core::Bytes;
use parking_lot::Mutex;
use sled::IVec;

use crate::durable_sync::{is_removed, sync_dir};
use crate::private_file;

/// Number of read bits in a segment of any size: two kilobytes of memory.
///
/// If frames are smaller than the range of a bit, one that was read also marks its neighbours. That
/// costs a needless copy, and loses nothing.
const READ_BITS: u64 = 16 << 10;

/// A file of frames.
pub(in crate::disk) struct Segment {
    /// Its number. Later segments have higher numbers.
    pub(in crate::disk) number: u64,
    path: PathBuf,
    file: ReadAt,
    len: AtomicU64,
    live: AtomicU64,
    sealed: AtomicBool,
    /// Whether the directory entry is durable, if the tier is synced.
    is_entry_durable: AtomicBool,
    /// Whether a sync failed, so that a frame may not be durable.
    has_failed_sync: AtomicBool,
    read_bits: Box<[AtomicU64]>,
    bytes_a_bit: u64,
    rows: Mutex<Vec<IVec>>,
}

impl Segment {
    /// Creates the file of a new segment for about `capacity` bytes.
    pub(in crate::disk) fn create(number: u64, path: PathBuf, capacity: u64) -> io::Result<Self> {
        let file = private_file::open(OpenOptions::new().read(true).write(true).create_new(true), &path)?;
        Ok(Self::new(number, path, file, capacity))
    }

    /// Opens the file of an existing segment for reading.
    pub(in crate::disk) fn open(number: u64, path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let len = file.metadata()?.len();
        let segment = Self::new(number, path, file, len);
        segment.len.store(len, Ordering::Release);
        segment.sealed.store(true, Ordering::Release);
        Ok(segment)
    }

    fn new(number: u64, path: PathBuf, file: File, capacity: u64) -> Self {
        Self {
            number,
            path,
            file: ReadAt::new(file),
            len: AtomicU64::new(0),
            live: AtomicU64::new(0),
            sealed: AtomicBool::new(false),
            is_entry_durable: AtomicBool::new(false),
            has_failed_sync: AtomicBool::new(false),
            read_bits: (0..READ_BITS / 64).map(|_| AtomicU64::new(0)).collect(),
            bytes_a_bit: capacity.div_ceil(READ_BITS).max(1),
            rows: Mutex::new(Vec::new()),
        }
    }

    /// The path of the file.
    pub(in crate::disk) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether another program removed the file.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        self.file.is_removed()
    }

    /// Bytes of all complete frames.
    pub(in crate::disk) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Bytes of frames that rows point to.
    pub(in crate::disk) fn live(&self) -> u64 {
        self.live.load(Ordering::SeqCst)
    }

    /// Returns whether no more frames will be written.
    pub(in crate::disk) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::SeqCst)
    }

    /// Ends writing.
    ///
    /// `seal` and `release` use sequentially consistent ordering. So of a concurrent pair, the
    /// later one sees a sealed segment without live bytes, and its caller deletes the segment.
    pub(in crate::disk) fn seal(&self) {
        self.sealed.store(true, Ordering::SeqCst);
    }

    /// Appends a frame of two parts for `row`. Returns its offset.
    ///
    /// The caller appends one frame at a time, and seals the segment after a failure.
    pub(in crate::disk) fn append(&self, row: &[u8], head: &[u8], body: &[u8]) -> io::Result<u64> {
        let offset = self.len();
        if let Err(error) = self.file.write_parts(head, body) {
            self.file.truncate(offset);
            return Err(error);
        }
        let bytes = (head.len() + body.len()) as u64;
        self.adopt(row, bytes);
        self.len.store(offset + bytes, Ordering::Release);
        Ok(offset)
    }

    /// Waits until all frames and the directory entry of the file are durable.
    ///
    /// The system reports a failed sync only once, so this segment fails every later call.
    pub(in crate::disk) fn sync(&self) -> io::Result<()> {
        if self.has_failed_sync.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier frame of the segment was not synced to disk"));
        }
        self.file.sync().inspect_err(|_| self.has_failed_sync.store(true, Ordering::Release))?;
        if !self.is_entry_durable.load(Ordering::Acquire) {
            self.path.parent().map_or(Ok(()), sync_dir)?;
            self.is_entry_durable.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Counts `bytes` as live, for `row`.
    pub(in crate::disk) fn adopt(&self, row: &[u8], bytes: u64) {
        self.rows.lock().push(IVec::from(row));
        self.live.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Resets the live bytes and the rows.
    pub(in crate::disk) fn forget_rows(&self) {
        self.rows.lock().clear();
        self.live.store(0, Ordering::SeqCst);
    }

    /// Subtracts `bytes` from the live bytes. Returns whether the segment can be deleted.
    pub(in crate::disk) fn release(&self, bytes: u64) -> bool {
        let less = |live: u64| Some(live.saturating_sub(bytes));
        let _ = self.live.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        self.is_sealed() && self.live() == 0
    }

    /// The rows that were written here, in order of writing.
    pub(in crate::disk) fn rows(&self) -> Vec<IVec> {
        self.rows.lock().clone()
    }

    /// Sets the rows and the live bytes to those of a snapshot.
    pub(in crate::disk) fn restore(&self, rows: Vec<IVec>, live: u64) {
        *self.rows.lock() = rows;
        self.live.store(live, Ordering::SeqCst);
    }

    /// Takes the rows that were written here, in order of writing. Some of them may point to other
    /// segments by now.
    pub(in crate::disk) fn take_rows(&self) -> Vec<IVec> {
        std::mem::take(&mut *self.rows.lock())
    }

    /// Puts back rows that were taken but not processed.
    pub(in crate::disk) fn put_back(&self, rows: Vec<IVec>) {
        let mut held = self.rows.lock();
        let since = std::mem::replace(&mut *held, rows);
        held.extend(since);
    }

    /// Returns whether the range lies within the complete frames.
    pub(in crate::disk) fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len())
    }

    /// Reads `len` bytes at `offset`. `None` if the file is shorter.
    pub(in crate::disk) fn read(&self, offset: u64, len: u64) -> io::Result<Option<Bytes>> {
        let Ok(size) = usize::try_from(len) else { return Ok(None) };
        if !self.holds(offset, len) {
            return Ok(None);
        }
        let mut buffer = vec![0; size];
        match self.file.read_exact_at(&mut buffer, offset) {
            Ok(()) => Ok(Some(buffer.into())),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Marks the frame at `offset` as read.
    pub(in crate::disk) fn mark_read(&self, offset: u64) {
        if let Some((word, bit)) = self.read_bit(offset)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Returns whether the frame at `offset` was read since it was written here.
    pub(in crate::disk) fn was_read(&self, offset: u64) -> bool {
        self.read_bit(offset).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn read_bit(&self, offset: u64) -> Option<(&AtomicU64, u64)> {
        let index = (offset / self.bytes_a_bit).min(READ_BITS - 1);
        let word = self.read_bits.get((index / 64) as usize)?;
        Some((word, 1 << (index % 64)))
    }
}

/// A file that is read at any offset and written at its end.
#[cfg(unix)]
pub(in crate::disk) struct ReadAt(File);

#[cfg(unix)]
impl ReadAt {
    /// Wraps an open file.
    pub(in crate::disk) fn new(file: File) -> Self {
        Self(file)
    }

    /// Fills the buffer with the bytes at `offset`.
    pub(in crate::disk) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, buffer, offset)
    }

    /// Returns whether the file was unlinked.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        is_removed(&self.0)
    }

    fn write_parts(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        write_parts(&self.0, head, body)
    }

    fn truncate(&self, len: u64) {
        let _ = self.0.set_len(len);
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A file that is read at any offset and written at its end. The position is moved under the lock,
/// and a write first moves it to the end.
#[cfg(not(unix))]
pub(in crate::disk) struct ReadAt(Mutex<File>);

#[cfg(not(unix))]
impl ReadAt {
    /// Wraps an open file.
    pub(in crate::disk) fn new(file: File) -> Self {
        Self(Mutex::new(file))
    }

    /// Fills the buffer with the bytes at `offset`.
    pub(in crate::disk) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.0.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }

    /// Returns whether the file was unlinked.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        is_removed(&self.0.lock())
    }

    fn write_parts(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        use std::io::{Seek, SeekFrom};
        let mut file = self.0.lock();
        file.seek(SeekFrom::End(0))?;
        write_parts(&file, head, body)
    }

    fn truncate(&self, len: u64) {
        let _ = self.0.lock().set_len(len);
    }

    fn sync(&self) -> io::Result<()> {
        self.0.lock().sync_data()
    }
}

/// Writes two parts with one `writev`, or more if the system accepts fewer bytes at a time.
fn write_parts(mut file: &File, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut parts = [IoSlice::new(head), IoSlice::new(body)];
    let mut rest = &mut parts[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
