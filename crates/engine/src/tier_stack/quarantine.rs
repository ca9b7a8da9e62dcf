//! What may lie in a tier and must not be served: keys whose removal failed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, TierKind};
use parking_lot::Mutex;

use crate::tier_stack::dirty_flag::DirtyFlag;

/// Entries of one tier that may be distrusted before the whole tier is.
const DISTRUSTED_MAX: usize = 10_000;

/// The keys of one tier whose copies are outdated, because a removal did not
/// reach it.
///
/// A key is distrusted until a removal or a write of it succeeds. Beyond
/// `DISTRUSTED_MAX` keys the whole tier is distrusted until it was cleared.
/// The invalidation on the medium says so to the next process: it clears the tier.
///
/// While all is well, asking costs one load.
pub(crate) struct Quarantine {
    tier: TierKind,
    keys: Mutex<HashMap<u128, PendingWrites>>,
    len: AtomicUsize,
    whole: AtomicBool,
    /// Changes that were too many to be remembered one by one.
    given_up: AtomicUsize,
    invalidation: Option<DirtyFlag>,
}

/// A change that the tier did not get.
#[derive(Clone)]
pub(crate) struct PendingWrites {
    pub(crate) key: EncodedKey,
    /// Since when.
    pub(crate) since: Instant,
    /// Which entry the first of the changes replaced, where that is known.
    pub(crate) base: Option<u64>,
    /// The stamp of the entry then, where the tier could be asked for it.
    pub(crate) stamp: Option<EntryVersion>,
    /// The era of the tier then.
    pub(crate) era: u64,
    /// Whether a copy may be in the tier that is out of date.
    outdated: bool,
}

impl Quarantine {
    pub(crate) fn new(tier: TierKind, invalidation: Option<DirtyFlag>) -> Self {
        let whole = invalidation.as_ref().is_some_and(DirtyFlag::was_set);
        let (keys, len) = (Mutex::default(), AtomicUsize::new(0));
        Self { tier, keys, len, whole: AtomicBool::new(whole), given_up: AtomicUsize::new(0), invalidation }
    }

    /// Lets go of the invalidation on the medium.
    pub(crate) fn close(&self) {
        self.invalidation.iter().for_each(DirtyFlag::close);
    }

    /// Whether the whole tier is distrusted.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Whether anything is distrusted.
    pub(crate) fn is_any(&self) -> bool {
        self.len.load(Ordering::Acquire) > 0 || self.is_whole()
    }

    pub(crate) fn covers(&self, key: &EncodedKey) -> bool {
        self.is_whole()
            || self.len.load(Ordering::Acquire) > 0 && self.keys.lock().contains_key(&key.digest())
    }

    /// How many changes were given up since the last call.
    pub(crate) fn take_given_up(&self) -> u64 {
        self.given_up.swap(0, Ordering::Relaxed) as u64
    }

    /// How many changes are owed and will not be made up for.
    pub(crate) fn give_up(&self) -> u64 {
        self.take_given_up() + self.len.load(Ordering::Acquire) as u64
    }

    /// Some of the keys, at most `max`.
    pub(crate) fn some(&self, max: usize) -> Vec<PendingWrites> {
        self.keys.lock().values().take(max).cloned().collect()
    }

    /// What is owed of one key, where that is remembered.
    pub(crate) fn owed(&self, key: &EncodedKey) -> Option<PendingWrites> {
        self.keys.lock().get(&key.digest()).cloned()
    }

    /// Says which entry the outdated copy of `key` was; the first one counts.
    pub(crate) fn note_base(&self, key: &EncodedKey, base: u64) {
        if let Some(owed) = self.keys.lock().get_mut(&key.digest()) {
            owed.base.get_or_insert(base);
        }
    }

    /// Says with which stamp the outdated copy of `key` stands while the change
    /// that replaces it is made here.
    pub(crate) fn note_stamp(&self, key: &EncodedKey, stamp: EntryVersion) {
        if let Some(owed) = self.keys.lock().get_mut(&key.digest()) {
            owed.stamp = Some(stamp);
        }
    }

