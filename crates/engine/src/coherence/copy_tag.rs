//! What confirms a copy in memory among nodes: the window that it was read in, and the entry that it
//! copies.

use larder_core::tier::EntryVersion;

/// Low bits of a [`CopyTag`] that identify the entry; the other bits are the epoch.
const IDENTITY_BITS: u32 = 44;
const IDENTITY: u64 = (1 << IDENTITY_BITS) - 1;

/// The tag of a copy in memory: the epoch it was read in, and the identity of the entry
/// it copies.
#[derive(Clone, Copy)]
pub(crate) struct CopyTag(u64);

impl CopyTag {
    /// Returns the tag for a copy that is read in this epoch of copies.
    pub(crate) fn at(epoch: u64) -> Self {
        Self(epoch_bits(epoch) << IDENTITY_BITS)
    }

    /// Whether a copy with this tag was read in this epoch of copies.
    pub(crate) fn is_of(copy_tag: EntryVersion, epoch: u64) -> bool {
        copy_tag.get() >> IDENTITY_BITS == epoch_bits(epoch)
    }

    /// A tag of no epoch: a copy with it is never confirmed.
    pub(crate) const UNHEARD: Self = Self(0);

    /// Returns the tag, as a version, for a copy of the entry with this identity.
    pub(crate) fn of(self, identity: u64) -> Option<EntryVersion> {
        EntryVersion::new(self.0 | identity & IDENTITY)
    }

    /// Returns the epoch part of a tag.
    pub(crate) fn from(version: EntryVersion) -> Self {
        Self(version.get() & !IDENTITY)
    }

    /// Returns the identity part of a tag.
    pub(crate) fn identity(copy_tag: EntryVersion) -> u64 {
        copy_tag.get() & IDENTITY
    }
}

/// Returns the bits of an epoch that a tag has room for. Never zero, so that the tag is a valid
/// `EntryVersion`.
fn epoch_bits(epoch: u64) -> u64 {
    (epoch & (u64::MAX >> IDENTITY_BITS)).max(1)
}

/// In the place of an identity: a removal.
pub(crate) const REMOVAL: u64 = 0;

/// Returns the identity of the entry in a frame: the low bits of the checksum of its
/// head.
pub(crate) fn identity(frame: &[u8]) -> u64 {
    const AT: usize = larder_core::frame::FIXED_LEN - 8;
    let sum = frame.get(AT..).and_then(|sum| sum.first_chunk()).copied();
    u64::from_le_bytes(sum.unwrap_or_default()) & IDENTITY
}
