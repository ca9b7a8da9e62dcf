//! The disk tier: an LSM tree for small frames, append-only segments for large ones.
//!
//! A small frame is the value of a row. A large frame is appended to a segment file, and its row points
//! to it. A row is written to the journal, then to the memtable. A memtable that has grown is frozen, and its
//! rows are written to a sorted run. Then its journal file is deleted. The budget is kept by evicting the
//! oldest sorted runs and segments. Entries of them that were read are copied once more.
//!
//! On disk, the directory of the sorted runs is `packs`. Earlier builds had sled databases in place of
//! memtables; an open moves their rows to a sorted run.
//!
//! | file | contents |
//! |---|---|
//! | `layout` | names of files and directories |
//! | `row` | the key and the value of a row |
//! | `table/memtable` | the rows that changed last, in memory |
//! | `table/tables` | all rows: the memtables and the sorted runs |
//! | `table/old_databases` | reads the sled databases of earlier builds |
//! | `run/sorted_run`, `run/block`, `run/writer` | a sorted run, a block of its rows, and its writer |
//! | `run/index`, `run/filter`, `run/bitmap` | the index, Bloom filter and bitmaps of a run, in memory |
//! | `run/merge` | merges the rows of memtables and sorted runs in key order |
//! | `counts` | counts the valid rows of a memtable or sorted run |
//! | `segment/file`, `segment/files` | one segment; all segments |
//! | `store` | rows and frames together: get, put, remove |
//! | `heads` | reads heads of frames for a scan |
//! | `check` | verifies every frame |
//! | `closing` | closes the tier, and writes the memtable to a sorted run before |
//! | `copy` | copies a directory, so that it can be read without a change |
//! | `journal/record`, `journal/writer` | one row change; the write-ahead log of those in no sorted run |
//! | `journal/replay` | replays the logs of an earlier process |
//! | `recovery` | opens an existing directory |
//! | `snapshot` | what a clean close writes down for the next open |
//! | `reopen` | opens the directory again after a failure |
//! | `compaction/picker` | chooses what to freeze, compact or evict |
//! | `compaction/driver` | freezes memtables, installs sorted runs, keeps the budget |
//! | `compaction/job` | writes a sorted run, a few rows with each put |
//! | `eviction` | evicts a segment, or all entries |
//! | `relief` | makes room on a full disk |
//! | `loss` | detects a removed directory or file, and starts empty |
//!
//! # Invariants
//! - Locks are taken in this order: `compaction`, `state`, a stripe, the active
//!   segment, the table of segments, the journal. A holder of `state` never waits for `compaction`.
//! - `state` is locked for writing only for a moment, under `compaction`, to swap memtables and sorted
//!   runs.
//! - Memory: 2 KiB a segment, the row key of each large frame, and two memtables of at most a sixteenth of
//!   the budget, 32 MiB at most. A sorted run takes two bytes a row, and one row key for every 4 KiB.

mod compaction;
mod journal;
mod run;
mod segment;

mod check;
mod closing;
mod copy;
mod counts;
mod heads;
mod layout;
mod loss;
mod recovery;
mod reopen;
mod row;
mod snapshot;
mod space;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BlockingTier, BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Durability, Error, ErrorKind, Result};
use parking_lot::{Mutex, RwLock};

pub use self::copy::{copy_to_read, copy_while_open};

use self::compaction::job::CompactionJob;
use self::layout::Layout;
use self::recovery::OpenContext;
use self::row::RowKey;
use self::store::Store;
use crate::boot_marker::Marker;
use crate::dir_handle::DirHandle;
use crate::disk_budget::{BudgetShare, RateLimit};

