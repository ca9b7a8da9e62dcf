//! The file tier: each entry is one file, in a directory of the tier.

mod eviction;
mod folder;
mod index;
mod loss;
mod peers;
mod room;
mod shared;
mod stream;
#[cfg(test)]
mod tests;
mod walk;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stream::Stored;
use larder_core::tier::{
    BoxFuture, Capability, EntryVersion, PutOptions, StreamingTier, Tier, TierKind, Upload, Usage,
    VersionedTier,
};
use larder_core::{Bytes, Durability, Error, ErrorKind, Result};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use crate::Share;
use crate::anchor::Anchor;
use crate::boot_marker::{Marker, Past};
use crate::durable_sync::sync_many;
use eviction::until_of;
use folder::{Folder, at};
use index::{BLOCK, Held, Index, Until, rounded, upper_of};
use peers::{Change, Peers};
use room::Room;

/// Number of lock stripes: as many files can change at the same time.
const LANES: usize = 64;

/// Disk usage of the three directories and the marker that always exist.
const FIXED: u64 = 4 * BLOCK;

/// Largest disk usage of the two directories above a file.
const ABOVE: u64 = 2 * BLOCK;

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
    pub space: Share,
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
/// about 120 bytes an entry. It is rebuilt on open, in order of writing.
///
/// Entries survive a killed process. Entries that are not [`Durability::Synced`] survive a crash of
/// the machine only if the tier was closed before. Closing waits until all data is durable, which
/// on Linux syncs the whole file system.
///
/// ```
/// use larder_core::Durability;
/// use larder_core::tier::Tier;
/// use larder_tiers::Space;
/// use larder_tiers::file::{FileOptions, FileTier};
///
/// # fn main() -> larder_core::Result<()> {
/// let dir = tempfile::tempdir()?;
/// let space = Space::new(64 << 20);
/// let options = FileOptions {
///     dir: dir.path().join("files"),
///     shared: false,
///     space: space.share(),
///     durability: Durability::Buffered,
/// };
/// let tier = FileTier::open(options)?;
/// assert_eq!(tier.usage().entries, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileTier {
    folder: Folder,
    dir: PathBuf,
    anchor: Anchor,
    marker: Marker,
    space: Arc<Share>,
    /// `None` after the tier is closed. The lock is never held during file system calls.
    index: Mutex<Option<Index>>,
    /// Lock stripes, by the upper directory of a file. A file, and its entry in the index, change
    /// only under the lock of its stripe.
    lanes: Vec<Mutex<()>>,
    /// Held for reading by every holder of a stripe, and for writing by `clear` and `close`.
    whole: RwLock<()>,
    /// Coordination with other processes, if the directory is shared.
    peers: Option<Peers>,
    /// Bytes written since the index was last reconciled with the directory.
    unseen: AtomicU64,
}

/// Guard that is held while a file, and the directories above it, are created or deleted.
struct Lane<'a> {
    change: Option<Change<'a>>,
    _whole: RwLockReadGuard<'a, ()>,
    _lane: Option<MutexGuard<'a, ()>>,
}

impl Lane<'_> {
    /// Returns whether another process changed the entry since it had this version.
    fn supersedes(&self, version: EntryVersion) -> bool {
        self.change.as_ref().is_some_and(|change| change.before() != Some(version))
    }
}

impl FileTier {
    /// Opens the directory, deletes files that an earlier process left half written, and indexes
    /// the entries.
    ///
    /// Costs a read of every directory and a `stat` of every file in them. If the entries exceed
    /// the budget, those written longest ago are deleted.
    ///
    /// # Errors
    /// `ErrorKind::Unavailable` when the path is not a directory, is not writable or lies on a
    /// read-only file system. The message names the path.
    pub fn open(options: FileOptions) -> Result<Self> {
        Self::open_at(options).map_err(|error| error.in_tier(TierKind::File).during("open"))
    }

