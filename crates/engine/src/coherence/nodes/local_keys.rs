//! Versions that the shared tier reported when this node stored an entry locally only.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use larder_core::key::EncodedKey;
use larder_core::tier::EntryVersion;
use parking_lot::Mutex;

/// Number of keys above which old versions are dropped. Above four times this number no more are
/// noted.
const NOTED_MAX: usize = 4096;

/// Versions of locally stored entries, by key digest. They count while the shared tier may remember
/// that this node removed its own entry.
pub(super) struct LocalKeys {
    noted: Mutex<HashMap<u128, (EntryVersion, Instant)>>,
    /// How long the shared tier remembers a removal.
    remembered: Duration,
}

impl LocalKeys {
    pub(super) fn new(remembered: Duration) -> Self {
        Self { noted: Mutex::default(), remembered }
    }

    pub(super) fn note(&self, key: &EncodedKey, version: EntryVersion) {
        let mut noted = self.noted.lock();
        if noted.len() >= NOTED_MAX {
            noted.retain(|_, (_, at)| at.elapsed() < self.remembered);
        }
        if noted.len() < 4 * NOTED_MAX {
            noted.insert(key.digest(), (version, Instant::now()));
        }
    }

    pub(super) fn forget(&self, key: &EncodedKey) {
        self.noted.lock().remove(&key.digest());
    }

    /// Whether the shared tier still reports the version that was noted.
    pub(super) fn is_same(&self, key: &EncodedKey, version: Option<EntryVersion>) -> bool {
        self.noted.lock().get(&key.digest()).is_some_and(|(then, _)| Some(*then) == version)
    }
}
