//! The file tier: each entry is one file, in a directory of the tier.

mod check;
mod eviction;
mod index;
mod layout;
mod loss;
mod peers;
mod reader;
mod recovery;
mod reservation;
mod shared;
mod snapshot;
mod stream;
#[cfg(test)]
mod tests;
mod walk;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{
    BlockingTier, BoxFuture, Capability, EntryVersion, PutOptions, StreamingTier, Tier, TierKind, Usage,
    VersionedTier,
};
use larder_core::{Bytes, Durability, Error, ErrorKind, Result};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use crate::BudgetShare;
use crate::boot_marker::{LastShutdown, Marker};
use crate::dir_handle::DirHandle;
use crate::durable_sync::sync_many;
use eviction::deadline_of;
use index::{BLOCK, EntryId, Index, KnownDeadline, rounded, upper_of};
use layout::{Layout, error_at};
use peers::{Change, Peers};
pub use reader::FileReader;
use recovery::Recovered;
use reservation::Reservation;

/// Number of lock stripes: as many files can change at the same time.
const STRIPES: usize = 64;

/// Disk usage of the three directories and the marker that always exist.
const FIXED: u64 = 4 * BLOCK;

/// Largest disk usage of the two directories above a file.
const ABOVE: u64 = 2 * BLOCK;

/// A written upload that becomes the file of an entry.
struct Replacement<'a> {
    upload: &'a mut layout::UploadFile,
    reservation: &'a mut Reservation,
    until: KnownDeadline,
}

/// Options of a [`FileTier`].
#[derive(Debug)]
pub struct FileOptions {
    /// The directory. Unless it is `shared`, no other tier may have it open. It is created with
    /// mode 0700 if it is missing.
    pub dir: PathBuf,
    /// Whether other processes have the directory open at the same time. They must set this option
    /// too.
    pub shared: bool,
    /// The disk budget. A file counts as the 4 KiB blocks it takes, and each directory as one
    /// block, as `du` counts them.
    pub budget: BudgetShare,
    /// Which acknowledged writes a crash of the machine may lose. A killed process loses none of
    /// them.
    pub durability: Durability,
}

/// Stores each entry in a file of its own, named by the digest of its key.
///
/// A frame is written to a temporary file and renamed into place, so a reader sees either the old
/// frame or the new one.
///
/// An index in memory answers look-ups of absent keys without a system call, tracks the budget, and
/// chooses the entries to evict. Entries never read are evicted first while they take more than a
/// quarter of all bytes; then the entry that was written or read least recently. The index takes
/// about 120 bytes an entry. Closing the tier writes a snapshot of it, of 33 bytes an entry, which
/// the next open reads. Without a valid snapshot the index is rebuilt on open, in order of writing.
///
/// Entries survive a killed process. Entries that are not [`Durability::Synced`] survive a crash of
/// the machine only if the tier was closed before. Closing waits until all data is durable, which
/// on Linux syncs the whole file system.
///
/// ```
/// use larder_core::Durability;
/// use larder_core::tier::Tier;
/// use larder_tiers::DiskBudget;
/// use larder_tiers::file::{FileOptions, FileTier};
///
/// # fn main() -> larder_core::Result<()> {
/// let dir = tempfile::tempdir()?;
/// let budget = DiskBudget::new(64 << 20);
/// let options = FileOptions {
///     dir: dir.path().join("files"),
///     shared: false,
///     budget: budget.share(),
///     durability: Durability::Buffered,
/// };
/// let tier = FileTier::open(options)?;
/// assert_eq!(tier.usage().entries, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileTier {
    layout: Layout,
    dir: PathBuf,
    dir_handle: DirHandle,
    marker: Marker,
    budget: Arc<BudgetShare>,
    /// `None` after the tier is closed. The lock is never held during file system calls.
    index: Mutex<Option<Index>>,
    /// Lock stripes, by the upper directory of a file. A file, and its entry in the index, change
    /// only under the lock of its stripe.
    stripes: Vec<Mutex<()>>,
    /// Held for reading by every holder of a stripe, and for writing by `clear` and `close`.
    all_stripes: RwLock<()>,
    /// Coordination with other processes, if the directory is shared.
    peers: Option<Peers>,
    /// Bytes written since the index was last reconciled with the directory.
    written_since_scan: AtomicU64,
    /// Whether a file may not be durable: it was changed, or the directory was not closed before.
    is_unsynced: AtomicBool,
}

