//! The contract of a tier that holds bytes.

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

/// A boxed future, as object-safe async methods return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which kind of place a tier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TierKind {
    /// Typed values in this process.
    Memory,
    /// An embedded database with segments beside it.
    Disk,
    /// One file an entry.
    File,
    /// Redis or Valkey.
    Redis,
    /// Holds nothing.
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

/// What a tier can do. An implementation declares it, the conformance suite
/// holds it to that, and the selector filters by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Keeps anything at all; false for the null tier alone.
    pub stores: bool,
    /// What was flushed is there after the tier is opened again.
    pub persistent: bool,
    /// Other processes see its entries.
    pub shared: bool,
    /// Its futures do their work within the first poll and block the thread
    /// meanwhile; an executor must run them elsewhere.
    pub blocking: bool,
    /// Takes frames in parts, with [`draft`](Tier::draft), and hands them out
    /// in parts without reading them whole.
    pub streams: bool,
    /// Tells by a [`stamp`](Tier::stamp) whether another process changed an
    /// entry; copies of its entries in memory must be checked by it.
    pub stamps: bool,
    /// Tells, through a [`Bus`](crate::bus::Bus), what others change, so that
    /// copies of its entries may be kept nearer.
    pub tells: bool,
    /// The largest frame it takes, in bytes.
    pub frame_bytes_max: u64,
}

/// What the last change of an entry left behind, whoever made it: equal stamps
/// say that nothing changed in between. It means nothing to another tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryVersion(NonZero<u64>);

/// The frame of an entry, where there is one, and the stamp that it had then.
pub type VersionedFrame = (Option<Bytes>, Option<EntryVersion>);

/// The right to load an entry, for one of all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadLease {
    /// Later leases of the entry have higher numbers.
    pub number: u64,
    /// Whether there is an entry, fresh or not, by now.
    pub present: bool,
}

/// How long a tier that others share remembers a removal: a stamp that was
/// taken longer ago must not be stored by.
pub const REMOVAL_LIFE: Duration = Duration::from_secs(60);

impl EntryVersion {
    /// The stamp with this number; `None` for zero.
    pub fn new(number: u64) -> Option<Self> {
        NonZero::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// A stamp that no entry ever has.
    pub const NONE: Self = Self(NonZero::<u64>::MAX);
}

/// A frame that is being written in parts. No reader sees it, and dropping it
/// leaves nothing behind.
pub struct Upload(Box<dyn Any + Send>);

impl Upload {
    /// What a tier needs to know of the frame in progress.
    pub fn new(state: impl Any + Send) -> Self {
        Self(Box::new(state))
    }

    /// The state, for the tier that made it.
    pub fn state<T: Any>(&mut self) -> Result<&mut T> {
        self.0.downcast_mut().ok_or_else(foreign_draft)
    }

    /// The state itself, for the tier that made it.
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

/// Whose the last removal of an entry is that a tier remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRemoval {
    /// No removal is remembered.
    None,
    /// It was made through this value of the tier.
    Own,
    /// Another process made it, or it is not known who did.
    Other,
}

/// How much a tier holds: local and approximate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries.
    pub entries: u64,
    /// Bytes, as the tier accounts for them: weights in memory (zero where it
    /// is bounded by entries), bytes of files on disk.
    pub bytes: u64,
    /// Entries the tier dropped by itself to keep its budget, since it was opened.
    pub evictions: u64,
}

