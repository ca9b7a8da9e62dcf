//! How entries stood in the tier of all nodes when this node stored them for itself.

use std::collections::HashMap;
use std::time::Instant;

use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, REMOVAL_LIFE};
use parking_lot::Mutex;

/// Entries that are noted before those are dropped whose removal is forgotten.
const NOTED_MAX: usize = 4096;

/// The stamps of entries of this node alone, as long as the tier may remember
/// that this node removed what was there.
#[derive(Default)]
pub(super) struct Apart(Mutex<HashMap<u128, (EntryVersion, Instant)>>);

impl Apart {
    pub(super) fn note(&self, key: &EncodedKey, stamp: EntryVersion) {
        let mut noted = self.0.lock();
        if noted.len() >= NOTED_MAX {
            noted.retain(|_, (_, at)| at.elapsed() < REMOVAL_LIFE);
        }
        if noted.len() < 4 * NOTED_MAX {
            noted.insert(key.digest(), (stamp, Instant::now()));
        }
    }

    /// Whether the entry still stands as it did.
    pub(super) fn is_same(&self, key: &EncodedKey, stamp: Option<EntryVersion>) -> bool {
        self.0.lock().get(&key.digest()).is_some_and(|(then, _)| Some(*then) == stamp)
    }
}