/// Guard that is held while a file, and the directories above it, are created or deleted.
struct StripeGuard<'a> {
    change: Option<Change<'a>>,
    _all_stripes: RwLockReadGuard<'a, ()>,
    _stripe: Option<MutexGuard<'a, ()>>,
}

impl StripeGuard<'_> {
    /// Returns whether another process changed the entry since it had this version.
    fn supersedes(&self, version: EntryVersion) -> bool {
        self.change.as_ref().is_some_and(|change| change.before() != Some(version))
    }
}

impl FileTier {
    /// Opens the directory, deletes files that an earlier process left half written, and indexes
    /// the entries.
    ///
    /// Costs a read of one file after a clean close. Otherwise it costs a read of every directory
    /// and a `stat` of every file in them. If the entries exceed the budget, those used longest ago
    /// are deleted.
    ///
    /// # Errors
    /// `ErrorKind::Unavailable` when the path is not a directory, is not writable or lies on a
    /// read-only file system. The message names the path.
    pub fn open(options: FileOptions) -> Result<Self> {
        Self::open_at(options).map_err(|error| error.in_tier(TierKind::File).during("open"))
    }

    fn open_at(options: FileOptions) -> Result<Self> {
        let layout = Layout::open(&options.dir, options.shared, options.durability)?;
        let peers = options.shared.then(|| Peers::open(&options.dir)).transpose()?;
        let Recovered { marker, last_shutdown, snapshot } = {
            // Processes open the directory one after another. The first one after a crash of the
            // machine discards the entries for all.
            let _alone = peers.as_ref().map(Peers::change_all).transpose()?;
            recovery::recover(&layout, &options).map_err(|error| error_at(&options.dir, error))?
        };
        let index = snapshot.map_or_else(|| recovery::listed(&layout), Ok)?;
        let shared = if peers.is_some() { peers::BYTES } else { 0 };
        options.budget.set(index.usage().bytes + FIXED + shared);
        let tier = Self {
            layout,
            dir_handle: DirHandle::new(&options.dir),
            dir: options.dir,
            marker,
            budget: Arc::new(options.budget),
            index: Mutex::new(Some(index)),
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            all_stripes: RwLock::new(()),
            peers,
            written_since_scan: AtomicU64::new(0),
            is_unsynced: AtomicBool::new(last_shutdown != LastShutdown::Closed),
        };
        tier.budget.fit_to_free_space(tier.available());
        tier.shrink_to_budget(0)?;
        Ok(tier)
    }

