//! Verifies stored frames.

#[cfg(any(feature = "disk", feature = "file"))]
use larder_core::{
    Bytes,
    frame::{Head, open},
    key::EncodedKey,
};

/// The result of verifying every entry of a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryCheck {
    /// Entries whose frame is whole, with correct checksums, under its own key.
    pub whole: u64,
    /// Entries that every reader refuses.
    pub damaged: u64,
}

impl EntryCheck {
    /// Counts one entry.
    pub(crate) fn count(&mut self, is_whole: bool) {
        *(if is_whole { &mut self.whole } else { &mut self.damaged }) += 1;
    }
}

/// The key of a frame; `None` if the frame is not whole. Costs a checksum over all bytes.
#[cfg(any(feature = "disk", feature = "file"))]
pub(crate) fn verified_key(frame: &Bytes) -> Option<EncodedKey> {
    let key = EncodedKey::new(Head::parse(frame).ok()?.key);
    open(frame, &key).ok().map(|_| key)
}
