//! The contracts of tiers that store bytes.
//!
//! [`Tier`] is what every tier has; about ten methods need code. What only some tiers can do is a
//! trait of its own, reached through an accessor: [`StreamingTier`] takes and serves frames in
//! parts, [`BlockingTier`] answers without a future, [`VersionedTier`] shows changes by other processes of the machine, [`SharedTier`] is
//! shared by nodes. A [`Layer`] is a tier around a tier.

mod blocking;
mod call;
#[doc(hidden)]
pub mod forward;
mod kind;
mod layer;
mod options;
mod shared;
mod streaming;
mod versioned;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::frame::Frame;
use crate::key::EncodedKey;
use crate::stats::ServerFacts;
use crate::{Error, ErrorKind, Result};

pub use crate::forward_tier;
pub use blocking::BlockingTier;
pub use call::{BatchItem, Call, Operation, OperationClass, TierReply};
pub use kind::{Position, TierKind, TierName};
pub use layer::Layer;
pub use options::{FailedWrites, TierOptions};
pub use shared::{LastRemoval, LoadLease, PartitionEpoch, RemovalCause, SharedTier, VersionedFrame};
pub use streaming::{StreamingTier, Upload};
pub use versioned::{ConditionalPut, EntryVersion, PutOptions, VersionedTier};

