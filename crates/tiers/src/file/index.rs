//! The index of a file tier, in memory: the size of each entry, and the order of eviction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;
use larder_core::clock::Time;
use larder_core::tier::Usage;

/// The unit in which file systems allocate space, and in which `du` counts it.
pub(super) const BLOCK: u64 = 4096;

/// Bytes that a file of `len` bytes takes on disk.
pub(super) fn rounded(len: u64) -> u64 {
    len.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// Entries that were never read are evicted first while they take more than one part in this many
/// of all bytes.
///
/// So entries that are read survive many writes. And a new entry has time to be read until a
/// quarter of all bytes was written after it.
const UNREAD_PART: u64 = 4;

/// The upper directory on the path to the file of a digest.
pub(super) fn upper_of(digest: u128) -> u16 {
    (digest >> 120) as u16
}

/// The lower directory, which contains the file.
fn leaf_of(digest: u128) -> u16 {
    (digest >> 112) as u16
}

/// Identifies one version of an entry. Each put of a key creates a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryId {
    pub(super) digest: u128,
    pub(super) version: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    version: u64,
    recency: Recency,
    is_evicting: bool,
    until: KnownDeadline,
}

/// When an entry expires. Entries whose deadline is unknown come first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KnownDeadline {
    /// The head of its file was not read yet.
    Unknown,
    /// It is expired from this time on.
    At(Time),
}

impl KnownDeadline {
    /// It never expires.
    pub(super) const NEVER: Self = Self::At(Time::NEVER);
}

/// Position in the eviction order: entries never read by the time of writing, then the others by
/// the time of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Recency {
    was_read: bool,
    used: u64,
}

impl Recency {
    /// The boundary: after all entries never read, and before all others.
    const READ: Self = Self { was_read: true, used: 0 };
}

/// The entries by digest, and in the order of eviction.
///
/// A directory counts as one block while an entry lies in it.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<u128, Entry, RandomState>,
    eviction_order: BTreeMap<Recency, u128>,
    /// Bytes of the entries in `eviction_order` that were never read.
    unread_bytes: u64,
    /// The entries that can expire, soonest first.
    expiries: BTreeSet<(KnownDeadline, u128)>,
    uppers: DirCounts,
    leaves: DirCounts,
    bytes: u64,
    ticks: u64,
    evictions: u64,
}

/// The number of entries in each directory.
#[derive(Debug, Default)]
struct DirCounts(HashMap<u16, u32, RandomState>);

/// How an insertion changed the space in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Bytes of the new file and of new directories.
    pub(super) taken: u64,
    /// Bytes of the file that was replaced.
    pub(super) freed: u64,
}

/// How a removal changed the space in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Removed {
    /// Bytes of the file and of directories that are empty now.
    pub(super) freed: u64,
    /// Number of directories above the file that are empty now.
    pub(super) empty_folders: usize,
}

impl Index {
    /// Looks up the entry of `digest`. Does not count as a read.
    pub(super) fn find(&self, digest: u128) -> Option<EntryId> {
        self.entries.get(&digest).map(|entry| EntryId { digest, version: entry.version })
    }

    /// Looks up the entry of `digest`, and counts as a read.
    pub(super) fn touch(&mut self, digest: u128) -> Option<EntryId> {
        let used = self.tick();
        let entry = self.entries.get_mut(&digest)?;
        let former = *entry;
        entry.recency = Recency { used, ..Recency::READ };
        let entry = *entry;
        if !entry.is_evicting {
            self.dequeue(former);
            self.queue(digest, entry);
        }
        Some(EntryId { digest, version: entry.version })
    }

    /// Records a file of `len` bytes under `digest`, with an unknown deadline, in place of a former
    /// one.
    pub(super) fn insert(&mut self, digest: u128, len: u64) -> Change {
        self.insert_until(digest, len, KnownDeadline::Unknown)
    }

    /// Records a file of `len` bytes under `digest` that expires at `until`, in place of a former
    /// one.
    pub(super) fn insert_until(&mut self, digest: u128, len: u64, until: KnownDeadline) -> Change {
        let version = self.tick();
        let former = self.entries.remove(&digest);
        let recency = Recency { was_read: former.is_some_and(|entry| entry.recency.was_read), used: version };
        let bytes = rounded(len);
        let freed = former.map_or(0, |entry| entry.bytes);
        if let Some(entry) = former {
            self.dequeue(entry);
            self.expiries.remove(&(entry.until, digest));
        }
        if until != KnownDeadline::NEVER {
            self.expiries.insert((until, digest));
        }
        let folders = match former {
            Some(_) => 0,
            None => self.uppers.enter(upper_of(digest)) + self.leaves.enter(leaf_of(digest)),
        };
        let taken = bytes + folders as u64 * BLOCK;
        let entry = Entry { bytes, version, recency, is_evicting: false, until };
        self.entries.insert(digest, entry);
        self.queue(digest, entry);
        self.bytes = (self.bytes + taken).saturating_sub(freed);
        Change { taken, freed }
    }