    fn get_now(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let Some(id) = self.look_up(key.digest())? else { return Ok(None) };
        match self.layout.read(id.digest) {
            Ok(whole) => self.file_found(id, whole.len() as u64).map(|()| Some(whole)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.file_missing(id).map(|()| None),
            Err(error) => Err(error_at(&self.layout.path(id.digest), error)),
        }
    }

    /// Stores a frame; returns false if the entry does not have the required version.
    fn put_now(&self, key: &EncodedKey, frame: &Frame, if_version: Option<EntryVersion>) -> Result<bool> {
        self.check_len(frame.len() as u64)?;
        self.with_dir(|| self.retry_when_full(|| self.put_once(key, frame, if_version)))
    }

    fn put_once(&self, key: &EncodedKey, frame: &Frame, if_version: Option<EntryVersion>) -> Result<bool> {
        let digest = key.digest();
        let mut reservation = self.make_room(rounded(frame.len() as u64).saturating_add(ABOVE), digest)?;
        let failed = |error| error_at(&self.layout.path(digest), error);
        let mut upload = self.layout.write_upload(frame).map_err(failed)?;
        let until = deadline_of(frame.head());
        self.replace(
            key,
            if_version,
            Replacement { upload: &mut upload, reservation: &mut reservation, until },
        )
    }

    fn check_len(&self, len: u64) -> Result<()> {
        if len <= self.budget.limit() {
            return Ok(());
        }
        let message = format!("the frame has {len} bytes; the disk budget is {} bytes", self.budget.limit());
        Err(Error::new(ErrorKind::TooLarge, message))
    }

    /// Makes `upload` the file of `key`. Does nothing, and returns false, if the entry does not have
    /// the required version.
    fn replace(
        &self,
        key: &EncodedKey,
        if_version: Option<EntryVersion>,
        Replacement { upload, reservation, until }: Replacement<'_>,
    ) -> Result<bool> {
        let (digest, len) = (key.digest(), upload.len());
        self.rescan_if_due(len)?;
        let stripe = self.lock_stripe(digest)?;
        self.index().map(drop)?;
        if if_version.is_some_and(|version| stripe.supersedes(version)) {
            return Ok(false);
        }
        self.layout.publish(upload, digest).map_err(|error| error_at(&self.layout.path(digest), error))?;
        let change = self.index()?.insert_until(digest, len, until);
        reservation.commit(change.taken);
        self.budget.shrink(change.freed);
        Ok(true)
    }

    fn remove_now(&self, key: &EncodedKey) -> Result<bool> {
        if self.peers.is_some() {
            return self.remove_shared(key.digest());
        }
        let id = self.index()?.find(key.digest());
        id.map_or(Ok(false), |id| self.delete(id))
    }

    /// Deletes the file of `id`, unless a later version took its place. Returns whether a file
    /// was deleted.
    fn delete(&self, id: EntryId) -> Result<bool> {
        let _stripe = self.lock_stripe(id.digest)?;
        if self.index()?.find(id.digest) != Some(id) {
            return Ok(false);
        }
        let deleted =
            self.layout.unlink(id.digest).map_err(|error| error_at(&self.layout.path(id.digest), error))?;
        let removed = self.index()?.remove(id);
        if let Some(removed) = removed {
            self.layout.unlink_folders(id.digest, removed.empty_folders);
            self.budget.shrink(removed.freed);
        }
        Ok(deleted)
    }

    /// Deletes all entries. Their bytes stay counted until the files are deleted.
    fn clear_now(&self) -> Result<()> {
        let all_stripes = self.all_stripes.write();
        self.index().map(drop)?;
        self.is_unsynced.store(true, Ordering::Release);
        let change = self.peers.as_ref().map(Peers::change_all).transpose()?;
        let aside = self.layout.set_aside().map_err(|error| error_at(self.layout.entries(), error))?;
        let bytes = self.index()?.clear();
        drop(change);
        drop(all_stripes);
        if let Some(aside) = aside {
            fs::remove_dir_all(&aside).map_err(|error| error_at(&aside, error))?;
        }
        self.budget.shrink(bytes);
        Ok(())
    }

    fn scan_now(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        if self.peers.is_some() {
            self.rescan()?;
        }
        let digests = self.index()?.digests();
        digests.into_iter().filter_map(|digest| self.layout.read_head(digest)).for_each(|head| visit(&head));
        Ok(())
    }

    /// Closes the tier. With `is_final`, waits until all data is durable and marks the directory as
    /// closed.
    fn close_now(&self, is_final: bool) -> Result<()> {
        let _all_stripes = self.all_stripes.write();
        let index = self.index.lock().take();
        let is_lost = !self.dir_handle.still_exists();
        self.dir_handle.close();
        self.layout.remove_liveness_file();
        if let Some(peers) = &self.peers {
            peers.close();
        }
        let room = self.budget.room();
        self.budget.set(0);
        let Some(index) = index else { return Ok(()) };
        if is_lost {
            return Err(self.dir_handle.removed_error());
        }
        // A shared directory is never marked as closed: another process may have it open.
        if !is_final || self.peers.is_some() {
            return Ok(());
        }
        self.mark_closed().map_err(|error| error_at(&self.dir, error))?;
        snapshot::write(&self.dir, &index, room);
        Ok(())
    }

    /// Waits until all data is durable, then marks the directory as closed.
    fn mark_closed(&self) -> io::Result<()> {
        if self.is_unsynced.load(Ordering::Acquire) {
            sync_many(&self.dir)?;
        }
        self.marker.close()
    }

    /// Locks the index. Fails after the tier is closed.
    fn index(&self) -> Result<MappedMutexGuard<'_, Index>> {
        MutexGuard::try_map(self.index.lock(), Option::as_mut)
            .map_err(|_| Error::new(ErrorKind::Closed, "the tier is closed"))
    }

