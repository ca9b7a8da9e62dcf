//! Quarantine: keys of a tier whose entries must not be served, because a removal or
//! write failed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, PartitionEpoch, TierKind};
use parking_lot::Mutex;

use crate::tier_stack::dirty_flag::DirtyFlag;

/// Number of keys of one tier that are quarantined one by one; beyond it the whole tier
/// is.
const DISTRUSTED_MAX: usize = 10_000;

/// The keys of one tier whose entries may be outdated, because a change did not reach the
/// tier.
///
/// A key is quarantined until a removal or a write of it succeeds. Above `DISTRUSTED_MAX`
/// keys the whole tier is quarantined until it is cleared. The dirty flag on disk tells
/// the next process, which then clears the tier.
///
/// A check costs one atomic load while nothing is quarantined.
pub(crate) struct Quarantine {
    tier: TierKind,
    keys: Mutex<HashMap<u128, PendingWrites>>,
    len: AtomicUsize,
    whole: AtomicBool,
    /// Number of pending writes that were dropped because there were too many.
    given_up: AtomicUsize,
    dirty_flag: Option<DirtyFlag>,
}

/// A change that did not reach the tier.
#[derive(Clone)]
pub(crate) struct PendingWrites {
    pub(crate) key: EncodedKey,
    /// When the change was made.
    pub(crate) since: Instant,
    /// Identity of the entry that the first of the changes replaced, if known.
    pub(crate) base: Option<u64>,
    /// What is known of the version of the entry at that time.
    pub(crate) version: VersionThen,
    /// Partition epoch of the tier at that time.
    pub(crate) epoch: PartitionEpoch,
    /// Whether the tier may hold an outdated entry.
    outdated: bool,
}

/// What is known of the version that an entry had when a write of it became pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionThen {
    /// Nothing: the tier could not be asked.
    Unknown,
    /// The version.
    Known(EntryVersion),
    /// Another node wrote the entry just before.
    Overtaken,
}

impl VersionThen {
    /// Whether the entry still has that version; `None` if it is unknown.
    pub(crate) fn is_same(self, now: Option<EntryVersion>) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Known(then) => Some(Some(then) == now),
            Self::Overtaken => Some(false),
        }
    }
}

impl Quarantine {
    pub(crate) fn new(tier: TierKind, dirty_flag: Option<DirtyFlag>) -> Self {
        let whole = dirty_flag.as_ref().is_some_and(DirtyFlag::was_set);
        let (keys, len) = (Mutex::default(), AtomicUsize::new(0));
        Self { tier, keys, len, whole: AtomicBool::new(whole), given_up: AtomicUsize::new(0), dirty_flag }
    }

    /// Closes the dirty flag.
    pub(crate) fn close(&self) {
        self.dirty_flag.iter().for_each(DirtyFlag::close);
    }

    /// Whether the whole tier is quarantined.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Whether anything is quarantined.
    pub(crate) fn is_any(&self) -> bool {
        self.len.load(Ordering::Acquire) > 0 || self.is_whole()
    }

    pub(crate) fn covers(&self, key: &EncodedKey) -> bool {
        self.is_whole()
            || self.len.load(Ordering::Acquire) > 0 && self.keys.lock().contains_key(&key.digest())
    }

    /// Whether each of `keys` is quarantined, in order.
    pub(crate) fn cover_each(&self, keys: &[EncodedKey]) -> Vec<bool> {
        match self.is_any() {
            true => keys.iter().map(|key| self.covers(key)).collect(),
            false => vec![false; keys.len()],
        }
    }

    /// Returns the number of pending writes that were dropped since the last call.
    pub(crate) fn take_given_up(&self) -> u64 {
        self.given_up.swap(0, Ordering::Relaxed) as u64
    }

    /// Returns the number of pending writes that are lost when the cache ends now.
    pub(crate) fn give_up(&self) -> u64 {
        self.take_given_up() + self.len.load(Ordering::Acquire) as u64
    }

    /// Returns at most `max` of the pending writes.
    pub(crate) fn some(&self, max: usize) -> Vec<PendingWrites> {
        self.keys.lock().values().take(max).cloned().collect()
    }

    /// Returns the pending write of a key, if it is remembered.
    pub(crate) fn pending(&self, key: &EncodedKey) -> Option<PendingWrites> {
        self.keys.lock().get(&key.digest()).cloned()
    }

    /// Records which entry a pending write of `key` replaces; only the first call counts.
    pub(crate) fn note_base(&self, key: &EncodedKey, base: u64) {
        if let Some(pending) = self.keys.lock().get_mut(&key.digest()) {
            pending.base.get_or_insert(base);
        }
    }

    /// Records the version that the tier has for `key` at the time of the pending write.
    pub(crate) fn note_version(&self, key: &EncodedKey, version: EntryVersion) {
        if let Some(pending) = self.keys.lock().get_mut(&key.digest()) {
            pending.version = VersionThen::Known(version);
        }
    }

