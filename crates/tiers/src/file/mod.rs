//! One file an entry, in a folder of its own.

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
use larder_core::tier::{BoxFuture, Capability, EntryVersion, Tier, TierKind, Upload, Usage};
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

/// How many folders can change at the same time.
const LANES: usize = 64;

/// What the three folders and the marker that are always there take of the budget.
const FIXED: u64 = 4 * BLOCK;

/// What the two folders above a file take at most.
const ABOVE: u64 = 2 * BLOCK;

/// What a [`FileTier`] is opened with.
#[derive(Debug)]
pub struct FileOptions {
    /// The folder, for this tier alone while it is open unless it is shared. It
    /// is created, with mode 0700, where it is missing.
    pub dir: PathBuf,
    /// Whether other processes have the folder open at the same time, with this
    /// option too.
    pub shared: bool,
    /// The budget. A file counts as the 4 KiB blocks it takes, and each
    /// folder as one block, which is what `du` counts.
    pub space: Share,
    /// What a crash may take of what was acknowledged. What is written survives
    /// a killed process in any case.
    pub durability: Durability,
}

/// Keeps each entry in a file of its own, named by the digest of its key.
///
/// A frame is written beside the entries and renamed into place, so a reader
/// sees the old frame or the new one. An index in memory answers for absent
/// keys without a system call, keeps the budget, and knows what to evict:
/// entries never read first while they take more than a quarter, then the
/// least recently written or read. It is about 120 bytes an entry and is
/// rebuilt on open, in order of writing.
///
/// Entries survive a killed process. Unless they are [`Durability::Synced`],
/// they survive the machine only where the tier was closed: closing waits for
/// the medium, which on Linux means for the whole file system.
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
    /// `None` once the tier is closed. Never locked while files are touched.
    index: Mutex<Option<Index>>,
    /// Whoever changes a file, and what the index says of it, holds the lane of its upper folder.
    lanes: Vec<Mutex<()>>,
    /// Held for reading while a lane is; for writing to clear or to close.
    whole: RwLock<()>,
    /// Where the folder is shared.
    peers: Option<Peers>,
    /// Bytes written since the folder was looked at.
    unseen: AtomicU64,
}

/// Held while a file, and the folders above it, come or go.
struct Lane<'a> {
    change: Option<Change<'a>>,
    _whole: RwLockReadGuard<'a, ()>,
    _lane: Option<MutexGuard<'a, ()>>,
}

impl Lane<'_> {
    /// Whether another process changed the entry after what a write of `key`
    /// is based on.
    fn supersedes(&self, key: &EncodedKey) -> bool {
        let before = self.change.as_ref().map(Change::before);
        before.is_some_and(|before| key.base().is_some_and(|base| Some(base) != before))
    }
}

impl FileTier {
    /// Opens the folder, deletes what an earlier process left half written,
    /// and finds its entries.
    ///
    /// Costs a read of every folder and a `stat` of every file below it; where
    /// they exceed the budget, the longest written are deleted.
    ///
    /// # Errors
    /// `ErrorKind::Unavailable` when the path is not a folder, may not be
    /// written or lies on a read-only medium; the message names the path.
    pub fn open(options: FileOptions) -> Result<Self> {
        Self::open_at(options).map_err(|error| error.in_tier(TierKind::File).during("open"))
    }

