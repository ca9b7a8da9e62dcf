//! One segment: a file of frames, one after another, written once.
//!
//! The file has no structure of its own; rows say where the frames are. Bytes
//! that no row names are waste, so a half-written tail harms nobody. A reader
//! holds the segment by `Arc`, so deleting the file under it is harmless.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder_core::Bytes;
use parking_lot::Mutex;
use sled::IVec;

use crate::durable_sync::{is_removed, sync_dir};

/// Read marks in a segment, whatever its size: two kilobytes of memory. Where
/// frames are smaller than a mark's range, one that was read vouches for its
/// neighbours as well, which costs a copy and loses nothing.
const MARKS: u64 = 16 << 10;

/// A file of frames.
pub(in crate::disk) struct Segment {
    /// Its number; later segments have higher ones.
    pub(in crate::disk) number: u64,
    path: PathBuf,
    file: ReadAt,
    len: AtomicU64,
    live: AtomicU64,
    sealed: AtomicBool,
    /// Whether the name is on the medium, where that is waited for.
    is_named: AtomicBool,
    /// Whether a frame did not reach the medium.
    is_doubtful: AtomicBool,
    marks: Box<[AtomicU64]>,
    mark_bytes: u64,
    rows: Mutex<Vec<IVec>>,
}

impl Segment {
    /// Makes the file of a new segment that will hold about `capacity` bytes.
    pub(in crate::disk) fn create(number: u64, path: PathBuf, capacity: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        Ok(Self::new(number, path, file, capacity))
    }

    /// Opens the file of an earlier segment, to be read only.
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
            is_named: AtomicBool::new(false),
            is_doubtful: AtomicBool::new(false),
            marks: (0..MARKS / 64).map(|_| AtomicU64::new(0)).collect(),
            mark_bytes: capacity.div_ceil(MARKS).max(1),
            rows: Mutex::new(Vec::new()),
        }
    }

    /// Where the file lies.
    pub(in crate::disk) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file was removed by others.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        self.file.is_removed()
    }

    /// Bytes that were written whole.
    pub(in crate::disk) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Bytes that rows name.
    pub(in crate::disk) fn live(&self) -> u64 {
        self.live.load(Ordering::SeqCst)
    }

    /// Whether nothing more will be written.
    pub(in crate::disk) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::SeqCst)
    }

    /// Ends the writing. A seal and a release that meet see one another, so
    /// whichever comes last finds the segment sealed and dead.
    pub(in crate::disk) fn seal(&self) {
        self.sealed.store(true, Ordering::SeqCst);
    }

    /// Writes a frame in two parts for `row`; returns where it begins. The
    /// caller writes one frame at a time, and seals the segment after a failure.
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

    /// Waits until what was written is on the medium, and the name of the file. A
    /// failure is told once by the system, and here from then on.
    pub(in crate::disk) fn sync(&self) -> io::Result<()> {
        if self.is_doubtful.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier frame did not reach the medium"));
        }
        self.file.sync().inspect_err(|_| self.is_doubtful.store(true, Ordering::Release))?;
        if !self.is_named.load(Ordering::Acquire) {
            self.path.parent().map_or(Ok(()), sync_dir)?;
            self.is_named.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Counts `bytes` that `row` names as live.
    pub(in crate::disk) fn adopt(&self, row: &[u8], bytes: u64) {
        self.rows.lock().push(IVec::from(row));
        self.live.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Counts nothing as named.
    pub(in crate::disk) fn forget_rows(&self) {
        self.rows.lock().clear();
        self.live.store(0, Ordering::SeqCst);
    }

    /// Counts `bytes` as named no more; whether the segment can go.
    pub(in crate::disk) fn release(&self, bytes: u64) -> bool {
        let less = |live: u64| Some(live.saturating_sub(bytes));
        let _ = self.live.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        self.is_sealed() && self.live() == 0
    }

    /// Takes the rows that were written here, in the order of writing. Some
    /// may name other places by now.
    pub(in crate::disk) fn take_rows(&self) -> Vec<IVec> {
        std::mem::take(&mut *self.rows.lock())
    }

    /// Gives rows back that were taken and not looked at.
    pub(in crate::disk) fn put_back(&self, rows: Vec<IVec>) {
        let mut held = self.rows.lock();
        let since = std::mem::replace(&mut *held, rows);
        held.extend(since);
    }

    /// Whether the range lies within what was written.
    pub(in crate::disk) fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len())
    }

    /// The bytes at `offset`; `None` where the file does not hold them.
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

    /// Remembers that the frame at `offset` was read.
    pub(in crate::disk) fn mark(&self, offset: u64) {
        if let Some((word, bit)) = self.mark_of(offset)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether the frame at `offset` was read since it was written here.
    pub(in crate::disk) fn was_read(&self, offset: u64) -> bool {
        self.mark_of(offset).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn mark_of(&self, offset: u64) -> Option<(&AtomicU64, u64)> {
        let index = (offset / self.mark_bytes).min(MARKS - 1);
        let word = self.marks.get((index / 64) as usize)?;
        Some((word, 1 << (index % 64)))
    }
}

/// A file that is read anywhere and written at its end.
#[cfg(unix)]
pub(in crate::disk) struct ReadAt(File);

#[cfg(unix)]
impl ReadAt {
    /// Takes a file that is open.
    pub(in crate::disk) fn new(file: File) -> Self {
        Self(file)
    }

    /// Fills the buffer from `offset` on.
    pub(in crate::disk) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, buffer, offset)
    }

    /// Whether the file has a name no more.
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

/// The same with a cursor: whoever moves it holds the lock, and a write
/// returns it to the end first.
#[cfg(not(unix))]
pub(in crate::disk) struct ReadAt(Mutex<File>);

#[cfg(not(unix))]
impl ReadAt {
    /// Takes a file that is open.
    pub(in crate::disk) fn new(file: File) -> Self {
        Self(Mutex::new(file))
    }

    /// Fills the buffer from `offset` on.
    pub(in crate::disk) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.0.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }

    /// Whether the file has a name no more.
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

/// One `writev` as a rule; more where the system takes less at a time.
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