    /// Removes `id`, if it is the present version of its key.
    pub(super) fn remove(&mut self, id: EntryId) -> Option<Removed> {
        if self.find(id.digest) != Some(id) {
            return None;
        }
        let entry = self.entries.remove(&id.digest)?;
        self.dequeue(entry);
        self.expiries.remove(&(entry.until, id.digest));
        let empty_folders = self.uppers.leave(upper_of(id.digest)) + self.leaves.leave(leaf_of(id.digest));
        let freed = entry.bytes + empty_folders as u64 * BLOCK;
        self.bytes = self.bytes.saturating_sub(freed);
        Some(Removed { freed, empty_folders })
    }

    /// Returns the next entry to evict, in order to free `excess` bytes. The entry of `spare` is
    /// chosen last.
    ///
    /// A chosen entry is not returned again, unless [`stay`](Index::stay) is called for it. Returns
    /// `None` if all entries together take less than `excess` bytes.
    pub(super) fn victim(&mut self, excess: u64, spare: u128) -> Option<EntryId> {
        if self.bytes < excess {
            return None;
        }
        let digest = self.next_victim(spare)?;
        let entry = self.entries.get_mut(&digest)?;
        entry.is_evicting = true;
        let entry = *entry;
        self.dequeue(entry);
        Some(EntryId { digest, version: entry.version })
    }

    /// Chooses the entry to evict: the oldest one never read, while those take more than their part
    /// of all bytes. Otherwise the entry that was written or read least recently.
    fn next_victim(&self, spare: u128) -> Option<u128> {
        let unread = self.eviction_order.range(..Recency::READ).find(|(_, digest)| **digest != spare);
        let read = self.eviction_order.range(Recency::READ..).find(|(_, digest)| **digest != spare);
        let is_their_turn = self.unread_bytes.saturating_mul(UNREAD_PART) > self.bytes;
        let next = match (unread, read) {
            (Some(unread), Some(read)) if !is_their_turn && read.0.used < unread.0.used => Some(read),
            (unread, read) => unread.or(read),
        };
        next.or_else(|| self.eviction_order.first_key_value()).map(|(_, digest)| *digest)
    }

    fn queue(&mut self, digest: u128, entry: Entry) {
        self.eviction_order.insert(entry.recency, digest);
        if !entry.recency.was_read {
            self.unread_bytes += entry.bytes;
        }
    }

    fn dequeue(&mut self, entry: Entry) {
        if self.eviction_order.remove(&entry.recency).is_some() && !entry.recency.was_read {
            self.unread_bytes = self.unread_bytes.saturating_sub(entry.bytes);
        }
    }

    /// Returns an entry that is known to be expired at `now`.
    pub(super) fn expired(&self, now: Time) -> Option<EntryId> {
        let known = (KnownDeadline::At(Time::from_millis(0)), 0)..=(KnownDeadline::At(now), u128::MAX);
        self.expiries.range(known).next().and_then(|(_, digest)| self.find(*digest))
    }

    /// Returns an entry whose deadline is unknown.
    pub(super) fn unknown(&self) -> Option<EntryId> {
        let (until, digest) = self.expiries.first()?;
        (*until == KnownDeadline::Unknown).then(|| self.find(*digest)).flatten()
    }

    /// Records the deadline of `id`.
    pub(super) fn set_deadline(&mut self, id: EntryId, until: KnownDeadline) {
        let Some(entry) = self.entries.get_mut(&id.digest).filter(|entry| entry.version == id.version) else {
            return;
        };
        self.expiries.remove(&(entry.until, id.digest));
        entry.until = until;
        if until != KnownDeadline::NEVER {
            self.expiries.insert((until, id.digest));
        }
    }

    /// Puts `id` back into the eviction order, after its eviction failed.
    pub(super) fn requeue(&mut self, id: EntryId) {
        if let Some(entry) = self.entries.get_mut(&id.digest)
            && entry.version == id.version
        {
            entry.is_evicting = false;
            let entry = *entry;
            self.queue(id.digest, entry);
        }
    }

    /// Counts an eviction.
    pub(super) fn count_eviction(&mut self) {
        self.evictions += 1;
    }