    fn open_at(options: FileOptions) -> Result<Self> {
        let folder = Folder::open(&options.dir, options.shared, options.durability)?;
        let peers = options.shared.then(|| Peers::open(&options.dir)).transpose()?;
        let marker = {
            // Processes open the directory one after another. The first one after a crash of the
            // machine discards the entries for all.
            let _alone = peers.as_ref().map(Peers::change_all).transpose()?;
            trusted(&folder, &options).map_err(|error| at(&options.dir, error))?
        };
        let mut index = Index::default();
        for found in walk::walk(folder.entries())? {
            index.insert(found.digest, found.len);
        }
        let shared = if peers.is_some() { peers::BYTES } else { 0 };
        options.space.set(index.usage().bytes + FIXED + shared);
        let tier = Self {
            folder,
            anchor: Anchor::new(&options.dir),
            dir: options.dir,
            marker,
            space: Arc::new(options.space),
            index: Mutex::new(Some(index)),
            lanes: (0..LANES).map(|_| Mutex::new(())).collect(),
            whole: RwLock::new(()),
            peers,
            unseen: AtomicU64::new(0),
        };
        tier.space.fit(tier.available());
        tier.shrink_to_budget(0)?;
        Ok(tier)
    }

    fn get_now(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let Some(held) = self.expect(key.digest())? else { return Ok(None) };
        match self.folder.read(held.digest) {
            Ok(whole) => self.found(held, whole.len() as u64).map(|()| Some(whole)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.missed(held).map(|()| None),
            Err(error) => Err(at(&self.folder.path(held.digest), error)),
        }
    }

    /// Stores a frame; returns false if the entry does not have the required version.
    fn put_now(&self, key: &EncodedKey, frame: &Frame, if_version: Option<EntryVersion>) -> Result<bool> {
        self.check_len(frame.len() as u64)?;
        self.in_place(|| self.relieved(|| self.put_once(key, frame, if_version)))
    }

    fn put_once(&self, key: &EncodedKey, frame: &Frame, if_version: Option<EntryVersion>) -> Result<bool> {
        let digest = key.digest();
        let mut room = self.make_room(rounded(frame.len() as u64).saturating_add(ABOVE), digest)?;
        let failed = |error| at(&self.folder.path(digest), error);
        let mut draft = self.folder.draft(frame).map_err(failed)?;
        self.replace((key, if_version), (&mut draft, &mut room), until_of(frame.head()))
    }

    fn check_len(&self, len: u64) -> Result<()> {
        if len <= self.space.limit() {
            return Ok(());
        }
        let message = format!("a frame of {len} bytes in a budget of {} bytes", self.space.limit());
        Err(Error::new(ErrorKind::TooLarge, message))
    }

    /// Makes the upload `draft`, for which `room` is reserved, the file of `key`. Does nothing, and
    /// returns false, if the entry does not have the required version.
    fn replace(
        &self,
        (key, if_version): (&EncodedKey, Option<EntryVersion>),
        (draft, room): (&mut folder::UploadFile, &mut Room),
        until: Until,
    ) -> Result<bool> {
        let (digest, len) = (key.digest(), draft.len());
        self.look_now_and_then(len)?;
        let lane = self.lane(digest)?;
        self.index().map(drop)?;
        if if_version.is_some_and(|version| lane.supersedes(version)) {
            return Ok(false);
        }
        self.folder.publish(draft, digest).map_err(|error| at(&self.folder.path(digest), error))?;
        let change = self.index()?.insert_until(digest, len, until);
        room.keep(change.taken);
        self.space.shrink(change.freed);
        Ok(true)
    }

    fn remove_now(&self, key: &EncodedKey) -> Result<bool> {
        if self.peers.is_some() {
            return self.remove_shared(key.digest());
        }
        let held = self.index()?.find(key.digest());
        held.map_or(Ok(false), |held| self.delete(held))
    }

    /// Deletes the file of `held`, unless a later version took its place. Returns whether a file
    /// was deleted.
    fn delete(&self, held: Held) -> Result<bool> {
        let _lane = self.lane(held.digest)?;
        if self.index()?.find(held.digest) != Some(held) {
            return Ok(false);
        }
        let deleted =
            self.folder.unlink(held.digest).map_err(|error| at(&self.folder.path(held.digest), error))?;
        let removed = self.index()?.remove(held);
        if let Some(removed) = removed {
            self.folder.unlink_folders(held.digest, removed.empty_folders);
            self.space.shrink(removed.freed);
        }
        Ok(deleted)
    }

    /// Deletes all entries. Their bytes stay counted until the files are deleted.
    fn clear_now(&self) -> Result<()> {
        let whole = self.whole.write();
        self.index().map(drop)?;
        let change = self.peers.as_ref().map(Peers::change_all).transpose()?;
        let aside = self.folder.set_aside().map_err(|error| at(self.folder.entries(), error))?;
        let bytes = self.index()?.clear();
        drop(change);
        drop(whole);
        if let Some(aside) = aside {
            fs::remove_dir_all(&aside).map_err(|error| at(&aside, error))?;
        }
        self.space.shrink(bytes);
        Ok(())
    }

    fn scan_now(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        if self.peers.is_some() {
            self.look_again()?;
        }
        let digests = self.index()?.digests();
        digests.into_iter().filter_map(|digest| self.folder.read_head(digest)).for_each(|head| visit(&head));
        Ok(())
    }

    /// Closes the tier. With `is_final`, waits until all data is durable and marks the directory as
    /// closed.
    fn close_now(&self, is_final: bool) -> Result<()> {
        let _whole = self.whole.write();
        let was_open = self.index.lock().take().is_some();
        let is_lost = !self.anchor.is_there();
        self.anchor.close();
        self.folder.leave();
        if let Some(peers) = &self.peers {
            peers.close();
        }
        self.space.set(0);
        if was_open && is_lost {
            return Err(self.anchor.lost());
        }
        // A shared directory is never marked as closed: another process may have it open.
        if !was_open || !is_final || self.peers.is_some() {
            return Ok(());
        }
        let settled = sync_many(&self.dir).and_then(|()| self.marker.close());
        settled.map_err(|error| at(&self.dir, error))
    }

    /// Locks the index. Fails after the tier is closed.
    fn index(&self) -> Result<MappedMutexGuard<'_, Index>> {
        MutexGuard::try_map(self.index.lock(), Option::as_mut)
            .map_err(|_| Error::new(ErrorKind::Closed, "the tier is closed"))
    }