/// Frames of at least this many bytes go to segments by default.
///
/// Measured with all frames in sled against all frames in segments, with 8000 entries and at most
/// 48 MiB; medians of three runs. The columns of times show wall-clock µs of a put / a random get.
/// The columns of space show disk usage by `du` after five overwrites, divided by the live bytes.
///
/// sled's cache holds 64 MiB in the first column of times and 8 MiB in the second. The columns for
/// space and segments were measured with 8 MiB and a budget of 128 MiB. At 8 and 256 KiB half of
/// the gets from sled were misses, which are cheap: a database had been dropped to keep the budget.
///
/// | frame | sled, 64 MiB cache | sled, 8 MiB cache | segments | space sled | space segments |
/// |---|---|---|---|---|---|
/// | 1 KiB | 7.2 / 0.7 | 8.2 / 1.4 | 5.5 / 1.7 | 2.6 | 2.3 |
/// | 2 KiB | 10 / 0.8 | 8.5 / 1.6 | 5.7 / 1.9 | 2.3 | 1.6 |
/// | 4 KiB | 14 / 0.8 | 16 / 5.4 | 7.7 / 2.3 | 2.3 | 1.2 |
/// | 8 KiB | 15 / 1.5 | 21 / 1.9 | 10 / 2.8 | 2.1 | 1.2 |
/// | 16 KiB | 140 / 0.7 | 99 / 8.9 | 14 / 3.8 | 1.8 | 1.1 |
/// | 64 KiB | 249 / 0.4 | 101 / 12 | 28 / 7.2 | 1.9 | 1.05 |
/// | 256 KiB | 1050 / 0.4 | 563 / 22 | 79 / 15 | 2.4 | 1.2 |
/// | 1 MiB | 1606 / 0.4 | 3020 / 47 | 249 / 46 | 2.0 | 1.04 |
///
/// Below 4 KiB, a get from sled is cheaper, by 0.3 to 1.1 µs. Above, it is cheaper only while sled's
/// cache holds its page. A put into sled is dearer at every size, by half from 2 KiB on.
///
/// The cost of writing decides: compaction writes a frame again, while a large frame is written to a
/// segment once. With memtables in place of sled, 800,000 puts of distinct keys into 512 MiB took, with a
/// crossover of 1 and of 4 KiB: 5.3 and 5.5 µs a put of 1,000 bytes, 6.5 and 7.1 of 2,000, 8.0 and 9.6 of
/// 3,500. A row is one system call in place of two, and a hit in a memtable none: a hit of 1 KiB among
/// 10,000 took 2.2 and 1.3 times as long as in sled. Values of 1,000 bytes fill 79 and 85 % of the budget.
pub const CROSSOVER_BYTES: u64 = 2 << 10;

const FRAME_BYTES_MAX: u64 = 1 << 30;

/// Above this number of journal files, the memtable is written to a sorted run as well.
const JOURNALS_MAX: usize = 8;

/// Options of a [`DiskTier`].
#[derive(Debug)]
pub struct DiskOptions {
    /// The directory. Only this tier may use it while it is open: the caller keeps other processes
    /// and tiers out. Created if it is missing.
    pub dir: PathBuf,
    /// The disk budget, which counts and bounds the disk usage of the tier.
    pub budget: BudgetShare,
    /// Frames of at least this many bytes go to segments. [`CROSSOVER_BYTES`] is a good choice.
    pub crossover: u64,
    /// Which acknowledged writes a crash may lose.
    pub durability: Durability,
}

/// A tier on disk for one process: an LSM tree for small frames, append-only segments for large ones.
///
/// Blocking: each future does its work in the first poll. A `put` keeps the budget, and may take
/// long when it has to make room. Opening reads the journal, and after anything but a clean close every row.
///
/// Writes are handed to the operating system at once. [`Tier::close`] also waits until they are durable, and
/// reports failures. After a crash of the machine, entries survive only
/// if the tier was closed before, or with [`Durability::Synced`]. The directory can be opened again
/// at once after either.
pub struct DiskTier {
    layout: Layout,
    dir_handle: DirHandle,
    marker: Arc<Marker>,
    budget: Arc<BudgetShare>,
    crossover: u64,
    evictions: AtomicU64,
    compaction: RwLock<Option<CompactionJob>>,
    /// Rows that puts have not processed yet for the compaction in progress.
    rows_due: AtomicU64,
    /// `None` after the tier is closed, and while it cannot be opened again.
    state: RwLock<Option<Store>>,
    closed: AtomicBool,
    needs_reopen: AtomicBool,
    /// Whether a sorted run is in place beside a source of it. No other is begun until the tier is opened again.
    has_half_replaced: AtomicBool,
    /// No entry expires before this time, in milliseconds since the Unix epoch.
    expires_at: AtomicU64,
    expiry_search: RateLimit,
    last_reopen: Mutex<Option<Instant>>,
}