    /// Returns whether the entry of `digest` is not in the index, or has another size there.
    pub(super) fn differs(&self, digest: u128, len: u64) -> bool {
        self.entries.get(&digest).is_none_or(|entry| entry.bytes != rounded(len))
    }

    /// The present tick. Later insertions have larger versions.
    pub(super) fn now(&self) -> u64 {
        self.ticks
    }

    /// Replaces the entries by the digests and lengths that were found in the directory at the tick
    /// `seen`. Entries inserted after that tick stay.
    pub(super) fn reconcile(&mut self, found: impl Iterator<Item = (u128, u64)>, seen: u64) -> Change {
        let mut total = Change { taken: 0, freed: 0 };
        let mut gone: HashMap<u128, u64, RandomState> =
            self.entries.iter().map(|(digest, entry)| (*digest, entry.version)).collect();
        for (digest, len) in found {
            let is_newer = gone.remove(&digest).is_some_and(|version| version > seen);
            if !is_newer && self.differs(digest, len) {
                let change = self.insert(digest, len);
                total.taken += change.taken;
                total.freed += change.freed;
            }
        }
        for (digest, version) in gone.into_iter().filter(|(_, version)| *version <= seen) {
            total.freed += self.remove(EntryId { digest, version }).map_or(0, |removed| removed.freed);
        }
        total
    }

    /// Removes every entry. Returns how many bytes they took.
    pub(super) fn clear(&mut self) -> u64 {
        self.entries.clear();
        self.eviction_order.clear();
        self.unread_bytes = 0;
        self.expiries.clear();
        self.uppers.0.clear();
        self.leaves.0.clear();
        std::mem::take(&mut self.bytes)
    }

    /// The digests of all entries.
    pub(super) fn digests(&self) -> Vec<u128> {
        self.entries.keys().copied().collect()
    }

    /// Entries, bytes and evictions.
    pub(super) fn usage(&self) -> Usage {
        Usage { entries: self.entries.len() as u64, bytes: self.bytes, evictions: self.evictions }
    }

    /// Average bytes of a file or directory.
    pub(super) fn bytes_an_inode(&self) -> u64 {
        let inodes = self.entries.len() + self.uppers.0.len() + self.leaves.0.len();
        (self.bytes / inodes.max(1) as u64).max(BLOCK)
    }

    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
}

impl DirCounts {
    /// Counts one more entry in `folder`. Returns the number of directories this adds, 0 or 1.
    fn enter(&mut self, folder: u16) -> usize {
        let entries = self.0.entry(folder).or_default();
        *entries += 1;
        usize::from(*entries == 1)
    }

