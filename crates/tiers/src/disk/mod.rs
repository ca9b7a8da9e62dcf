//! sled, with segments beside it.
//!
//! A small frame is a row of an embedded database. A large one goes to the
//! end of a segment file, and its row says where. Both halves give space back
//! by the piece: a database that has grown is written anew as a pack, sorted and
//! without gaps, and deleted; of packs and segments the oldest go, and what was
//! read of them is written once more.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | names of files and directories |
//! | `row` | the key and the value of a row |
//! | `generation` | one sled database |
//! | `block`, `pack`, `draft` | rows in a file: a few of them, all, while it is written |
//! | `contents`, `filter`, `bits` | what is known in memory of the rows of a pack |
//! | `databases`, `merge`, `counts` | all places that have rows: one row, all rows, how many |
//! | `segment`, `segments` | one file of frames; all of them |
//! | `store` | rows and frames together: get, put, remove |
//! | `heads` | reading heads of frames for a scan |
//! | `record`, `journal`, `replay` | what became of rows since the last flush |
//! | `recovery` | opening what is there |
//! | `revival` | opening it again after a failure |
//! | `upkeep`, `eviction` | what to drop when; dropping it |
//! | `relief` | making room on a medium that is full |
//! | `loss` | beginning anew where the directory was removed |
//! | `repack`, `reaper` | packing a database with each put; deleting it afterwards |
//!
//! # Invariants
//! - Locks are taken in this order: `upkeep`, `state`, the checkpoint, a stripe,
//!   the active segment, the table of segments, the journal. Who holds `state` never waits for `upkeep`.
//! - `state` is written to only for a moment, under `upkeep`: to swap databases and packs.
//! - Memory: 2 KiB a segment, a row's key for each large frame, sled's caches; for
//!   rows in packs two bytes each, and their first keys every 4 KiB.
//! - Two empty databases take 1 to 2 MiB; a budget below 8 MiB holds little else.

mod compaction;
mod db;
mod journal;
mod run;
mod segment;

mod counts;
mod eviction;
mod heads;
mod layout;
mod loss;
mod recovery;
mod relief;
mod reopen;
mod row;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Durability, Error, ErrorKind, Result};
use parking_lot::{Mutex, RwLock};

use self::compaction::job::CompactionJob;
use self::compaction::reaper::Reaper;
use self::layout::Layout;
use self::recovery::Ground;
use self::row::RowKey;
use self::store::Store;
use crate::anchor::Anchor;
use crate::boot_marker::Marker;
use crate::disk_budget::{Pause, Share};
use crate::durable_sync::sync_tree;

/// Frames of at least this many bytes go to segments by default.
///
/// Measured with everything in sled against everything in segments, 8000
/// entries and 48 MiB at most, medians of three: wall-clock µs of a put / a
/// random get, and what `du` says after five overwrites over the live bytes.
/// sled's cache holds 64 MiB in the first column of numbers, 8 MiB in the
/// second; space and segments are those of the second, a budget of 128 MiB. At
/// 8 and 256 KiB half of the gets from sled missed there, and misses are
/// cheap: a database had been dropped to keep the budget.
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
/// A get from sled is the cheaper one below 4 KiB, by 0.3 to 1.1 µs, and beyond
/// that only as long as sled's cache holds its page. A put is the dearer one
/// throughout, from 2 KiB on by half. What decides between the two is writing:
/// what is written has to be written again where it is packed, and a large frame is
/// written once where it goes to a segment. Below 1 KiB rows take a third of what
/// they did as packs, and pointers would be an eighth of the budget by themselves.
pub const CROSSOVER_BYTES: u64 = 1 << 10;

const FRAME_BYTES_MAX: u64 = 1 << 30;

/// What a database and its buffers write later than it is counted, about.
const UNCOUNTED_BYTES: u64 = 2 << 20;