    fn lock_stripe(&self, digest: u128) -> Result<StripeGuard<'_>> {
        let all_stripes = self.all_stripes.read();
        let stripe = self.stripes.get(usize::from(upper_of(digest)) % STRIPES).map(Mutex::lock);
        let change = self.peers.as_ref().map(|peers| peers.change(digest)).transpose()?;
        self.is_unsynced.store(true, Ordering::Release);
        Ok(StripeGuard { change, _all_stripes: all_stripes, _stripe: stripe })
    }
}

impl Drop for FileTier {
    /// Closes the tier. Waits for durability only on systems without a boot id. Elsewhere the next
    /// open can tell whether the machine went down since.
    fn drop(&mut self) {
        if let Err(error) = self.close_now(!self.marker.knows_boot()) {
            tracing::warn!(target: "larder", %error, "the file tier was dropped and could not sync all entries");
        }
    }
}

/// Runs `work` in the first poll, and adds the tier and the operation to an error.
fn work<'a, T: Send + 'a>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move { told(operation, work()) })
}

/// Adds the tier and the operation to an error.
fn told<T>(operation: &'static str, result: Result<T>) -> Result<T> {
    result.map_err(|error| error.in_tier(TierKind::File).during(operation))
}

impl BlockingTier for FileTier {
    fn get_blocking(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        told("get", self.get_now(key))
    }

    fn put_blocking(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        told("put", self.put_now(key, frame, None).map(drop))
    }

    fn remove_blocking(&self, key: &EncodedKey) -> Result<bool> {
        told("remove", self.remove_now(key))
    }
}

impl Tier for FileTier {
    fn kind(&self) -> TierKind {
        TierKind::File
    }

    fn capability(&self) -> Capability {
        Capability {
            stores: true,
            persistent: true,
            shared: self.peers.is_some(),
            blocking: true,
            frame_bytes_max: self.budget.limit(),
        }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        work("get", move || self.get_now(key))
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        work("put", move || self.put_now(key, frame, None).map(drop))
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        work("remove", move || self.remove_now(key))
    }

    /// Looks up the index alone, unless the directory is shared.
    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        work("contains", move || match &self.peers {
            Some(_) => self.contains_shared(key.digest()),
            None => Ok(self.index()?.find(key.digest()).is_some()),
        })
    }

    /// Renames the directory of all entries, then deletes it, including foreign files in it.
    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        work("clear", move || self.clear_now())
    }

    /// Opens each file and reads its first 4 KiB.
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        work("scan", move || self.scan_now(visit))
    }

    /// Looks up the index, unless the directory is shared.
    fn lacks(&self, key: &EncodedKey) -> bool {
        let lacks = |index: &Index| index.find(key.digest()).is_none();
        self.peers.is_none() && self.index.try_lock().is_some_and(|index| index.as_ref().is_some_and(lacks))
    }

    fn usage(&self) -> Usage {
        self.index.lock().as_ref().map(Index::usage).unwrap_or_default()
    }

    /// Checks that the directory still exists. Each put reached the operating system before it was
    /// acknowledged.
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        work("flush", move || {
            self.index().map(drop)?;
            self.check_for_loss()
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        work("close", move || self.close_now(true))
    }

    fn streaming(&self) -> Option<&dyn StreamingTier> {
        Some(self)
    }

    fn blocking(&self) -> Option<&dyn BlockingTier> {
        Some(self)
    }

    /// Entries of a directory that processes share have versions.
    fn versioned(&self) -> Option<&dyn VersionedTier> {
        self.peers.as_ref().map(|_| self as _)
    }
}

impl VersionedTier for FileTier {
    /// One read of eight bytes.
    fn version(&self, key: &EncodedKey) -> Option<EntryVersion> {
        let _open = self.index().ok()?;
        self.peers.as_ref()?.version(key.digest())
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a EncodedKey,
        frame: &'a Frame,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<bool>> {
        work("compare_and_set", move || self.put_now(key, frame, Some(options.if_version)))
    }
}