impl DiskTier {
    /// Opens the directory, or creates it.
    ///
    /// Data that cannot be read is dropped and logged, and its entries are absent.
    ///
    /// # Errors
    /// Fails when the directory cannot be opened for another reason. The message names the path.
    pub fn open(options: DiskOptions) -> Result<Self> {
        Self::open_now(options).map_err(|error| error.in_tier(TierKind::Disk).during("open"))
    }

    fn open_now(options: DiskOptions) -> Result<Self> {
        let layout = Layout::prepare(options.dir)?;
        let budget = Arc::new(options.budget);
        let (marker, last_shutdown) = Marker::find(layout.dir(), options.durability);
        let marker = Arc::new(marker);
        let context = OpenContext { layout: &layout, budget: &budget, marker: &marker };
        let store = recovery::open(&context, last_shutdown)?;
        let tier = Self {
            dir_handle: DirHandle::new(layout.dir()),
            layout,
            marker,
            budget,
            crossover: options.crossover,
            evictions: AtomicU64::new(0),
            compaction: RwLock::new(None),
            rows_due: AtomicU64::new(0),
            state: RwLock::new(Some(store)),
            closed: AtomicBool::new(false),
            needs_reopen: AtomicBool::new(false),
            has_half_replaced: AtomicBool::new(false),
            expires_at: AtomicU64::new(0),
            expiry_search: RateLimit::default(),
            last_reopen: Mutex::new(None),
        };
        tier.fit_budget();
        tier.tidy_up(&mut tier.compaction.write());
        Ok(tier)
    }

    /// Moves the rows of an earlier build's databases to a sorted run, and those of many journal files. If that
    /// fails, the next open reads the same again.
    fn tidy_up(&self, compaction: &mut Option<CompactionJob>) {
        let tidied = self.layout.databases().and_then(|databases| {
            let is_tidy = self.with_store(|store| Ok(store.journal.files() <= JOURNALS_MAX))?;
            if databases.is_empty() && is_tidy {
                return Ok(());
            }
            self.persist(compaction)?;
            self.layout.discard_databases(u64::MAX)
        });
        if let Err(error) = tidied {
            tracing::warn!(target: "larder", %error, "cannot write what was found to a sorted run");
        }
    }

    fn get_now(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        self.with_store(|store| store.get(&RowKey::of(key)))
    }

    fn put_now(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let bytes = frame.len() as u64;
        let bytes_max = self.frame_bytes_max();
        if bytes > bytes_max {
            let message = format!("the frame has {bytes} bytes; the tier allows {bytes_max}");
            return self.with_store(|_| Err(Error::new(ErrorKind::TooLarge, message)));
        }
        self.check_for_loss_if_due()?;
        if self.needs_reopen.load(Ordering::Acquire) {
            self.reopen_if_due();
        }
        self.note_deadline(frame);
        self.fit_budget_if_due(bytes);
        let is_full = self.retry_when_full(|| self.put_once(key, frame))?;
        self.advance_compaction();
        self.layout.deferred().release_for(frame.len() as u64);
        if is_full {
            self.enforce_budget_if_free();
        }
        Ok(())
    }

    /// Returns whether the memtable is large now.
    fn put_once(&self, key: &EncodedKey, frame: &Frame) -> Result<bool> {
        let bytes = frame.len() as u64;
        self.check_memtable()?;
        let reserved = self.budget.reserve(bytes);
        if self.budget.excess(0) > 0 {
            self.make_room(bytes)?;
            self.budget.report_shortage()?;
        }
        let put = self.with_store(|store| {
            store.put(&RowKey::of(key), frame, self.crossover)?;
            Ok(self.is_memtable_full(store))
        });
        drop(reserved);
        put
    }

