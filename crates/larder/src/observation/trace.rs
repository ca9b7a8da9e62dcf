//! Records the look-ups of a cache in a file, for `larder simulate`. `docs/format.md` specifies its bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use larder_core::{Error, Result};
use larder_engine::observation::LookupTrace;
use parking_lot::Mutex;

const MAGIC: [u8; 8] = *b"LRDT\x01\0\0\0";
/// Magic and threshold.
const HEAD: usize = 16;
const RECORD: usize = 8;
/// Look-ups that are handed to the thread at once.
const BATCH: usize = 4096;
/// Batches that wait for the thread. More are dropped, rather than wait for a disk.
const BATCHES: usize = 64;
/// The most look-ups in a file: 32 MiB.
const RECORDS_MAX: u64 = 4 << 20;
/// How long a look-up may wait in memory.
const DELAY: Duration = Duration::from_secs(1);

/// A trace that is being recorded. Dropping it writes what is left.
pub(crate) struct TraceRecorder {
    shared: Arc<Shared>,
    batches: Option<SyncSender<Vec<u64>>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Look-ups with a higher hash are not recorded.
    threshold: AtomicU64,
    /// The last look-ups.
    latest: Mutex<Vec<u64>>,
    lost: AtomicU64,
}

impl TraceRecorder {
    /// Creates the file. Replaces a trace, and refuses any other file.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Self::with_room(path, RECORDS_MAX)
    }

    fn with_room(path: &Path, records_max: u64) -> Result<Self> {
        let unusable = |error: io::Error| Error::config("record_trace", path.display(), error);
        let trace = TraceFile::create(path, records_max).map_err(unusable)?;
        let threshold = AtomicU64::new(u64::MAX);
        let shared = Arc::new(Shared { threshold, latest: Mutex::default(), lost: AtomicU64::new(0) });
        let (batches, received) = sync_channel(BATCHES);
        let of_thread = Arc::clone(&shared);
        let write = move || write_all(trace, &of_thread, &received);
        let thread = std::thread::Builder::new().name("larder trace".to_owned()).spawn(write);
        Ok(Self { shared, batches: Some(batches), thread: Some(thread.map_err(unusable)?) })
    }
}