    /// Counts one entry less in `folder`. Returns the number of directories this leaves empty, 0 or
    /// 1.
    fn leave(&mut self, folder: u16) -> usize {
        let Some(entries) = self.0.get_mut(&folder) else { return 0 };
        *entries = entries.saturating_sub(1);
        if *entries > 0 {
            return 0;
        }
        self.0.remove(&folder);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE_SPARED: u128 = u128::MAX;

    fn victims(index: &mut Index) -> Vec<u128> {
        std::iter::from_fn(|| index.victim(0, NONE_SPARED)).map(|id| id.digest).collect()
    }

    #[test]
    fn never_read_entries_are_evicted_first_then_the_least_recently_used() {
        let mut index = Index::default();
        for digest in 1..=5 {
            index.insert(digest, 1);
        }
        index.touch(1);
        index.touch(4);
        index.touch(1);
        assert_eq!(victims(&mut index), [2, 3, 5, 4, 1]);
    }

    /// Regression: once all other entries had been read, each new entry was evicted for the next one.
    #[test]
    fn new_entries_stay_while_they_take_less_than_a_quarter() {
        let mut index = Index::default();
        let (old, new) = (1..=100, 101..=300);
        for digest in old.clone() {
            index.insert(digest, 1);
            index.touch(digest);
        }
        for digest in new.clone() {
            index.insert(digest, 1);
            let victim = index.victim(1, digest).unwrap();
            index.remove(victim).unwrap();
            // This entry is read regularly.
            index.touch(100).unwrap();
        }
        let left = |digests: std::ops::RangeInclusive<u128>| {
            digests.filter(|digest| index.find(*digest).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(left(new), (276..=300).collect::<Vec<_>>(), "the newest");
        assert_eq!(left(old), (26..=100).collect::<Vec<_>>(), "those that were read last");
    }

    #[test]
    fn overwritten_entry_still_counts_as_read() {
        let mut index = Index::default();
        index.insert(1, 1);
        index.touch(1);
        index.insert(1, 1);
        for digest in 2..=5 {
            index.insert(digest, 1);
        }
        assert_eq!(victims(&mut index), [2, 3, 4, 1, 5]);
    }

    #[test]
    fn spared_entry_is_evicted_last() {
        let mut index = Index::default();
        index.insert(1, 1);
        index.insert(2, 1);
        assert_eq!(index.victim(1, 1).map(|id| id.digest), Some(2));
        assert_eq!(index.victim(1, 1).map(|id| id.digest), Some(1));
        assert_eq!(index.victim(1, 1), None);
    }

    #[test]
    fn no_victim_if_all_entries_are_smaller_than_the_excess() {
        let mut index = Index::default();
        index.insert(1, 1);
        assert_eq!(index.victim(4 * BLOCK, NONE_SPARED), None);
        assert!(index.victim(3 * BLOCK, NONE_SPARED).is_some());
    }

    #[test]
    fn entry_counts_as_expired_once_its_deadline_is_known() {
        let mut index = Index::default();
        let at = |millis| KnownDeadline::At(Time::from_millis(millis));
        index.insert_until(1, 1, at(50));
        index.insert_until(2, 1, at(20));
        index.insert_until(3, 1, KnownDeadline::NEVER);
        index.insert(4, 1);
        let expired = |index: &Index, now| index.expired(Time::from_millis(now)).map(|id| id.digest);
        assert_eq!([expired(&index, 19), expired(&index, 20)], [None, Some(2)]);
        let id = index.unknown().unwrap();
        index.set_deadline(id, at(10));
        assert_eq!((index.unknown(), expired(&index, 19)), (None, Some(4)));
        index.remove(id);
        index.insert_until(2, 1, KnownDeadline::NEVER);
        assert_eq!(expired(&index, 60), Some(1));
        index.clear();
        assert_eq!(expired(&index, 60), None);
    }

    #[test]
    fn victim_that_stays_is_chosen_again() {
        let mut index = Index::default();
        index.insert(1, 1);
        let id = index.victim(1, NONE_SPARED).unwrap();
        assert_eq!(index.victim(1, NONE_SPARED), None);
        index.requeue(id);
        assert_eq!(index.victim(1, NONE_SPARED), Some(id));
    }

    #[test]
    fn reconcile_adopts_found_files_and_keeps_newer_entries() {
        let mut index = Index::default();
        for digest in 1..=3 {
            index.insert(digest, 1);
        }
        index.touch(2);
        let seen = index.now();
        index.insert(3, 5 * BLOCK);
        index.insert(4, 1);
        let change = index.reconcile([(2, 1), (3, 1), (5, 2 * BLOCK)].into_iter(), seen);
        assert_eq!(change, Change { taken: 2 * BLOCK, freed: BLOCK });
        assert!(index.find(1).is_none() && !index.differs(3, 5 * BLOCK));
        assert_eq!(index.usage().bytes, (1 + 5 + 1 + 2 + 2) * BLOCK);
        assert_eq!(victims(&mut index), [3, 4, 2, 5]);
    }

    #[test]
    fn remove_of_an_older_version_changes_nothing() {
        let mut index = Index::default();
        index.insert(1, 1);
        let old = index.victim(1, NONE_SPARED).unwrap();
        index.insert(1, 1);
        index.requeue(old);
        assert_eq!(index.remove(old), None);
        assert!(index.find(1).is_some());
    }

    #[test]
    fn files_and_directories_are_counted_in_blocks() {
        let mut index = Index::default();
        let (one, sibling, cousin) = (1, 2, 3 | 1 << 112);
        assert_eq!(index.insert(one, 1), Change { taken: 3 * BLOCK, freed: 0 });
        assert_eq!(index.insert(sibling, BLOCK), Change { taken: BLOCK, freed: 0 });
        assert_eq!(index.insert(cousin, 1), Change { taken: 2 * BLOCK, freed: 0 });
        assert_eq!(index.insert(sibling, BLOCK + 1), Change { taken: 2 * BLOCK, freed: BLOCK });
        assert_eq!(index.usage().bytes, 7 * BLOCK);
        let mut remove = |digest| {
            let id = index.find(digest).unwrap();
            index.remove(id).unwrap()
        };
        assert_eq!(remove(one), Removed { freed: BLOCK, empty_folders: 0 });
        assert_eq!(remove(cousin), Removed { freed: 2 * BLOCK, empty_folders: 1 });
        assert_eq!(remove(sibling), Removed { freed: 4 * BLOCK, empty_folders: 2 });
        assert_eq!(index.usage(), Usage::default());
    }
}
