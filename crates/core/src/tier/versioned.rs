//! Versions of entries, and writes that require one.

use std::num::NonZero;

use super::BoxFuture;
use crate::Result;
use crate::frame::Frame;
use crate::key::EncodedKey;

/// The version of an entry in one tier. Each change of the entry, by any process, gives it another version;
/// an equal version means that the entry did not change. A version has no meaning in another tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryVersion(NonZero<u64>);

impl EntryVersion {
    /// The version with this number; `None` for zero.
    pub fn new(number: u64) -> Option<Self> {
        NonZero::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// The condition and the extent of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutOptions {
    /// The version that the entry must still have.
    pub if_version: EntryVersion,
    /// Whether the write changes the entry for all versions of the program that share the tier. A loaded
    /// value applies only to the version of the program that loaded it.
    pub all_program_versions: bool,
}

impl PutOptions {
    /// A write that requires this version, for this version of the program alone.
    pub fn if_version(version: EntryVersion) -> Self {
        Self { if_version: version, all_program_versions: false }
    }
}

/// One write of a batch of conditional writes.
#[derive(Clone, Debug)]
pub struct ConditionalPut {
    /// The key.
    pub key: EncodedKey,
    /// The new frame.
    pub frame: Frame,
    /// The condition and the extent of the write.
    pub options: PutOptions,
}

/// A tier that several processes of one machine change, and whose versions cost no I/O.
///
/// The tier reports no changes. A copy of an entry is made with the version from before the read, and
/// serves while the tier still has that version.
pub trait VersionedTier: Send + Sync + 'static {
    /// Returns the current version of `key`; `None` while a process is changing the entry.
    ///
    /// # Behavior
    /// - If a frame is read after its version, it is still the frame of `key` as long as the version is the
    ///   same.
    /// - The version reflects every change, by any process, that was acknowledged before the call.
    /// - A removal changes the version, even if the entry is absent.
    /// - Blocks for a few microseconds at most.
    fn version(&self, key: &EncodedKey) -> Option<EntryVersion>;

    /// Stores `frame` if the entry still has the version that `options` requires; returns whether it was
    /// stored.
    ///
    /// # Behavior
    /// - Of several calls with the same version at most one succeeds, among all processes.
    /// - Fails as [`put`](super::Tier::put) does.
    fn compare_and_set<'a>(
        &'a self,
        key: &'a EncodedKey,
        frame: &'a Frame,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<bool>>;
}