/// A boxed future, the return type of object-safe async methods.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a tier can do, apart from what its accessors show. An implementation declares it, the
/// conformance suite checks it, and the selector filters by it.
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
    /// The largest frame that it accepts, in bytes.
    pub frame_bytes_max: u64,
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
/// A method with a default body is an optimisation or an ability: a tier overrides it where it can do
/// better.
///
/// # Behavior
/// - `get` after an acknowledged `put` of the same key returns the frame of that `put`, byte for byte, until
///   it is replaced, removed, cleared or evicted.
/// - `get` after an acknowledged `remove` or `clear` returns `None`.
/// - A failure is an error, never `None`: `None` means only that the entry is absent.
/// - Concurrent calls on different keys do not affect one another. The caller orders the calls on one key.
/// - A `put` that fails leaves the former frame or none, never part of a frame.
/// - The future of a call may be dropped before it is ready, at its time limit or with its caller. The call may
///   still take effect, but not after a later call on the same key.
/// - After `close` every other call fails with `ErrorKind::Closed`; a second `close` succeeds. `usage`
///   returns zero.
/// - Dropping an open tier does the same as `close`, and logs failures. It is dropped on a thread that may
///   block.
/// - No method panics, whatever bytes the medium holds.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tier",
    label = "does not implement `larder::Tier`"
)]
pub trait Tier: Send + Sync + 'static {
    /// The identity of the tier in its cache. A tier of your own has a kind of its own, by
    /// [`TierKind::own`].
    ///
    /// # Behavior
    /// - Constant over the life of the tier.
    fn kind(&self) -> TierKind;

    /// What the tier can do.
    ///
    /// # Behavior
    /// - Constant over the life of the tier, as are the accessors [`streaming`](Self::streaming),
    ///   [`blocking`](Self::blocking), [`versioned`](Self::versioned) and [`shared`](Self::shared).
    fn capability(&self) -> Capability;

    /// Reads the whole frame of `key`; `None` if there is none.
    ///
    /// # Behavior
    /// - Returns the bytes as they are on the medium; the caller verifies them.
    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// Reads the beginning of the frame of `key`, at least its whole head.
    ///
    /// # Behavior
    /// - Costs no more than [`get`](Self::get), which the default calls.
    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.get(key)
    }

    /// Stores `frame` under `key` and replaces the former entry.
    ///
    /// # Behavior
    /// - Fails with `ErrorKind::TooLarge` above `frame_bytes_max`, and with `ErrorKind::Full` if there is no
    ///   room; nothing is stored then.
    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>>;

    /// Removes the entry; returns whether there was one.
    ///
    /// # Behavior
    /// - Removing an absent entry succeeds, returns false, and costs no more than a look-up.
    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>>;

    /// Returns whether there is an entry.
    ///
    /// # Behavior
    /// - Costs no more than [`head`](Self::head), which the default calls.
    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { Ok(self.head(key).await?.is_some()) })
    }

    /// Removes every entry.
    ///
    /// # Behavior
    /// - An entry that is put during the call may stay or go.
    fn clear(&self) -> BoxFuture<'_, Result<()>>;

    /// Calls `visit` with the head of each frame (fixed part, key and tags; more bytes may follow), in no
    /// particular order.
    ///
    /// # Behavior
    /// - Visits each entry that does not change during the scan exactly once.
    /// - May visit or miss entries that are added or removed during the scan.
    /// - Skips frames that cannot be read.
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>>;

    /// Returns how much the tier holds now.
    ///
    /// # Behavior
    /// - Local to this process and approximate; without I/O where possible.
    fn usage(&self) -> Usage;

    /// Hands buffered data to the operating system.
    ///
    /// # Behavior
    /// - Entries acknowledged before the call are there when the tier is reopened, even if the process is
    ///   killed.
    fn flush(&self) -> BoxFuture<'_, Result<()>>;

    /// Flushes, and releases files, locks and threads.
    ///
    /// # Behavior
    /// - A second call succeeds.
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
        one_by_one(keys, |key| self.get(key))
    }

    /// Stores each frame under its key, as [`put`](Self::put) does, in order.
    ///
    /// # Behavior
    /// - Returns one result per entry; each may fail on its own.
    /// - If two entries have the same key, the later one wins.
    fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
        one_by_one(entries, |(key, frame)| self.put(key, frame))
    }

    /// Removes the entries of `keys`, as [`remove`](Self::remove) does, in order.
    ///
    /// # Behavior
    /// - Returns one result per key; each may fail on its own.
    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        one_by_one(keys, |key| self.remove(key))
    }

    /// Returns true if `key` certainly has no entry, without I/O and without waiting; false if this is
    /// unknown. It saves callers a futile blocking call.
    ///
    /// # Behavior
    /// - Never true for an entry whose put was acknowledged, unless it was removed or evicted since. While a
    ///   put is in progress, either answer is possible.
    fn lacks(&self, key: &EncodedKey) -> bool {
        let _unknown = key;
        false
    }

    /// Returns what the servers of the tier last reported about themselves.
    ///
    /// # Behavior
    /// - Without I/O. Empty for a tier without servers, and before the first report.
    fn servers(&self) -> Vec<ServerFacts> {
        Vec::new()
    }

    /// Returns why the tier cannot be used now, as a sentence for people.
    ///
    /// # Behavior
    /// - `None` while the tier is usable, and for a tier that cannot know. Without I/O.
    fn trouble(&self) -> Option<Arc<str>> {
        None
    }

    /// Returns whether the tier can be used now, as far as it knows.
    ///
    /// # Behavior
    /// - Costs at most an atomic read; the selector calls it once per write.
    fn healthy(&self) -> bool {
        true
    }

    /// Returns the tier as one that takes and serves frames in parts, if it can.
    ///
    /// # Behavior
    /// - Constant over the life of the tier.
    fn streaming(&self) -> Option<&dyn StreamingTier> {
        None
    }

    /// Returns the tier as one that answers on the calling thread without a future, if it can. Callers that
    /// may block use that in place of the futures.
    ///
    /// # Behavior
    /// - Constant over the life of the tier. `None` for a tier that does not block.
    fn blocking(&self) -> Option<&dyn BlockingTier> {
        None
    }

    /// Returns the tier as one whose entries have versions that cost no I/O, if they have. Copies of its
    /// entries in memory are then validated by their versions.
    ///
    /// # Behavior
    /// - Constant over the life of the tier. `None` for a tier that only this process uses.
    fn versioned(&self) -> Option<&dyn VersionedTier> {
        None
    }

    /// Returns the tier as one that nodes share, if it has what they need to agree.
    ///
    /// # Behavior
    /// - Constant over the life of the tier. `None` for a tier that only this process uses.
    fn shared(&self) -> Option<&dyn SharedTier> {
        None
    }
}

/// Runs the calls of a batch one after another.
pub(crate) fn one_by_one<'a, K: Sync, T: Send + 'a>(
    items: &'a [K],
    call: impl Fn(&'a K) -> BoxFuture<'a, Result<T>> + Send + 'a,
) -> BoxFuture<'a, Vec<Result<T>>> {
    Box::pin(async move {
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            results.push(call(item).await);
        }
        results
    })
}

/// The error of an operation that a tier does not have.
fn unsupported(tier: TierKind, operation: Operation) -> Error {
    let message = "the tier does not have this operation";
    Error::new(ErrorKind::Unsupported, message).in_tier(tier).during(operation.name())
}
