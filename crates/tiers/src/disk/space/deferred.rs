//! Releases deleted files and old memtables a part at a time.
//!
//! To delete a file of 32 MiB takes 7 ms, and to free a memtable of that size 20 ms: the put that happens to do it
//! would take that long. So the file is deleted at once by its name, and kept open. The puts that follow cut
//! it and free the memtable.

use std::any::Any;
use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder_core::Result;
use parking_lot::Mutex;

use crate::disk::layout::remove_file;
use crate::disk::table::memtable::Memtable;

/// Bytes of a file that are released at once.
const STEP_BYTES: u64 = 512 << 10;

/// Bytes that are released for each byte that is written, so that what is deleted never grows.
const PER_BYTE: u64 = 2;

/// What is deleted, and still takes space or memory.
#[derive(Debug, Default)]
pub(in crate::disk) struct Deferred {
    queue: Mutex<VecDeque<Deleted>>,
    /// Whether the queue may have anything; readable without the lock.
    is_any: AtomicBool,
    /// Whether everything is released at once.
    is_off: AtomicBool,
    /// Bytes to release, less than a step.
    due: AtomicU64,
}

enum Deleted {
    File {
        file: File,
        len: u64,
        /// Its readers: it is not cut before they are gone.
        readers: Option<Arc<dyn Any + Send + Sync>>,
    },
    Rows(Memtable),
}

impl std::fmt::Debug for Deleted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File { .. } => "File",
            Self::Rows(_) => "Rows",
        })
    }
}

impl Deferred {
    /// Deletes a file by its name. `readers` is what those hold who may still read it.
    pub(in crate::disk) fn delete(
        &self,
        path: &Path,
        readers: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<()> {
        let file = open(path);
        remove_file(path)?;
        self.add_file(file, readers);
        Ok(())
    }

    /// Takes a file whose name is gone. `file` is from [`open`].
    pub(in crate::disk) fn add_file(&self, file: Option<File>, readers: Option<Arc<dyn Any + Send + Sync>>) {
        if let Some(file) = file
            && let Ok(meta) = file.metadata()
        {
            self.add(Deleted::File { file, len: meta.len(), readers });
        }
    }

    /// Takes a memtable whose rows are in a sorted run.
    pub(in crate::disk) fn add_rows(&self, memtable: Memtable) {
        self.add(Deleted::Rows(memtable));
    }

    fn add(&self, deleted: Deleted) {
        if self.is_off.load(Ordering::Acquire) {
            return;
        }
        let mut queue = self.queue.lock();
        queue.push_back(deleted);
        self.is_any.store(true, Ordering::Release);
    }

    /// Releases parts, after a put has written as many bytes. A part takes about 0.2 ms. Costs an atomic load if
    /// nothing is left.
    pub(in crate::disk) fn release_for(&self, written: u64) {
        if !self.is_any.load(Ordering::Acquire) {
            return;
        }
        let more = written.saturating_mul(PER_BYTE);
        let due = self.due.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if due >= STEP_BYTES {
            self.due.store(due % STEP_BYTES, Ordering::Relaxed);
            (0..due / STEP_BYTES).for_each(|_| self.step());
        }
    }

    fn step(&self) {
        // The part is released without the lock.
        let Some(mut deleted) = self.queue.try_lock().and_then(|mut queue| queue.pop_front()) else { return };
        let is_over = match &mut deleted {
            Deleted::File { readers: Some(readers), .. } if Arc::strong_count(readers) > 1 => false,
            Deleted::File { file, len, .. } => {
                *len = len.saturating_sub(STEP_BYTES);
                *len == 0 || file.set_len(*len).is_err()
            }
            Deleted::Rows(memtable) => !memtable.release_some(),
        };
        let mut queue = self.queue.lock();
        match deleted {
            _ if is_over => {}
            Deleted::File { readers: Some(_), .. } => queue.push_back(deleted),
            _ => queue.push_front(deleted),
        }
        self.is_any.store(!queue.is_empty(), Ordering::Release);
    }

    /// Runs `work`, which needs the space of what it deletes. What was deleted before is released first.
    pub(in crate::disk) fn at_once<T>(&self, work: impl FnOnce() -> T) -> T {
        let was_off = self.is_off.swap(true, Ordering::AcqRel);
        self.finish();
        let done = work();
        self.is_off.store(was_off, Ordering::Release);
        done
    }

    /// Sets whether everything is released at once, because the disk has less room than the budget.
    pub(in crate::disk) fn set_off(&self, is_off: bool) {
        if self.is_off.swap(is_off, Ordering::AcqRel) != is_off && is_off {
            self.finish();
        }
    }

    /// Releases everything.
    pub(in crate::disk) fn finish(&self) {
        let mut queue = self.queue.lock();
        self.is_any.store(false, Ordering::Release);
        let deleted = std::mem::take(&mut *queue);
        drop(queue);
        drop(deleted);
    }

    /// Bytes that deleted files still take.
    pub(in crate::disk) fn bytes(&self) -> u64 {
        if !self.is_any.load(Ordering::Acquire) {
            return 0;
        }
        let bytes = |deleted: &Deleted| if let Deleted::File { len, .. } = deleted { *len } else { 0 };
        self.queue.lock().iter().map(bytes).sum()
    }
}

/// Opens a file that is to be deleted, so that it can be cut afterwards. `None` where it is deleted at once: an
/// open file keeps its name on Windows.
pub(in crate::disk) fn open(path: &Path) -> Option<File> {
    if cfg!(unix) { File::options().write(true).open(path).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_file_is_cut_once_its_readers_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deleted");
        std::fs::write(&path, vec![7; 3 * STEP_BYTES as usize]).unwrap();
        let (reading, deferred) = (File::open(&path).unwrap(), Deferred::default());
        let reader: Arc<dyn Any + Send + Sync> = Arc::new(());
        deferred.delete(&path, Some(Arc::clone(&reader))).unwrap();
        assert!(!path.exists());
        deferred.step();
        assert_eq!(reading.metadata().unwrap().len(), 3 * STEP_BYTES, "it is still read");
        drop(reader);
        deferred.step();
        assert_eq!(reading.metadata().unwrap().len(), if cfg!(unix) { 2 } else { 3 } * STEP_BYTES);
        (0..3).for_each(|_| deferred.step());
        assert!(deferred.queue.lock().is_empty() && !deferred.is_any.load(Ordering::Acquire));
    }

    #[test]
    fn memtable_is_freed_shard_by_shard() {
        let (memtable, deferred) = (Memtable::new(1, 1), Deferred::default());
        for row in 0..1000_u32 {
            memtable.insert(&row.to_be_bytes(), sled::IVec::from(&[1]));
        }
        deferred.add_rows(memtable);
        let mut steps = 0;
        while deferred.is_any.load(Ordering::Acquire) {
            deferred.step();
            steps += 1;
        }
        assert!(steps > 1, "{steps}");
    }
}