/// How to open a [`DiskTier`].
#[derive(Debug)]
pub struct DiskOptions {
    /// The directory. It is the tier's alone while the tier is open: the
    /// caller keeps other processes and other tiers out. Made if missing.
    pub dir: PathBuf,
    /// What the tier takes on disk is counted here, and bounded by it.
    pub space: Share,
    /// Frames of at least this many bytes go to segments;
    /// [`CROSSOVER_BYTES`] is a good choice.
    pub crossover: u64,
    /// What a crash may take of what was acknowledged.
    pub durability: Durability,
}

/// A tier of one process on a disk: an embedded database for small frames,
/// append-only segments for large ones.
///
/// It blocks: each future does its work in the first poll. The budget is kept
/// in `put`, which may take long when it has to make room. Opening reads every row.
///
/// Dropping it hands what is buffered to the operating system. [`Tier::close`]
/// waits for the medium too, and says how it went: only then are the entries
/// there after the machine went down, but for [`Durability::Synced`]. The
/// directory can be opened again at once after either.
pub struct DiskTier {
    layout: Layout,
    anchor: Anchor,
    marker: Arc<Marker>,
    space: Arc<Share>,
    crossover: u64,
    cache_bytes: u64,
    evictions: AtomicU64,
    upkeep: RwLock<Option<CompactionJob>>,
    reaper: Reaper,
    /// Rows that puts have still to look at, for the pack under way.
    owed: AtomicU64,
    /// `None` when closed, or while it cannot be opened again.
    state: RwLock<Option<Store>>,
    closed: AtomicBool,
    suspect: AtomicBool,
    /// No entry is expired before, in milliseconds since the Unix epoch.
    expires_at: AtomicU64,
    looked_for_expired: Pause,
    revived: Mutex<Option<Instant>>,
}

impl DiskTier {
    /// Opens the directory, or makes it.
    ///
    /// What cannot be read is given up, and logged: a torn database is set
    /// aside until the next open, and its entries are absent. What cannot be
    /// opened for another reason is an error that names the path.
    pub fn open(options: DiskOptions) -> Result<Self> {
        Self::open_now(options).map_err(|error| error.in_tier(TierKind::Disk).during("open"))
    }

    fn open_now(options: DiskOptions) -> Result<Self> {
        let layout = Layout::prepare(options.dir)?;
        let space = Arc::new(options.space);
        let cache_bytes = (space.limit() / 16).clamp(4 << 20, 64 << 20);
        let (marker, past) = Marker::find(layout.dir(), options.durability);
        let marker = Arc::new(marker);
        let ground = Ground { layout: &layout, space: &space, cache_bytes, marker: &marker };
        let store = recovery::open(&ground, past)?;
        space.keep_free(UNCOUNTED_BYTES);
        let reaper = Reaper::new(layout.clone(), Arc::clone(&space));
        let tier = Self {
            anchor: Anchor::new(layout.dir()),
            layout,
            marker,
            space,
            crossover: options.crossover,
            cache_bytes,
            evictions: AtomicU64::new(0),
            upkeep: RwLock::new(None),
            reaper,
            owed: AtomicU64::new(0),
            state: RwLock::new(Some(store)),
            closed: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            expires_at: AtomicU64::new(0),
            looked_for_expired: Pause::default(),
            revived: Mutex::new(None),
        };
        tier.space.fit(tier.available());
        Ok(tier)
    }

    fn get_now(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        self.with_store(|store| store.get(&RowKey::of(key)))
    }

    fn put_now(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let bytes = frame.len() as u64;
        let bytes_max = self.frame_bytes_max();
        if bytes > bytes_max {
            let message = format!("a frame of {bytes} bytes; at most {bytes_max} are taken");
            return self.with_store(|_| Err(Error::new(ErrorKind::TooLarge, message)));
        }
        self.look_for_loss_now_and_then()?;
        if self.suspect.load(Ordering::Acquire) {
            self.revive();
        }
        self.note_deadline(frame);
        self.look_at_medium(bytes);
        self.relieved(|| self.put_once(key, frame))?;
        self.tend_pack();
        self.tend_journal();
        Ok(())
    }

