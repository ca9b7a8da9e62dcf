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

/// An entry of the index as a snapshot keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeptEntry {
    pub(super) digest: u128,
    /// Bytes that its file takes on disk.
    pub(super) bytes: u64,
    /// Whether it was ever read.
    pub(super) was_read: bool,
    pub(super) until: KnownDeadline,
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

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries as a snapshot keeps them, least recently used first.
    pub(super) fn kept(&self) -> Vec<KeptEntry> {
        let of = |(digest, entry): (&u128, &Entry)| {
            let &Entry { bytes, recency, until, .. } = entry;
            (recency.used, KeptEntry { digest: *digest, bytes, was_read: recency.was_read, until })
        };
        let mut kept: Vec<(u64, KeptEntry)> = self.entries.iter().map(of).collect();
        kept.sort_unstable_by_key(|(used, _)| *used);
        kept.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Builds an index of these entries, in the order in which [`kept`](Self::kept) returned them.
    pub(super) fn restored(kept: impl ExactSizeIterator<Item = KeptEntry>) -> Self {
        let mut index = Self::default();
        index.entries.reserve(kept.len());
        for KeptEntry { digest, bytes, was_read, until } in kept {
            index.insert_until(digest, bytes, until);
            if was_read {
                index.touch(digest);
            }
        }
        index
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
mod tests;