impl LookupTrace for TraceRecorder {
    fn record(&self, hash: u64) {
        if hash > self.shared.threshold.load(Ordering::Relaxed) {
            return;
        }
        let mut latest = self.shared.latest.lock();
        latest.push(hash);
        if latest.len() < BATCH {
            return;
        }
        let batch = std::mem::replace(&mut *latest, Vec::with_capacity(BATCH));
        // Under the lock, so that batches keep their order.
        if let Some(Err(TrySendError::Full(batch))) = self.batches.as_ref().map(|to| to.try_send(batch)) {
            self.shared.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for TraceRecorder {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
        let lost = self.shared.lost.load(Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(target: "larder", lost, "the trace lacks look-ups: the disk was slower than the cache");
        }
    }
}

/// Writes batches until the recorder ends. After a failure nothing more is recorded.
fn write_all(mut trace: TraceFile, shared: &Shared, batches: &Receiver<Vec<u64>>) {
    loop {
        let (batches, is_over) = next(shared, batches);
        let written = trace.append(batches.into_iter().flatten(), &shared.threshold);
        if let Err(error) = written.and_then(|()| trace.flush()) {
            tracing::warn!(target: "larder", %error, "the trace cannot be written, and ends here");
            shared.threshold.store(0, Ordering::Relaxed);
            return;
        }
        if is_over {
            return;
        }
    }
}

/// The next look-ups: a batch, or all of them if none comes for a while. And whether these are the last ones.
fn next(shared: &Shared, batches: &Receiver<Vec<u64>>) -> (Vec<Vec<u64>>, bool) {
    let waited = match batches.recv_timeout(DELAY) {
        Ok(batch) => return (vec![batch], false),
        Err(waited) => waited,
    };
    let mut latest = shared.latest.lock();
    let mut all: Vec<_> = batches.try_iter().collect();
    all.push(std::mem::take(&mut *latest));
    (all, waited == RecvTimeoutError::Disconnected)
}

/// The file of a trace.
struct TraceFile {
    path: PathBuf,
    file: BufWriter<File>,
    records: u64,
    records_max: u64,
}

impl TraceFile {
    fn create(path: &Path, records_max: u64) -> io::Result<Self> {
        let mut file =
            private(OpenOptions::new().read(true).write(true).create(true).truncate(false)).open(path)?;
        let mut start = Vec::new();
        (&mut file).take(MAGIC.len() as u64).read_to_end(&mut start)?;
        if !start.is_empty() && start != MAGIC {
            return Err(io::Error::other("a file that does not exist, or another trace"));
        }
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        let mut file = BufWriter::new(file);
        file.write_all(&head(u64::MAX))?;
        file.flush()?;
        Ok(Self { path: path.to_owned(), file, records: 0, records_max })
    }

    fn append(&mut self, hashes: impl IntoIterator<Item = u64>, threshold: &AtomicU64) -> io::Result<()> {
        for hash in hashes {
            if hash > threshold.load(Ordering::Relaxed) {
                continue;
            }
            if self.records >= self.records_max {
                self.halve(threshold)?;
                if hash > threshold.load(Ordering::Relaxed) {
                    continue;
                }
            }
            self.file.write_all(&hash.to_le_bytes())?;
            self.records += 1;
        }
        Ok(())
    }

    /// Halves the threshold, and drops the look-ups above it: those of half of the keys. What is left is what
    /// would have been recorded with this threshold from the beginning.
    fn halve(&mut self, threshold: &AtomicU64) -> io::Result<()> {
        let half = threshold.load(Ordering::Relaxed) / 2;
        threshold.store(half, Ordering::Relaxed);
        self.file.flush()?;
        let mut next = self.path.clone().into_os_string();
        next.push(".next");
        let mut to =
            BufWriter::new(private(OpenOptions::new().write(true).create(true).truncate(true)).open(&next)?);
        to.write_all(&head(half))?;
        let mut from = BufReader::new(File::open(&self.path)?);
        from.seek(SeekFrom::Start(HEAD as u64))?;
        self.records = 0;
        let mut record = [0; RECORD];
        while from.read_exact(&mut record).is_ok() {
            if u64::from_le_bytes(record) <= half {
                to.write_all(&record)?;
                self.records += 1;
            }
        }
        to.flush()?;
        std::fs::rename(&next, &self.path)?;
        self.file = to;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn head(threshold: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    head[MAGIC.len()..].copy_from_slice(&threshold.to_le_bytes());
    head
}

/// Only the owner may read the file.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

    fn recorded(path: &Path) -> (u64, Vec<u64>) {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[..MAGIC.len()], MAGIC);
        let words: Vec<_> = bytes[MAGIC.len()..]
            .chunks(RECORD)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        (words[0], words[1..].to_vec())
    }

    #[test]
    fn look_ups_are_recorded_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.trace");
        let recorder = TraceRecorder::create(&path).unwrap();
        let hashes: Vec<u64> = (0..3 * BATCH as u64 + 5).collect();
        hashes.iter().for_each(|hash| recorder.record(*hash));
        drop(recorder);
        assert_eq!(recorded(&path), (u64::MAX, hashes));
    }

    /// A longer trace keeps all look-ups of fewer keys.
    #[test]
    fn full_file_keeps_the_look_ups_of_half_of_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.trace");
        let keys = 1000;
        let all: Vec<u64> = (0..20 * keys).map(|n: u64| (n % keys).wrapping_mul(GOLDEN)).collect();
        let recorder = TraceRecorder::with_room(&path, 6000).unwrap();
        all.iter().for_each(|hash| recorder.record(*hash));
        drop(recorder);
        let (threshold, kept) = recorded(&path);
        assert_eq!(threshold, u64::MAX >> 2);
        let expected: Vec<u64> = all.into_iter().filter(|hash| *hash <= threshold).collect();
        assert!((4500..5500).contains(&kept.len()), "{}", kept.len());
        assert!(kept == expected);
    }

    #[test]
    fn other_files_are_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        std::fs::write(&path, "not a trace").unwrap();
        let error = TraceRecorder::create(&path).err().unwrap();
        assert!(error.to_string().contains("record_trace"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"not a trace");
        drop(TraceRecorder::create(&dir.path().join("a.trace")).unwrap());
        drop(TraceRecorder::create(&dir.path().join("a.trace")).unwrap());
        assert!(TraceRecorder::create(&dir.path().join("none/a.trace")).is_err());
    }
}
