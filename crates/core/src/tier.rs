//! The contract of a tier that stores bytes.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io::Cursor;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Time;
use crate::frame::Frame;
use crate::key::EncodedKey;
use crate::stats::ServerFacts;
use crate::stream::Stored;
use crate::{Error, ErrorKind, Result};

/// A boxed future, the return type of object-safe async methods.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The kind of storage behind a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TierKind {
    /// Typed values in the memory of this process.
    Memory,
    /// An embedded database with segment files for large values.
    Disk,
    /// One file per entry.
    File,
    /// Redis or Valkey.
    Redis,
    /// Stores nothing.
    Null,
}

impl TierKind {
    /// Every kind, nearest first.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Disk, Self::File, Self::Redis, Self::Null];

    /// The lower-case name, as statistics and messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::File => "file",
            Self::Redis => "redis",
            Self::Null => "null",
        }
    }
}

impl fmt::Display for TierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a tier can do. An implementation declares it, the conformance suite checks it, and the selector
/// filters by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Whether the tier stores entries at all; false only for the null tier.
    pub stores: bool,
    /// Flushed entries are still there after the tier is reopened.
    pub persistent: bool,
    /// Other processes see the entries of this tier.
    pub shared: bool,
    /// The futures of the tier do their work in the first poll and block the thread; an executor must run
    /// them on a blocking thread.
    pub blocking: bool,
    /// Accepts frames in parts, through [`draft`](Tier::draft), and serves them in parts without reading them
    /// whole.
    pub streams: bool,
    /// Shows by a [`stamp`](Tier::stamp) whether another process changed an entry. Copies of its entries in
    /// memory must be validated by this version.
    pub stamps: bool,
    /// Reports changes of other processes through a [`Bus`](crate::bus::Bus), so that nearer tiers may keep
    /// copies of its entries.
    pub tells: bool,
    /// The largest frame that it accepts, in bytes.
    pub frame_bytes_max: u64,
}

/// The version of an entry in one tier. Each change of the entry, by any process, gives it another version;
/// an equal version means that the entry did not change. A version has no meaning in another tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryVersion(NonZero<u64>);

/// The frame of an entry, if it exists, and the version that it had when it was read.
pub type VersionedFrame = (Option<Bytes>, Option<EntryVersion>);

/// The lease to load one entry, held by one node at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadLease {
    /// A number that increases with each lease of the entry.
    pub number: u64,
    /// Whether the entry now exists, fresh or not.
    pub present: bool,
}

/// How long a shared tier remembers a removal. A version that was read longer ago must not be used as a
/// precondition of a write.
pub const REMOVAL_LIFE: Duration = Duration::from_secs(60);

impl EntryVersion {
    /// The version with this number; `None` for zero.
    pub fn new(number: u64) -> Option<Self> {
        NonZero::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// A version that no entry ever has.
    pub const NONE: Self = Self(NonZero::<u64>::MAX);
}

/// A frame that is being written in parts. Readers do not see it, and dropping it leaves nothing behind.
pub struct Upload(Box<dyn Any + Send>);

impl Upload {
    /// Wraps the state that a tier keeps for the upload.
    pub fn new(state: impl Any + Send) -> Self {
        Self(Box::new(state))
    }

    /// The state, for the tier that began the upload.
    pub fn state<T: Any>(&mut self) -> Result<&mut T> {
        self.0.downcast_mut().ok_or_else(foreign_draft)
    }

    /// The state by value, for the tier that began the upload.
    pub fn into_state<T: Any>(self) -> Result<T> {
        self.0.downcast().map(|state| *state).map_err(|_| foreign_draft())
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").finish()
    }
}

fn foreign_draft() -> Error {
    Error::new(ErrorKind::Unsupported, "the draft was begun by another tier")
}

/// The origin of the last removal of an entry that a tier remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRemoval {
    /// The tier remembers no removal.
    None,
    /// This instance of the tier made the removal.
    Own,
    /// Another process made it, or the origin is unknown.
    Other,
}

/// How much a tier holds: local to this process and approximate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries.
    pub entries: u64,
    /// Bytes as the tier accounts for them: weights in memory (zero if the memory tier is bounded by
    /// entries), file sizes on disk.
    pub bytes: u64,
    /// Entries that the tier evicted to stay within its budget, since it was opened.
    pub evictions: u64,
}

