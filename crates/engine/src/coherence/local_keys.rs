//! Versions that the shared tier reported when this node stored an entry locally only.

use std::collections::HashMap;
use std::time::Instant;

use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, REMOVAL_LIFE};
use parking_lot::Mutex;

/// Number of keys above which versions older than `REMOVAL_LIFE` are dropped. Above four
/// times this number no more are noted.
const NOTED_MAX: usize = 4096;

/// Versions of locally stored entries, by key digest. They count while the shared tier
/// may remember that this node removed its own entry.
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

    /// Whether the shared tier still reports the version that was noted.
    pub(super) fn is_same(&self, key: &EncodedKey, stamp: Option<EntryVersion>) -> bool {
        self.0.lock().get(&key.digest()).is_some_and(|(then, _)| Some(*then) == stamp)
    }
}