    /// The copy of `key` is outdated, since this era of the tier.
    pub(crate) fn add(&self, key: &EncodedKey, era: u64) {
        let mut keys = self.keys.lock();
        if keys.is_empty() {
            self.set_mark(true);
        }
        if self.is_whole() {
            self.given_up.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let owed = || PendingWrites {
            key: key.clone(),
            since: Instant::now(),
            base: None,
            stamp: None,
            era,
            outdated: true,
        };
        keys.entry(key.digest()).or_insert_with(owed).outdated = true;
        if keys.len() > DISTRUSTED_MAX {
            let before = keys.len();
            keys.retain(|_, owed| owed.outdated);
            self.given_up.fetch_add(before - keys.len(), Ordering::Relaxed);
        }
        if keys.len() > DISTRUSTED_MAX {
            self.whole.store(true, Ordering::Release);
            self.given_up.fetch_add(keys.len(), Ordering::Relaxed);
            keys.clear();
            tracing::error!(target: "larder", tier = %self.tier, "too many removals failed: the tier is left alone");
        }
        self.len.store(keys.len(), Ordering::Release);
    }

    /// The tier lacks a change of `key`; what it has instead, if anything, is not
    /// outdated, and has this stamp. Whether there was room to remember that.
    pub(crate) fn owe(&self, key: &EncodedKey, stamp: EntryVersion, era: u64) -> bool {
        let mut keys = self.keys.lock();
        if self.is_whole() || keys.len() >= DISTRUSTED_MAX && !keys.contains_key(&key.digest()) {
            return false;
        }
        if keys.is_empty() {
            self.set_mark(true);
        }
        let outdated = keys.get(&key.digest()).is_some_and(|owed| owed.outdated);
        let (since, stamp) = (Instant::now(), Some(stamp));
        keys.insert(
            key.digest(),
            PendingWrites { key: key.clone(), since, base: None, stamp, era, outdated },
        );
        self.len.store(keys.len(), Ordering::Release);
        true
    }

    /// The copy of `key` is gone, or was replaced.
    pub(crate) fn forget(&self, key: &EncodedKey) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut keys = self.keys.lock();
        if keys.remove(&key.digest()).is_some() && keys.is_empty() && !self.is_whole() {
            self.set_mark(false);
        }
        self.len.store(keys.len(), Ordering::Release);
    }

    /// Nothing in the tier is to be trusted.
    pub(crate) fn add_all(&self) {
        let _keys = self.keys.lock();
        self.set_mark(true);
        self.whole.store(true, Ordering::Release);
    }

    /// The tier is empty.
    pub(crate) fn forget_all(&self) {
        let mut keys = self.keys.lock();
        keys.clear();
        self.len.store(0, Ordering::Release);
        self.whole.store(false, Ordering::Release);
        self.set_mark(false);
    }

    /// Under the lock of `keys`, so that invalidations are written in order.
    fn set_mark(&self, set: bool) {
        let Some(invalidation) = &self.invalidation else { return };
        if let Err(error) = invalidation.set(set) {
            tracing::error!(
                target: "larder", tier = %self.tier, %error, set,
                "cannot note whether the tier holds outdated entries"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> EncodedKey {
        EncodedKey::new(number.to_le_bytes())
    }

    /// Of what was refused nothing outdated is in the tier: it need not be
    /// cleared where there is too much of that to be remembered.
    #[test]
    fn what_a_tier_refused_gives_way_to_what_it_could_not_remove() {
        let (quarantine, stamp) = (Quarantine::new(TierKind::Redis, None), EntryVersion::new(7).unwrap());
        assert!((0..DISTRUSTED_MAX).all(|number| quarantine.owe(&key(number), stamp, 1)));
        assert!(!quarantine.owe(&key(DISTRUSTED_MAX), stamp, 1), "no more");
        assert!(quarantine.owe(&key(5), EntryVersion::NONE, 2), "the latest of one key");
        assert_eq!(quarantine.owed(&key(5)).unwrap().stamp, Some(EntryVersion::NONE));
        assert!(quarantine.covers(&key(7)) && !quarantine.is_whole());
        quarantine.add(&key(DISTRUSTED_MAX + 1), 1);
        assert!(!quarantine.is_whole() && !quarantine.covers(&key(7)));
        assert_eq!(quarantine.some(usize::MAX).len(), 1);
        assert_eq!(quarantine.give_up(), DISTRUSTED_MAX as u64 + 1);
        (0..=DISTRUSTED_MAX).for_each(|number| quarantine.add(&key(number), 1));
        assert!(quarantine.is_whole() && !quarantine.owe(&key(1), stamp, 1));
    }
}