    fn lane(&self, digest: u128) -> Result<Lane<'_>> {
        let whole = self.whole.read();
        let lane = self.lanes.get(usize::from(upper_of(digest)) % LANES).map(Mutex::lock);
        let change = self.peers.as_ref().map(|peers| peers.change(digest)).transpose()?;
        Ok(Lane { change, _whole: whole, _lane: lane })
    }
}

impl Drop for FileTier {
    /// Closes the tier. Waits for durability only on systems without a boot id. Elsewhere the next
    /// open can tell whether the machine went down since.
    fn drop(&mut self) {
        if let Err(error) = self.close_now(!self.marker.knows_boot()) {
            tracing::warn!(target: "larder", %error, "the file tier was dropped, and could not write all it held");
        }
    }
}

/// Deletes entries that cannot be trusted, and marks the directory as in use.
fn trusted(folder: &Folder, options: &FileOptions) -> io::Result<Marker> {
    let (marker, past) = Marker::find(&options.dir, options.durability);
    // Without a boot id, every process that opens a shared directory would empty it.
    let may_discard = !options.shared || marker.knows_boot();
    if past == Past::Unknown && may_discard && folder.discard()? {
        tracing::warn!(target: "larder", path = %options.dir.display(), "the machine went down while this was open: it starts empty");
    }
    if past == Past::Killed && options.durability == Durability::Synced {
        sync_many(&options.dir)?;
    }
    marker.open().map(|()| marker)
}

/// Runs `work` in the first poll, and adds the tier and the operation to an error.
fn work<'a, T: Send + 'a>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move { work().map_err(|error| error.in_tier(TierKind::File).during(operation)) })
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
            frame_bytes_max: self.space.limit(),
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
            self.look_for_loss()
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        work("close", move || self.close_now(true))
    }

    fn streaming(&self) -> Option<&dyn StreamingTier> {
        Some(self)
    }

    /// Entries of a directory that processes share have versions.
    fn versioned(&self) -> Option<&dyn VersionedTier> {
        self.peers.as_ref().map(|_| self as _)
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
