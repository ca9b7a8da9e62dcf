//! Writes of this node to the tier that nodes share whose answers were lost.
//!
//! Such a write may have been applied. What is found in the tier later is then
//! this node's own earlier change, not the change of another node, and a later
//! change of this node replaces it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_core::key::EncodedKey;
use parking_lot::Mutex;

/// Keys that are remembered; beyond that the tier is not asked for long anyway.
const KEYS_MAX: usize = 10_000;
/// Writes of one key that are remembered; the oldest are forgotten beyond that.
const WRITES_MAX: usize = 16;

/// By the digest of the key, the entries that were written, oldest first.
#[derive(Default)]
pub(crate) struct Unanswered {
    writes: Mutex<HashMap<u128, Vec<u64>>>,
    len: AtomicUsize,
}

impl Unanswered {
    /// It is not known whether the entry with this identity was stored.
    pub(crate) fn note(&self, key: &EncodedKey, identity: u64) {
        let mut writes = self.writes.lock();
        if writes.len() >= KEYS_MAX && !writes.contains_key(&key.digest()) {
            return;
        }
        let of_key = writes.entry(key.digest()).or_default();
        if of_key.len() >= WRITES_MAX {
            of_key.remove(0);
        }
        of_key.push(identity);
        self.len.store(writes.len(), Ordering::Release);
    }

    /// Whether the entry with this identity is such a write.
    pub(crate) fn has(&self, key: &EncodedKey, identity: u64) -> bool {
        self.len.load(Ordering::Acquire) > 0
            && self.writes.lock().get(&key.digest()).is_some_and(|writes| writes.contains(&identity))
    }

    /// A later change of the entry was answered. Costs a load while nothing is noted.
    pub(crate) fn forget(&self, key: &EncodedKey) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut writes = self.writes.lock();
        writes.remove(&key.digest());
        self.len.store(writes.len(), Ordering::Release);
    }

    /// A later clear of the tier was answered.
    pub(crate) fn forget_all(&self) {
        let mut writes = self.writes.lock();
        writes.clear();
        self.len.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_write_of_a_key_is_forgotten_beyond_the_bound() {
        let (unanswered, key) = (Unanswered::default(), EncodedKey::new([1]));
        (0..=WRITES_MAX as u64).for_each(|identity| unanswered.note(&key, identity));
        assert!(!unanswered.has(&key, 0) && unanswered.has(&key, 1));
        assert!(unanswered.has(&key, WRITES_MAX as u64) && !unanswered.has(&EncodedKey::new([2]), 1));
        unanswered.forget(&key);
        assert!(!unanswered.has(&key, 1));
    }
}