/// A place that holds frames by key.
///
/// A tier never decodes a value. It may read the fixed part of a frame to
/// recover its own index. It sees keys encoded, and must not trust that the
/// digest of a key is unique: the caller compares the key in the frame.
///
/// The methods are `async` in an object-safe way. A tier that blocks says so
/// in its [`Capability`] and does its work in the first poll.
///
/// # Behavior
/// - `get` after an acknowledged `put` of the same key returns the frame of
///   that `put`, byte for byte, until it is replaced, removed, cleared or evicted.
/// - `get` after an acknowledged `remove` or `clear` returns `None`.
/// - A failure is an error, never `None`: absence and trouble are told apart.
/// - Concurrent calls on different keys never disturb one another. Calls on
///   one key are ordered by the caller.
/// - A `put` that fails leaves the former frame or none, never half a frame.
/// - After `close` every other call fails with `ErrorKind::Closed`; a second
///   `close` succeeds. `usage` answers zero.
/// - Dropped without a `close` it does the same, and logs what fails. It is
///   dropped on a thread that may block.
/// - Nothing panics, whatever lies on the medium.
pub trait Tier: Send + Sync + 'static {
    /// Which kind of place this is.
    fn kind(&self) -> TierKind;

    /// What it can do. Constant over the life of the tier.
    fn capability(&self) -> Capability;

    /// The whole frame of `key`, or `None` when there is none.
    ///
    /// # Behavior
    /// - Returns bytes as they lie on the medium; the caller verifies them.
    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// The beginning of the frame of `key`, all of its head at least.
    ///
    /// Costs no more than [`get`](Self::get), which it is unless a tier can do
    /// with less.
    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.get(key)
    }

    /// Stores `frame` under `key`, in place of what was there.
    ///
    /// # Behavior
    /// - Fails with `ErrorKind::TooLarge` above `frame_bytes_max`, with
    ///   `ErrorKind::Full` when there is no room; nothing is stored then.
    /// - A tier with stamps stores nothing, and succeeds, when the
    ///   [`base`](EncodedKey::base) of the key is not its stamp any more: that
    ///   is as if the later change had come right after.
    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>>;

    /// The frame of `key`, to be read in parts.
    ///
    /// # Behavior
    /// - What was opened stays what it was while the entry is replaced,
    ///   removed, evicted or cleared, and after the tier is closed.
    /// - A tier that streams does not read the payload here.
    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        Box::pin(async move {
            let stored =
                |whole: Bytes| Stored { len: whole.len() as u64, medium: Box::new(Cursor::new(whole)) };
            Ok(self.get(key).await?.map(stored))
        })
    }

    /// Begins a frame for `key` that comes in parts, with room for a head of
    /// `head_len` bytes at its front.
    ///
    /// # Behavior
    /// - A tier that does not stream fails with `ErrorKind::Unsupported`.
    /// - Neither the former entry nor any reader notices before
    ///   [`publish`](Tier::publish).
    fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        let _ = (key, head_len);
        let kind = self.kind();
        Box::pin(async move { Err(does_not_stream(kind)) })
    }

    /// Adds `bytes` to what follows the head of a frame.
    ///
    /// # Behavior
    /// - Fails with `ErrorKind::TooLarge` when the frame would be above
    ///   `frame_bytes_max`, with `ErrorKind::Full` when there is no room. The
    ///   draft is of no use then.
    fn append<'a>(&'a self, draft: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        let _ = (draft, bytes);
        let kind = self.kind();
        Box::pin(async move { Err(does_not_stream(kind)) })
    }

    /// Writes the head, which is as long as was said, and stores the frame
    /// under `key` in place of what was there.
    ///
    /// # Behavior
    /// - As [`put`](Tier::put) from here on.
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

    /// The stamp of `key` now; `None` where the tier has none, and while some
    /// process changes the entry. May block for some microseconds.
    ///
    /// # Behavior
    /// - A frame that was read after a stamp was taken is still the frame of
    ///   `key` whenever the stamp is the same again.
    /// - A change by any process that was acknowledged before is in the stamp.
    fn stamp(&self, key: &EncodedKey) -> Option<EntryVersion> {
        let _ = key;
        None
    }

    /// Removes the entry; whether there was one.
    ///
    /// # Behavior
    /// - Removing what is absent succeeds, returns false, and costs no more
    ///   than a look-up.
    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>>;

    /// Whether there is an entry, without reading its payload.
    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>>;

    /// Removes every entry.
    fn clear(&self) -> BoxFuture<'_, Result<()>>;

    /// Calls `visit` with the head of each frame (fixed part, key and tags;
    /// more may follow), in no order.
    ///
    /// # Behavior
    /// - Entries that stay put during the scan are visited exactly once.
    /// - Entries that come or go meanwhile may be visited or not.
    /// - What cannot be read is passed over.
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>>;

    /// What it holds now: local, approximate, without I/O where that can be had.
    fn usage(&self) -> Usage;

    /// What its servers say of themselves, as far as is known, without I/O.
    fn servers(&self) -> Vec<ServerFacts> {
        Vec::new()
    }

    /// Hands what is buffered to the operating system.
    ///
    /// # Behavior
    /// - What was acknowledged before is there when the tier is opened again,
    ///   also after the process is killed.
    fn flush(&self) -> BoxFuture<'_, Result<()>>;

    /// Flushes, and lets go of files, locks and threads.
    fn close(&self) -> BoxFuture<'_, Result<()>>;

    /// Removes every entry, and whatever is kept beside them where others could
    /// find it, and closes the tier.
    ///
    /// # Behavior
    /// - As [`clear`](Tier::clear) and [`close`](Tier::close), which it is
    ///   unless a tier leaves something behind then.
    /// - The tier is closed also where not all of it could be removed.
    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let cleared = self.clear().await;
            cleared.and(self.close().await)
        })
    }

    /// The frames of `keys`, each as [`get`](Self::get) gives it, in the order
    /// of the keys.
    ///
    /// # Behavior
    /// - As many results as keys; one may fail while others do not.
    /// - One key after another, unless a tier can do with fewer round trips.
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
    /// - As many results as entries; one may fail while others do not.
    /// - Of two entries with one key the later one stays.
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
    /// - As many results as keys; one may fail while others do not.
    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(async move {
            let mut removed = Vec::with_capacity(keys.len());
            for key in keys {
                removed.push(self.remove(key).await);
            }
            removed
        })
    }

    /// The frame of `key` as [`get`](Self::get) gives it, with the stamp it had
    /// then. Who stores with the key [based](EncodedKey::based_on) on that stamp
    /// never overwrites a change that came after.
    fn get_versioned<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<VersionedFrame>> {
        Box::pin(async move {
            let stamp = self.stamp(key);
            Ok((self.get(key).await?, stamp))
        })
    }

    /// The frames of `keys` with their stamps, each as
    /// [`get_versioned`](Self::get_versioned) gives it, in the order of the keys.
    ///
    /// # Behavior
    /// - As many results as keys; one may fail while others do not.
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

    /// Stores `frame` where the stamp of the entry still is the
    /// [base](EncodedKey::base) of the key; whether it was stored. One step
    /// among all who share the tier.
    ///
    /// # Behavior
    /// - Of several with one base at most one succeeds.
    /// - A removal changes the stamp, also of an entry that is not there.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` where a tier has no such step: where callers
    /// are in one process, they order their calls themselves.
    fn put_if_unchanged<'a>(
        &'a self,
        _key: &'a EncodedKey,
        _frame: &'a Frame,
    ) -> BoxFuture<'a, Result<bool>> {
        unsupported(self.kind(), "put_if_unchanged")
    }

    /// Stores frames, each as [`put_if_unchanged`](Self::put_if_unchanged) does,
    /// in order; which were stored.
    ///
    /// # Behavior
    /// - As many results as entries; one may fail while others do not. The
    ///   entries are one step each, not all together.
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

    /// Takes the right to load the entry for `span`; `None` while somebody else
    /// has it. One step among all who share the tier.
    ///
    /// # Errors
    /// As [`put_if_unchanged`](Self::put_if_unchanged).
    fn lease_load<'a>(
        &'a self,
        _key: &'a EncodedKey,
        _span: Duration,
    ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
        unsupported(self.kind(), "lease_load")
    }

    /// Takes the rights to load entries, each as [`lease_load`](Self::lease_load)
    /// does, in order.
    ///
    /// # Behavior
    /// - As many results as keys; one may fail while others do not. Waits for
    ///   none that somebody else has.
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

    /// Gives up leases, by their numbers, as far as they still are these. Does
    /// not wait for that.
    fn release_loads(&self, _leases: Vec<(EncodedKey, u64)>) {}

    /// A number that changes when the tier is cleared by others, or loses what
    /// it held, as of the last answer about this key. Zero where there is none.
    fn era(&self, _key: &EncodedKey) -> u64 {
        0
    }

    /// The present time by the one clock that all who share the tier go by, of the
    /// server that holds `key`; told without I/O. `None` where there is no such
    /// clock, or nothing is known of it yet.
    ///
    /// # Behavior
    /// - No clock of a node has a part in it: setting those changes nothing.
    /// - An entry leaves the tier by this clock.
    fn shared_time(&self, _key: &EncodedKey) -> Option<Time> {
        None
    }

    /// Whose the last removal of an entry is, as of when [`get_versioned`](Self::get_versioned)
    /// `found` it so. A process recognises its own removals by this, those included
    /// whose answers were lost. No I/O.
    fn last_removal(&self, _key: &EncodedKey, _found: &VersionedFrame) -> LastRemoval {
        LastRemoval::Other
    }

    /// Removes the entry and returns its frame, to one of all who share the tier.
    ///
    /// # Errors
    /// As [`put_if_unchanged`](Self::put_if_unchanged).
    fn take<'a>(&'a self, _key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        unsupported(self.kind(), "take")
    }

    /// Whether there surely is no entry of `key`, told without I/O and without
    /// waiting; false where that cannot be told. What blocks is then not called
    /// for nothing.
    ///
    /// # Behavior
    /// - Never true for an entry whose put was acknowledged, unless it was
    ///   removed or evicted since. Of one that is being stored now, either.
    fn lacks(&self, _key: &EncodedKey) -> bool {
        false
    }

    /// Why it cannot be used now, in a sentence for people; `None` while it can be, and
    /// of a tier that cannot tell. Told without I/O.
    fn trouble(&self) -> Option<Arc<str>> {
        None
    }

    /// Whether it can be used now, as far as it knows. Costs an atomic read at
    /// most; the selector asks once a write.
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