/// A key-value store of frames.
///
/// A tier never decodes a value. It may read the fixed part of a frame to rebuild its own index. It sees
/// encoded keys, and must not assume that the digest of a key is unique: the caller compares the key in the
/// frame.
///
/// The methods are `async` in an object-safe way. A tier that blocks declares it in its [`Capability`] and
/// does its work in the first poll.
///
/// # Behavior
/// - `get` after an acknowledged `put` of the same key returns the frame of that `put`, byte for byte, until
///   it is replaced, removed, cleared or evicted.
/// - `get` after an acknowledged `remove` or `clear` returns `None`.
/// - A failure is an error, never `None`: `None` means only that the entry is absent.
/// - Concurrent calls on different keys do not affect one another. The caller orders the calls on one key.
/// - A `put` that fails leaves the former frame or none, never part of a frame.
/// - After `close` every other call fails with `ErrorKind::Closed`; a second `close` succeeds. `usage`
///   returns zero.
/// - Dropping an open tier does the same as `close`, and logs failures. It is dropped on a thread that may
///   block.
/// - No method panics, whatever bytes the medium holds.
pub trait Tier: Send + Sync + 'static {
    /// The kind of storage.
    fn kind(&self) -> TierKind;

    /// What the tier can do. Constant over the life of the tier.
    fn capability(&self) -> Capability;

    /// Reads the whole frame of `key`; `None` if there is none.
    ///
    /// # Behavior
    /// - Returns the bytes as they are on the medium; the caller verifies them.
    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// Reads the beginning of the frame of `key`, at least its whole head.
    ///
    /// Costs no more than [`get`](Self::get). The default calls `get`; a tier overrides it if it can read
    /// less.
    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.get(key)
    }

    /// Stores `frame` under `key` and replaces the former entry.
    ///
    /// # Behavior
    /// - Fails with `ErrorKind::TooLarge` above `frame_bytes_max`, and with `ErrorKind::Full` if there is no
    ///   room; nothing is stored then.
    /// - A tier with versions stores nothing, and succeeds, if the [`base`](EncodedKey::base) of the key is
    ///   no longer the version of the entry. The result is the same as if the other change had come right
    ///   after this one.
    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>>;

    /// Opens the frame of `key` for reading in parts.
    ///
    /// # Behavior
    /// - The opened frame stays unchanged while the entry is replaced, removed, evicted or cleared, and after
    ///   the tier is closed.
    /// - A tier that streams does not read the payload here.
    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        Box::pin(async move {
            let stored =
                |whole: Bytes| Stored { len: whole.len() as u64, medium: Box::new(Cursor::new(whole)) };
            Ok(self.get(key).await?.map(stored))
        })
    }

    /// Begins an upload of a frame for `key` in parts, with room for a head of `head_len` bytes at its front.
    ///
    /// # Behavior
    /// - A tier that does not stream fails with `ErrorKind::Unsupported`.
    /// - The former entry stays visible and unchanged until [`publish`](Tier::publish).
    fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        let _ = (key, head_len);
        let kind = self.kind();
        Box::pin(async move { Err(does_not_stream(kind)) })
    }

    /// Appends `bytes` to the body of an upload.
    ///
    /// # Behavior
    /// - Fails with `ErrorKind::TooLarge` if the frame would exceed `frame_bytes_max`, and with
    ///   `ErrorKind::Full` if there is no room. The upload is unusable then.
    fn append<'a>(&'a self, draft: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        let _ = (draft, bytes);
        let kind = self.kind();
        Box::pin(async move { Err(does_not_stream(kind)) })
    }

    /// Writes the head, whose length must be the `head_len` of [`draft`](Tier::draft), and stores the frame
    /// under `key` in place of the former entry.
    ///
    /// # Behavior
    /// - From here on the same as [`put`](Tier::put).
    fn publish<'a>(
        &'a self,
        key: &'a EncodedKey,
        draft: Upload,
        head: &'a [u8],
    ) -> BoxFuture<'a, Result<()>> {
        let _ = (key, draft, head);
        let kind = self.kind();
        Box::pin(async move { Err(does_not_stream(kind)) })
    }

    /// The current version of `key`. `None` if the tier has no versions, and while a process is changing the
    /// entry. May block for a few microseconds.
    ///
    /// # Behavior
    /// - If a frame is read after its version, it is still the frame of `key` as long as the version is the
    ///   same.
    /// - The version reflects every change, by any process, that was acknowledged before the call.
    fn stamp(&self, key: &EncodedKey) -> Option<EntryVersion> {
        let _ = key;
        None
    }

    /// Removes the entry; returns whether there was one.
    ///
    /// # Behavior
    /// - Removing an absent entry succeeds, returns false, and costs no more than a look-up.
    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>>;

    /// Returns whether there is an entry, without reading its payload.
    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>>;

    /// Removes every entry.
    fn clear(&self) -> BoxFuture<'_, Result<()>>;

    /// Calls `visit` with the head of each frame (fixed part, key and tags; more bytes may follow), in no
    /// particular order.
    ///
    /// # Behavior
    /// - Visits each entry that does not change during the scan exactly once.
    /// - May visit or miss entries that are added or removed during the scan.
    /// - Skips frames that cannot be read.
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>>;

    /// How much the tier holds now: local to this process, approximate, and without I/O where possible.
    fn usage(&self) -> Usage;

    /// What the servers of the tier last reported about themselves, without I/O.
    fn servers(&self) -> Vec<ServerFacts> {
        Vec::new()
    }

    /// Hands buffered data to the operating system.
    ///
    /// # Behavior
    /// - Entries acknowledged before the call are there when the tier is reopened, even if the process is
    ///   killed.
    fn flush(&self) -> BoxFuture<'_, Result<()>>;

    /// Flushes, and releases files, locks and threads.
    fn close(&self) -> BoxFuture<'_, Result<()>>;

    /// Removes every entry and all auxiliary data that others could find, and closes the tier.
    ///
    /// # Behavior
    /// - The same as [`clear`](Tier::clear) and then [`close`](Tier::close), unless these two leave data
    ///   behind.
    /// - Closes the tier even if some data could not be removed.
    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let cleared = self.clear().await;
            cleared.and(self.close().await)
        })
    }

    /// Reads the frames of `keys`, each as [`get`](Self::get) does, in the order of the keys.
    ///
    /// # Behavior
    /// - Returns one result per key; each may fail on its own.
    /// - The default reads one key after another; a tier overrides it to save round trips.
    fn get_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.push(self.get(key).await);
            }
            found
        })
    }

    /// Stores each frame under its key, as [`put`](Self::put) does, in order.
    ///
    /// # Behavior
    /// - Returns one result per entry; each may fail on its own.
    /// - If two entries have the same key, the later one wins.
    fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let mut stored = Vec::with_capacity(entries.len());
            for (key, frame) in entries {
                stored.push(self.put(key, frame).await);
            }
            stored
        })
    }

    /// Removes the entries of `keys`, as [`remove`](Self::remove) does, in order.
    ///
    /// # Behavior
    /// - Returns one result per key; each may fail on its own.
    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(async move {
            let mut removed = Vec::with_capacity(keys.len());
            for key in keys {
                removed.push(self.remove(key).await);
            }
            removed
        })
    }

    /// Reads the frame of `key` as [`get`](Self::get) does, with the version that it had then. A conditional
    /// write whose key is [based](EncodedKey::based_on) on that version never overwrites a later change.
    fn get_versioned<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<VersionedFrame>> {
        Box::pin(async move {
            let stamp = self.stamp(key);
            Ok((self.get(key).await?, stamp))
        })
    }

    /// Reads the frames of `keys` with their versions, each as [`get_versioned`](Self::get_versioned) does,
    /// in the order of the keys.
    ///
    /// # Behavior
    /// - Returns one result per key; each may fail on its own.
    fn get_many_versioned<'a>(
        &'a self,
        keys: &'a [EncodedKey],
    ) -> BoxFuture<'a, Vec<Result<VersionedFrame>>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.push(self.get_versioned(key).await);
            }
            found
        })
    }

    /// Compare-and-set: stores `frame` if the version of the entry still is the [base](EncodedKey::base) of
    /// the key. Returns whether it was stored. Atomic among all processes that share the tier.
    ///
    /// # Behavior
    /// - Of several calls with the same base at most one succeeds.
    /// - A removal changes the version, even if the entry is absent.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` if the tier has no such operation: a tier of one process needs none, since
    /// its callers order their own calls.
    fn put_if_unchanged<'a>(
        &'a self,
        _key: &'a EncodedKey,
        _frame: &'a Frame,
    ) -> BoxFuture<'a, Result<bool>> {
        unsupported(self.kind(), "put_if_unchanged")
    }

    /// Stores frames, each as [`put_if_unchanged`](Self::put_if_unchanged) does, in order. Returns for each
    /// whether it was stored.
    ///
    /// # Behavior
    /// - Returns one result per entry; each may fail on its own. Each entry is atomic, the batch is not.
    fn put_many_if_unchanged<'a>(
        &'a self,
        entries: &'a [(EncodedKey, Frame)],
    ) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(async move {
            let mut stored = Vec::with_capacity(entries.len());
            for (key, frame) in entries {
                stored.push(self.put_if_unchanged(key, frame).await);
            }
            stored
        })
    }

    /// Takes the lease to load the entry for `span`; `None` while another caller holds it. Atomic among all
    /// processes that share the tier.
    ///
    /// # Errors
    /// The same as [`put_if_unchanged`](Self::put_if_unchanged).
    fn lease_load<'a>(
        &'a self,
        _key: &'a EncodedKey,
        _span: Duration,
    ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
        unsupported(self.kind(), "lease_load")
    }

    /// Takes leases to load entries, each as [`lease_load`](Self::lease_load) does, in order.
    ///
    /// # Behavior
    /// - Returns one result per key; each may fail on its own. Does not wait for leases that others hold.
    fn lease_loads<'a>(
        &'a self,
        keys: &'a [EncodedKey],
        span: Duration,
    ) -> BoxFuture<'a, Vec<Result<Option<LoadLease>>>> {
        Box::pin(async move {
            let mut taken = Vec::with_capacity(keys.len());
            for key in keys {
                taken.push(self.lease_load(key, span).await);
            }
            taken
        })
    }

    /// Releases leases, by key and lease number. A lease that has passed to another holder is left alone.
    /// Returns without waiting for the release.
    fn release_loads(&self, _leases: Vec<(EncodedKey, u64)>) {}

    /// A number that changes when others clear the tier, or when the tier loses its data, as of the last
    /// answer about this key. Zero if there is none.
    fn era(&self, _key: &EncodedKey) -> u64 {
        0
    }

    /// The present time of the server that holds `key`: the one clock that all processes sharing the tier
    /// use. Without I/O. `None` if there is no such clock, or if it has not been read yet.
    ///
    /// # Behavior
    /// - Independent of the clocks of the nodes: setting those changes nothing.
    /// - Entries expire from the tier by this clock.
    fn shared_time(&self, _key: &EncodedKey) -> Option<Time> {
        None
    }

    /// The origin of the last removal of an entry, as of the [`get_versioned`](Self::get_versioned) call that
    /// returned `found`. A process recognises its own removals by this, including those whose replies were
    /// lost. No I/O.
    fn last_removal(&self, _key: &EncodedKey, _found: &VersionedFrame) -> LastRemoval {
        LastRemoval::Other
    }

    /// Removes the entry and returns its frame. Of concurrent callers that share the tier, one receives it.
    ///
    /// # Errors
    /// The same as [`put_if_unchanged`](Self::put_if_unchanged).
    fn take<'a>(&'a self, _key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        unsupported(self.kind(), "take")
    }

    /// Returns true if `key` certainly has no entry, without I/O and without waiting; false if this is
    /// unknown. It saves callers a futile blocking call.
    ///
    /// # Behavior
    /// - Never true for an entry whose put was acknowledged, unless it was removed or evicted since. While a
    ///   put is in progress, either answer is possible.
    fn lacks(&self, _key: &EncodedKey) -> bool {
        false
    }

    /// Why the tier cannot be used now, as a sentence for people; `None` while it is usable, and for a tier
    /// that cannot know. Without I/O.
    fn trouble(&self) -> Option<Arc<str>> {
        None
    }

    /// Whether the tier can be used now, as far as it knows. Costs at most an atomic read; the selector calls
    /// it once per write.
    fn healthy(&self) -> bool {
        true
    }
}