    fn put_once(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let bytes = frame.len() as u64;
        let reserved = self.space.reserve(bytes);
        if self.space.excess(0) > 0 {
            self.make_room(bytes)?;
            self.space.tell_shortage()?;
        }
        self.with_store(|store| store.put(&RowKey::of(key), frame, self.crossover))?;
        drop(reserved);
        Ok(())
    }

    fn remove_now(&self, key: &EncodedKey) -> Result<bool> {
        let removed = self.with_store(|store| store.remove(&RowKey::of(key)))?;
        if removed {
            self.tend_journal();
        }
        Ok(removed)
    }

    fn flush_now(&self) -> Result<()> {
        self.look_for_loss()?;
        let _shared = self.upkeep.read();
        self.with_store(Store::checkpoint)
    }

    fn scan_now(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        let _alone = self.upkeep.write();
        self.with_store(|store| store.scan(visit))
    }

    /// With `is_final`, all is on the medium afterwards.
    fn close_now(&self, is_final: bool) -> Result<()> {
        let mut upkeep = self.upkeep.write();
        let was_closed = self.closed.swap(true, Ordering::AcqRel);
        let Some(store) = self.state.write().take() else {
            return if was_closed { Ok(()) } else { Err(not_opened_again()) };
        };
        *upkeep = None;
        let reaped = self.reaper.settle();
        let is_lost = !self.anchor.is_there() || store.has_lost_files();
        self.anchor.close();
        if is_lost {
            // Another process may have the directory by now: nothing is written.
            store.abandon();
            self.space.set(0);
            return Err(self.anchor.lost());
        }
        let closed = store.close(!self.suspect.load(Ordering::Acquire));
        self.space.set(0);
        closed.and(reaped)?;
        if is_final { self.settle() } else { Ok(()) }
    }

    /// Waits until all is on the medium, and says so in the marker.
    fn settle(&self) -> Result<()> {
        let settled = sync_tree(self.layout.dir()).and_then(|()| self.marker.close());
        settled.map_err(|error| layout::unavailable(self.layout.dir(), error))
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            layout: &self.layout,
            space: &self.space,
            cache_bytes: self.cache_bytes,
            marker: &self.marker,
        }
    }

    /// Lends the store, unless the tier is closed.
    fn with_store<T>(&self, call: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
        match self.state.read().as_ref() {
            Some(store) => call(store).inspect_err(|error| self.observe(store, error)),
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
        (self.space.limit() / 4).min(FRAME_BYTES_MAX)
    }
}

impl Drop for DiskTier {
    fn drop(&mut self) {
        if let Err(error) = self.close_now(!self.marker.knows_boot()) {
            tracing::warn!(target: "larder", %error, "the disk tier was dropped, and could not write all it held");
        }
    }
}

impl fmt::Debug for DiskTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskTier").field("layout", &self.layout).field("usage", &self.usage()).finish()
    }
}

fn not_opened_again() -> Error {
    Error::new(ErrorKind::Unavailable, "the tier failed and could not be opened again")
}

/// Does the work in the first poll, and says where an error comes from.
fn work<'a, T: Send + 'a>(
    operation: &'static str,
    call: impl FnOnce() -> Result<T> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move { call().map_err(|error| error.in_tier(TierKind::Disk).during(operation)) })
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
            streams: false,
            stamps: false,
            tells: false,
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
        work("clear", || self.start_anew())
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        work("scan", move || self.scan_now(visit))
    }

    /// Told of every key while there is no entry at all.
    fn lacks(&self, _: &EncodedKey) -> bool {
        let state = self.state.try_read();
        state.is_some_and(|state| state.as_ref().is_some_and(|store| store.databases.live() == 0))
    }

    fn usage(&self) -> Usage {
        let _ = self.measure_after(1);
        let entries = self.with_store(|store| Ok(store.databases.live()));
        entries.map_or_else(
            |_| Usage::default(),
            |entries| Usage {
                entries,
                bytes: self.space.used(),
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
}
