//! Writes of this node to the shared tier.
//!
//! A write without an answer may have been applied, and an answered one may still be in
//! the tier. An entry found there later can therefore be this node's own earlier write,
//! which a later write of this node may replace.

use std::sync::atomic::{AtomicUsize, Ordering};

use larder_core::key::EncodedKey;
use parking_lot::Mutex;

/// By digest, which is spread already: a cheap hash does.
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Limit on keys with unanswered writes. A tier that fails this often is soon no longer
/// asked.
const KEYS_MAX: usize = 10_000;
/// Unanswered writes of one key that are remembered; beyond that the oldest is dropped.
const WRITES_MAX: usize = 16;
/// Answered writes that are remembered; beyond that half of them are dropped.
const ANSWERED_MAX: usize = 4096;

/// The identities of written entries by key digest, oldest first.
#[derive(Default)]
pub(crate) struct OwnWrites {
    writes: Mutex<HashMap<u128, Vec<u64>>>,
    len: AtomicUsize,
    /// The last answered write of a key, unless an answered removal followed.
    answered: Mutex<HashMap<u128, u64>>,
}

impl OwnWrites {
    /// Notes a write without an answer: the entry with this identity may be stored.
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

    /// Notes an answered write: the entry with this identity was stored.
    pub(crate) fn note_answered(&self, key: &EncodedKey, identity: u64) {
        self.forget_unanswered(key);
        let mut answered = self.answered.lock();
        if answered.len() >= ANSWERED_MAX {
            let mut keeps = false;
            answered.retain(|_, _| {
                keeps = !keeps;
                keeps
            });
        }
        answered.insert(key.digest(), identity);
    }

    /// Whether this node wrote the entry with this identity.
    pub(crate) fn has(&self, key: &EncodedKey, identity: u64) -> bool {
        let is_unanswered = self.len.load(Ordering::Acquire) > 0
            && self.writes.lock().get(&key.digest()).is_some_and(|writes| writes.contains(&identity));
        is_unanswered || self.answered.lock().get(&key.digest()) == Some(&identity)
    }

    /// Forgets the writes of a key after an answered removal.
    pub(crate) fn forget(&self, key: &EncodedKey) {
        self.forget_unanswered(key);
        self.answered.lock().remove(&key.digest());
    }

    /// Costs one atomic load while no write is noted.
    fn forget_unanswered(&self, key: &EncodedKey) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut writes = self.writes.lock();
        writes.remove(&key.digest());
        self.len.store(writes.len(), Ordering::Release);
    }

    /// Forgets all writes after an answered clear of the tier.
    pub(crate) fn forget_all(&self) {
        let mut writes = self.writes.lock();
        writes.clear();
        self.len.store(0, Ordering::Release);
        self.answered.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_write_of_a_key_is_dropped_above_the_limit() {
        let (own, key) = (OwnWrites::default(), EncodedKey::new([1]));
        (0..=WRITES_MAX as u64).for_each(|identity| own.note(&key, identity));
        assert!(!own.has(&key, 0) && own.has(&key, 1));
        assert!(own.has(&key, WRITES_MAX as u64) && !own.has(&EncodedKey::new([2]), 1));
        own.note_answered(&key, 50);
        assert!(!own.has(&key, 1) && own.has(&key, 50));
        own.note(&key, 51);
        assert!(own.has(&key, 50) && own.has(&key, 51), "either may be there");
        own.forget(&key);
        assert!(!own.has(&key, 50) && !own.has(&key, 51));
    }

    #[test]
    fn answered_writes_are_bounded() {
        let own = OwnWrites::default();
        for number in 0..=ANSWERED_MAX as u64 {
            own.note_answered(&EncodedKey::new(number.to_le_bytes()), number);
        }
        assert!(own.answered.lock().len() <= ANSWERED_MAX / 2 + 1);
    }
}