    /// Quarantines `key`: the tier may hold an outdated entry, from this partition epoch
    /// on.
    pub(crate) fn add(&self, key: &EncodedKey, epoch: PartitionEpoch) {
        let mut keys = self.keys.lock();
        if keys.is_empty() {
            self.set_dirty_flag(true);
        }
        if self.is_whole() {
            return;
        }
        let pending = || PendingWrites {
            key: key.clone(),
            since: Instant::now(),
            base: None,
            version: VersionThen::Unknown,
            epoch,
            outdated: true,
        };
        keys.entry(key.digest()).or_insert_with(pending).outdated = true;
        if keys.len() > DISTRUSTED_MAX {
            let before = keys.len();
            keys.retain(|_, pending| pending.outdated);
            self.given_up.fetch_add(before - keys.len(), Ordering::Relaxed);
        }
        if keys.len() > DISTRUSTED_MAX {
            self.whole.store(true, Ordering::Release);
            self.given_up.fetch_add(keys.len(), Ordering::Relaxed);
            keys.clear();
            tracing::error!(target: "larder", tier = %self.tier, "too many removals failed; the whole tier is in quarantine");
        }
        self.len.store(keys.len(), Ordering::Release);
    }

    /// Records a pending write of `key`. The entry in the tier, if any, is not outdated,
    /// and has this version. Returns whether there was room to record it.
    pub(crate) fn add_pending(&self, key: &EncodedKey, version: VersionThen, epoch: PartitionEpoch) -> bool {
        let mut keys = self.keys.lock();
        if self.is_whole() || keys.len() >= DISTRUSTED_MAX && !keys.contains_key(&key.digest()) {
            return false;
        }
        if keys.is_empty() {
            self.set_dirty_flag(true);
        }
        let outdated = keys.get(&key.digest()).is_some_and(|pending| pending.outdated);
        let since = Instant::now();
        keys.insert(
            key.digest(),
            PendingWrites { key: key.clone(), since, base: None, version, epoch, outdated },
        );
        self.len.store(keys.len(), Ordering::Release);
        true
    }

    /// Releases `key`: its outdated entry was removed or replaced.
    pub(crate) fn forget(&self, key: &EncodedKey) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut keys = self.keys.lock();
        if keys.remove(&key.digest()).is_some() && keys.is_empty() && !self.is_whole() {
            self.set_dirty_flag(false);
        }
        self.len.store(keys.len(), Ordering::Release);
    }

    /// Quarantines the whole tier.
    pub(crate) fn add_all(&self) {
        let _keys = self.keys.lock();
        self.set_dirty_flag(true);
        self.whole.store(true, Ordering::Release);
    }

    /// Releases everything: the tier is empty.
    pub(crate) fn forget_all(&self) {
        let mut keys = self.keys.lock();
        keys.clear();
        self.len.store(0, Ordering::Release);
        self.whole.store(false, Ordering::Release);
        self.set_dirty_flag(false);
    }

    /// Writes the dirty flag. The caller holds the lock of `keys`, so that the writes
    /// keep their order.
    fn set_dirty_flag(&self, set: bool) {
        let Some(dirty_flag) = &self.dirty_flag else { return };
        if let Err(error) = dirty_flag.set(set) {
            tracing::error!(
                target: "larder", tier = %self.tier, %error, set,
                "cannot update the dirty flag of the tier"
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

    /// A tier holds no outdated entry for a write that it refused. So it need not be
    /// cleared when there are too many such writes to remember.
    #[test]
    fn refused_writes_are_dropped_before_failed_removals() {
        let (quarantine, epoch) = (Quarantine::new(TierKind::Redis, None), PartitionEpoch(1));
        let version = VersionThen::Known(EntryVersion::new(7).unwrap());
        assert!((0..DISTRUSTED_MAX).all(|number| quarantine.add_pending(&key(number), version, epoch)));
        assert!(!quarantine.add_pending(&key(DISTRUSTED_MAX), version, epoch), "no more");
        assert!(
            quarantine.add_pending(&key(5), VersionThen::Overtaken, PartitionEpoch(2)),
            "the latest of one key"
        );
        assert_eq!(quarantine.pending(&key(5)).unwrap().version, VersionThen::Overtaken);
        assert!(quarantine.covers(&key(7)) && !quarantine.is_whole());
        quarantine.add(&key(DISTRUSTED_MAX + 1), epoch);
        assert!(!quarantine.is_whole() && !quarantine.covers(&key(7)));
        assert_eq!(quarantine.some(usize::MAX).len(), 1);
        assert_eq!(quarantine.give_up(), DISTRUSTED_MAX as u64 + 1);
        (0..=DISTRUSTED_MAX).for_each(|number| quarantine.add(&key(number), epoch));
        assert!(quarantine.is_whole() && !quarantine.add_pending(&key(1), version, epoch));
    }
}