    fn open_at(options: FileOptions) -> Result<Self> {
        let folder = Folder::open(&options.dir, options.shared, options.durability)?;
        let peers = options.shared.then(|| Peers::open(&options.dir)).transpose()?;
        let marker = {
            // One after another: the first after the machine was down finds it out for all.
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

    fn put_now(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        self.check_len(frame.len() as u64)?;
        self.in_place(|| self.relieved(|| self.put_once(key, frame)))
    }

    fn put_once(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let digest = key.digest();
        let mut room = self.make_room(rounded(frame.len() as u64).saturating_add(ABOVE), digest)?;
        let failed = |error| at(&self.folder.path(digest), error);
        let mut draft = self.folder.draft(frame).map_err(failed)?;
        self.replace(key, (&mut draft, &mut room), until_of(frame.head()))
    }

    fn check_len(&self, len: u64) -> Result<()> {
        if len <= self.space.limit() {
            return Ok(());
        }
        let message = format!("a frame of {len} bytes in a budget of {} bytes", self.space.limit());
        Err(Error::new(ErrorKind::TooLarge, message))
    }

    /// Makes a draft, for which there is room, the file of `key`, unless that
    /// is based on what is no more.
    fn replace(
        &self,
        key: &EncodedKey,
        (draft, room): (&mut folder::UploadFile, &mut Room),
        until: Until,
    ) -> Result<()> {
        let (digest, len) = (key.digest(), draft.len());
        self.look_now_and_then(len)?;
        let lane = self.lane(digest)?;
        self.index().map(drop)?;
        if lane.supersedes(key) {
            return Ok(());
        }
        self.folder.publish(draft, digest).map_err(|error| at(&self.folder.path(digest), error))?;
        let change = self.index()?.insert_until(digest, len, until);
        room.keep(change.taken);
        self.space.shrink(change.freed);
        Ok(())
    }

    fn remove_now(&self, key: &EncodedKey) -> Result<bool> {
        if self.peers.is_some() {
            return self.remove_shared(key.digest());
        }
        let held = self.index()?.find(key.digest());
        held.map_or(Ok(false), |held| self.delete(held))
    }

    /// Deletes the file of `held` unless a later version took its place;
    /// whether a file went.
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

    /// What the entries took stays counted until their files are deleted.
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

    /// With `is_final`, all is on the medium afterwards.
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
        // Of a shared folder nobody knows whether it is closed: another may have it.
        if !was_open || !is_final || self.peers.is_some() {
            return Ok(());
        }
        let settled = sync_many(&self.dir).and_then(|()| self.marker.close());
        settled.map_err(|error| at(&self.dir, error))
    }

    /// The index, while the tier is open.
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
    /// Leaves the writing to the operating system, where the next to open the
    /// directory can tell whether that came to an end.
    fn drop(&mut self) {
        if let Err(error) = self.close_now(!self.marker.knows_boot()) {
            tracing::warn!(target: "larder", %error, "the file tier was dropped, and could not write all it held");
        }
    }
}

/// Deletes what is not to be trusted, and marks the directory as in use.
fn trusted(folder: &Folder, options: &FileOptions) -> io::Result<Marker> {
    let (marker, past) = Marker::find(&options.dir, options.durability);
    // Where the boot is not known, a shared folder would be emptied by everybody who opens it.
    let may_discard = !options.shared || marker.knows_boot();
    if past == Past::Unknown && may_discard && folder.discard()? {
        tracing::warn!(target: "larder", path = %options.dir.display(), "the machine went down while this was open: it starts empty");
    }
    if past == Past::Killed && options.durability == Durability::Synced {
        sync_many(&options.dir)?;
    }
    marker.open().map(|()| marker)
}

/// Does the work in the first poll, and names tier and operation in an error.
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
            streams: true,
            stamps: self.peers.is_some(),
            tells: false,
            frame_bytes_max: self.space.limit(),
        }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        work("get", move || self.get_now(key))
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        work("put", move || self.put_now(key, frame))
    }

    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        work("open", move || self.open_now(key))
    }

    /// The file stays open until the draft is published or dropped.
    fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        work("draft", move || self.draft_now(key, head_len).map(Upload::new))
    }

    fn append<'a>(&'a self, draft: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        work("append", move || self.append_now(draft.state()?, bytes))
    }

    fn publish<'a>(
        &'a self,
        key: &'a EncodedKey,
        draft: Upload,
        head: &'a [u8],
    ) -> BoxFuture<'a, Result<()>> {
        work("publish", move || self.publish_now(key, draft.into_state()?, head))
    }

    /// One read of eight bytes.
    fn stamp(&self, key: &EncodedKey) -> Option<EntryVersion> {
        let _open = self.index().ok()?;
        self.peers.as_ref()?.stamp(key.digest())
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        work("remove", move || self.remove_now(key))
    }

    /// Asks the index alone, unless the folder is shared.
    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        work("contains", move || match &self.peers {
            Some(_) => self.contains_shared(key.digest()),
            None => Ok(self.index()?.find(key.digest()).is_some()),
        })
    }

    /// Renames the folder of all entries aside, then deletes it, with the
    /// files of others that lie in it.
    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        work("clear", move || self.clear_now())
    }

    /// Opens each file and reads its first 4 KiB.
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        work("scan", move || self.scan_now(visit))
    }

    /// Asks the index, unless the folder is shared.
    fn lacks(&self, key: &EncodedKey) -> bool {
        let lacks = |index: &Index| index.find(key.digest()).is_none();
        self.peers.is_none() && self.index.try_lock().is_some_and(|index| index.as_ref().is_some_and(lacks))
    }

    fn usage(&self) -> Usage {
        self.index.lock().as_ref().map(Index::usage).unwrap_or_default()
    }

    /// Looks whether the folder is still there. Each put went to the operating
    /// system when it was acknowledged.
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        work("flush", move || {
            self.index().map(drop)?;
            self.look_for_loss()
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        work("close", move || self.close_now(true))
    }
}
