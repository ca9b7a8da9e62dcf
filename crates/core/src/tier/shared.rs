//! A tier that nodes share.

use std::time::Duration;

use bytes::Bytes;

use super::{BoxFuture, ConditionalPut, EntryVersion, PutOptions, one_by_one};
use crate::Result;
use crate::clock::Time;
use crate::frame::Frame;
use crate::key::EncodedKey;

/// What a shared tier has of an entry: its frame and its version, read in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedFrame {
    /// The frame, if the entry exists.
    pub frame: Option<Bytes>,
    /// The version; `None` if the tier cannot tell it now.
    pub version: Option<EntryVersion>,
    /// The origin of the last removal that the tier remembers.
    pub last_removal: LastRemoval,
}

impl VersionedFrame {
    /// What a read found that did not ask for a version.
    pub fn unversioned(frame: Option<Bytes>) -> Self {
        Self { frame, version: None, last_removal: LastRemoval::Other }
    }
}

/// The origin of the last removal of an entry that a tier remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRemoval {
    /// The tier remembers no removal.
    None,
    /// This instance of the tier made the removal, even if its reply was lost.
    Own,
    /// An outdated entry was removed, which no caller asked for. Its identity, as the node that removed it
    /// gave it.
    Outdated(u32),
    /// Another process made it, or the origin is unknown.
    Other,
}

/// Why an entry is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalCause {
    /// A caller asked for it.
    Requested,
    /// An invalidation ended the entry with this identity. A node that is still writing the entry learns from
    /// the identity that no caller removed it, and writes it again.
    Outdated(u32),
}

/// The lease to load one entry, held by one node at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadLease {
    /// A number that increases with each lease of the entry.
    pub number: u64,
    /// Whether the entry now exists, fresh or not.
    pub present: bool,
}

/// A number that changes when others clear the tier, or when the tier loses its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionEpoch(pub u64);

/// A tier that nodes share, with what they need to agree on its entries.
///
/// Every operation is atomic among all nodes. The entries of a batch are atomic one by one, the batch is
/// not.
///
/// # Behavior
/// - Every change of an entry gives it another version: a write, a removal, also of an absent entry, and a
///   clear.
/// - A version that was read longer ago than [`removals_remembered`](Self::removals_remembered) must not be
///   required of a write: an entry may have been written and removed since, and have that version again.
pub trait SharedTier: Send + Sync + 'static {
    /// Reads the frame of `key` as [`get`](super::Tier::get) does, with the version that it had then.
    ///
    /// # Behavior
    /// - A write that requires this version never overwrites a later change.
    fn get_versioned<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<VersionedFrame>>;

    /// Reads the frames of `keys` with their versions, each as [`get_versioned`](Self::get_versioned) does,
    /// in the order of the keys.
    ///
    /// # Behavior
    /// - Returns one result per key; each may fail on its own.
    fn get_many_versioned<'a>(
        &'a self,
        keys: &'a [EncodedKey],
    ) -> BoxFuture<'a, Vec<Result<VersionedFrame>>> {
        one_by_one(keys, |key| self.get_versioned(key))
    }

    /// Stores `frame` if the entry still has the version that `options` requires; returns whether it was
    /// stored.
    ///
    /// # Behavior
    /// - Of several calls with the same version at most one succeeds.
    /// - Fails as [`put`](super::Tier::put) does.
    fn compare_and_set<'a>(
        &'a self,
        key: &'a EncodedKey,
        frame: &'a Frame,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<bool>>;

    /// Stores frames, each as [`compare_and_set`](Self::compare_and_set) does, in order.
    ///
    /// # Behavior
    /// - Returns one result per entry; each may fail on its own.
    fn compare_and_set_many<'a>(&'a self, puts: &'a [ConditionalPut]) -> BoxFuture<'a, Vec<Result<bool>>> {
        one_by_one(puts, |put| self.compare_and_set(&put.key, &put.frame, put.options))
    }

    /// Removes the entry if it still has this version; returns whether it did.
    ///
    /// # Behavior
    /// - Of several calls of this and of [`compare_and_set`](Self::compare_and_set) with the same version at
    ///   most one succeeds, also for an absent entry.
    /// - A requested removal is remembered as that of [`remove`](super::Tier::remove), the removal of an
    ///   outdated entry as [`LastRemoval::Outdated`].
    fn compare_and_remove<'a>(
        &'a self,
        key: &'a EncodedKey,
        if_version: EntryVersion,
        cause: RemovalCause,
    ) -> BoxFuture<'a, Result<bool>>;

    /// Removes the entry and returns its frame.
    ///
    /// # Behavior
    /// - Of concurrent callers on all nodes, one receives the frame.
    fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// Takes the lease to load the entry for `span`; `None` while another caller holds it.
    ///
    /// # Behavior
    /// - A lease ends when it is released, when `span` is over, or soon after its holder is gone.
    fn lease_load<'a>(
        &'a self,
        key: &'a EncodedKey,
        span: Duration,
    ) -> BoxFuture<'a, Result<Option<LoadLease>>>;

    /// Takes leases to load entries, each as [`lease_load`](Self::lease_load) does, in order.
    ///
    /// # Behavior
    /// - Returns one result per key; each may fail on its own. Does not wait for leases that others hold.
    fn lease_loads<'a>(
        &'a self,
        keys: &'a [EncodedKey],
        span: Duration,
    ) -> BoxFuture<'a, Vec<Result<Option<LoadLease>>>> {
        one_by_one(keys, move |key| self.lease_load(key, span))
    }

    /// Releases leases, by key and lease number.
    ///
    /// # Behavior
    /// - A lease that has passed to another holder is left alone.
    /// - Returns without waiting for the release.
    fn release_loads(&self, leases: Vec<(EncodedKey, u64)>);

    /// Returns the epoch of the partition of `key`, as of the last answer about it.
    ///
    /// # Behavior
    /// - Without I/O.
    fn epoch(&self, key: &EncodedKey) -> PartitionEpoch;

    /// Returns the present time of the server that holds `key`: the one clock that all nodes use. `None` if
    /// there is no such clock, or if it has not been read yet.
    ///
    /// # Behavior
    /// - Without I/O. Independent of the clocks of the nodes: setting those changes nothing.
    /// - Entries expire from the tier by this clock.
    fn server_time(&self, key: &EncodedKey) -> Option<Time>;

    /// Returns how long the tier remembers a removal. Constant over the life of the tier.
    ///
    /// # Behavior
    /// - Within this time, [`get_versioned`](Self::get_versioned) tells that there was a removal.
    fn removals_remembered(&self) -> Duration;
}