    fn remove_now(&self, key: &EncodedKey) -> Result<bool> {
        let removed = self.with_store(|store| store.remove(&RowKey::of(key)))?;
        if removed {
            self.freeze_if_due();
        }
        Ok(removed)
    }

    fn flush_now(&self) -> Result<()> {
        self.check_for_loss()?;
        if self.marker.is_withdrawn() {
            return self.persist(&mut self.compaction.write());
        }
        let _shared = self.compaction.read();
        self.with_store(|store| store.drop_journals(0))
    }

    fn scan_now(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        let _alone = self.compaction.write();
        self.with_store(|store| store.scan(visit))
    }

    fn context(&self) -> OpenContext<'_> {
        OpenContext { layout: &self.layout, budget: &self.budget, marker: &self.marker }
    }

    /// Calls `call` with the store. Fails if the tier is closed or cannot be opened again.
    fn with_store<T>(&self, call: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
        match self.state.read().as_ref() {
            Some(store) => call(store).inspect_err(|error| self.observe(error)),
            None => Err(self.without_store()),
        }
    }

    #[cold]
    fn without_store(&self) -> Error {
        if self.closed.load(Ordering::Acquire) {
            Error::new(ErrorKind::Closed, "the tier is closed")
        } else {
            not_opened_again()
        }
    }

    fn frame_bytes_max(&self) -> u64 {
        (self.budget.limit() / 4).min(FRAME_BYTES_MAX)
    }
}

impl Drop for DiskTier {
    fn drop(&mut self) {
        if let Err(error) = self.close_now(!self.marker.knows_boot()) {
            tracing::warn!(target: "larder", %error, "the disk tier was dropped and could not write all buffered changes");
        }
    }
}

impl fmt::Debug for DiskTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskTier").field("layout", &self.layout).field("usage", &self.usage()).finish()
    }
}

fn not_opened_again() -> Error {
    Error::new(ErrorKind::Unavailable, "the tier failed and could not be reopened")
}

/// Runs `call` in the first poll, and adds the tier and the operation to an error.
fn work<'a, T: Send + 'a>(
    operation: &'static str,
    call: impl FnOnce() -> Result<T> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move { told(operation, call()) })
}

/// Adds the tier and the operation to an error.
fn told<T>(operation: &'static str, result: Result<T>) -> Result<T> {
    result.map_err(|error| error.in_tier(TierKind::Disk).during(operation))
}

impl BlockingTier for DiskTier {
    fn get_blocking(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        told("get", self.get_now(key))
    }

    fn put_blocking(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        told("put", self.put_now(key, frame))
    }

    fn remove_blocking(&self, key: &EncodedKey) -> Result<bool> {
        told("remove", self.remove_now(key))
    }
}

impl Tier for DiskTier {
    fn kind(&self) -> TierKind {
        TierKind::Disk
    }

    fn capability(&self) -> Capability {
        Capability {
            stores: true,
            persistent: true,
            shared: false,
            blocking: true,
            frame_bytes_max: self.frame_bytes_max(),
        }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        work("get", move || self.get_now(key))
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        work("put", move || self.put_now(key, frame))
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        work("remove", move || self.remove_now(key))
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        work("contains", move || self.with_store(|store| store.contains(&RowKey::of(key))))
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        work("clear", || self.start_empty())
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        work("scan", move || self.scan_now(visit))
    }

    /// True for every key while the tier has no entry at all.
    fn lacks(&self, _: &EncodedKey) -> bool {
        let state = self.state.try_read();
        state.is_some_and(|state| state.as_ref().is_some_and(|store| store.tables.live() == 0))
    }

    fn usage(&self) -> Usage {
        let entries = self.with_store(|store| Ok(store.tables.live()));
        entries.map_or_else(
            |_| Usage::default(),
            |entries| Usage {
                entries,
                bytes: self.budget.used(),
                evictions: self.evictions.load(Ordering::Relaxed),
            },
        )
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        work("flush", || self.flush_now())
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        work("close", || self.close_now(true))
    }

    fn blocking(&self) -> Option<&dyn BlockingTier> {
        Some(self)
    }
}