fn unsupported<'a, T: Send + 'a>(tier: TierKind, operation: &'static str) -> BoxFuture<'a, Result<T>> {
    let error =
        Error::new(ErrorKind::Unsupported, "the tier has no such step").in_tier(tier).during(operation);
    Box::pin(std::future::ready(Err(error)))
}

fn does_not_stream(kind: TierKind) -> Error {
    Error::new(ErrorKind::Unsupported, "the tier takes no frames in parts").in_tier(kind)
}

macro_rules! forward {
    ($($pointer:ident),+) => {$(
        impl<T: Tier + ?Sized> Tier for $pointer<T> {
            fn kind(&self) -> TierKind {
                (**self).kind()
            }
            fn capability(&self) -> Capability {
                (**self).capability()
            }
            fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
                (**self).get(key)
            }
            fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
                (**self).head(key)
            }
            fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
                (**self).put(key, frame)
            }
            fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
                (**self).open(key)
            }
            fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
                (**self).draft(key, head_len)
            }
            fn append<'a>(&'a self, draft: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
                (**self).append(draft, bytes)
            }
            fn publish<'a>(
                &'a self,
                key: &'a EncodedKey,
                draft: Upload,
                head: &'a [u8],
            ) -> BoxFuture<'a, Result<()>> {
                (**self).publish(key, draft, head)
            }
            fn stamp(&self, key: &EncodedKey) -> Option<EntryVersion> {
                (**self).stamp(key)
            }
            fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
                (**self).remove(key)
            }
            fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
                (**self).contains(key)
            }
            fn clear(&self) -> BoxFuture<'_, Result<()>> {
                (**self).clear()
            }
            fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
                (**self).scan(visit)
            }
            fn usage(&self) -> Usage {
                (**self).usage()
            }
            fn servers(&self) -> Vec<ServerFacts> {
                (**self).servers()
            }
            fn flush(&self) -> BoxFuture<'_, Result<()>> {
                (**self).flush()
            }
            fn close(&self) -> BoxFuture<'_, Result<()>> {
                (**self).close()
            }
            fn destroy(&self) -> BoxFuture<'_, Result<()>> {
                (**self).destroy()
            }
            fn get_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
                (**self).get_many(keys)
            }
            fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
                (**self).put_many(entries)
            }
            fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
                (**self).remove_many(keys)
            }
            fn era(&self, key: &EncodedKey) -> u64 {
                (**self).era(key)
            }
            fn shared_time(&self, key: &EncodedKey) -> Option<Time> {
                (**self).shared_time(key)
            }
            fn last_removal(&self, key: &EncodedKey, found: &VersionedFrame) -> LastRemoval {
                (**self).last_removal(key, found)
            }
            fn lease_load<'a>(
                &'a self,
                key: &'a EncodedKey,
                span: Duration,
            ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
                (**self).lease_load(key, span)
            }
            fn lease_loads<'a>(
                &'a self,
                keys: &'a [EncodedKey],
                span: Duration,
            ) -> BoxFuture<'a, Vec<Result<Option<LoadLease>>>> {
                (**self).lease_loads(keys, span)
            }
            fn release_loads(&self, leases: Vec<(EncodedKey, u64)>) {
                (**self).release_loads(leases);
            }
            fn get_many_versioned<'a>(
                &'a self,
                keys: &'a [EncodedKey],
            ) -> BoxFuture<'a, Vec<Result<VersionedFrame>>> {
                (**self).get_many_versioned(keys)
            }
            fn put_many_if_unchanged<'a>(
                &'a self,
                entries: &'a [(EncodedKey, Frame)],
            ) -> BoxFuture<'a, Vec<Result<bool>>> {
                (**self).put_many_if_unchanged(entries)
            }
            fn get_versioned<'a>(
                &'a self,
                key: &'a EncodedKey,
            ) -> BoxFuture<'a, Result<VersionedFrame>> {
                (**self).get_versioned(key)
            }
            fn put_if_unchanged<'a>(
                &'a self,
                key: &'a EncodedKey,
                frame: &'a Frame,
            ) -> BoxFuture<'a, Result<bool>> {
                (**self).put_if_unchanged(key, frame)
            }
            fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
                (**self).take(key)
            }
            fn lacks(&self, key: &EncodedKey) -> bool {
                (**self).lacks(key)
            }
            fn trouble(&self) -> Option<Arc<str>> {
                (**self).trouble()
            }
            fn healthy(&self) -> bool {
                (**self).healthy()
            }
        }
    )+};
}

forward!(Arc, Box);
