//! Operations that differ if other processes have the same directory open.
//!
//! Other processes create and delete files without this process's index. So a look-up asks the
//! directory, and its result corrects the index. The index still tracks the budget and chooses
//! entries to evict.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use larder_core::Result;

use super::index::EntryId;
use super::layout::error_at;
use super::{FileTier, walk};

/// The directory is scanned again after one part in this many of the budget was written.
const RESCAN_PART: u64 = 16;

impl FileTier {
    /// Looks up `digest` in the index before its file is read.
    ///
    /// Returns `None` if the file cannot exist. In a shared directory, a file may exist that the
    /// index does not have.
    pub(super) fn look_up(&self, digest: u128) -> Result<Option<EntryId>> {
        let id = self.index()?.touch(digest);
        Ok(id.or_else(|| self.peers.is_some().then_some(EntryId { digest, version: 0 })))
    }

    /// Corrects the index after the file of `id` was found, with `len` bytes.
    pub(super) fn file_found(&self, id: EntryId, len: u64) -> Result<()> {
        if self.peers.is_none() || !self.index()?.differs(id.digest, len) {
            return Ok(());
        }
        let change = self.index()?.insert(id.digest, len);
        self.budget.grow(change.taken);
        self.budget.shrink(change.freed);
        self.index()?.touch(id.digest);
        Ok(())
    }

    /// Corrects the index after the file of `id` was not found.
    pub(super) fn file_missing(&self, id: EntryId) -> Result<()> {
        if self.peers.is_none() {
            return self.delete(id).map(drop);
        }
        if let Some(removed) = self.index()?.remove(id) {
            self.budget.shrink(removed.freed);
        }
        Ok(())
    }

    /// Deletes the file of `digest`, which any process may have written. Returns whether there was
    /// one.
    ///
    /// Changes the version even if there was no file. So a load that another process began before
    /// is not stored after it.
    pub(super) fn remove_shared(&self, digest: u128) -> Result<bool> {
        let _stripe = self.lock_stripe(digest)?;
        let id = self.index()?.find(digest);
        let deleted =
            self.layout.unlink(digest).map_err(|error| error_at(&self.layout.path(digest), error))?;
        let removed = match id {
            Some(id) => self.index()?.remove(id),
            None => None,
        };
        if let Some(removed) = removed {
            self.layout.unlink_folders(digest, removed.empty_folders);
            self.budget.shrink(removed.freed);
        }
        Ok(deleted)
    }

    pub(super) fn contains_shared(&self, digest: u128) -> Result<bool> {
        self.index().map(drop)?;
        match fs::metadata(self.layout.path(digest)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error_at(&self.layout.path(digest), error)),
        }
    }

    /// Scans the directory again if enough was written since the last scan.
    ///
    /// So each process knows the writes of every other one, except for the last sixteenth of the
    /// budget.
    pub(super) fn rescan_if_due(&self, written: u64) -> Result<()> {
        if self.peers.is_none() {
            return Ok(());
        }
        let since = self.written_since_scan.fetch_add(written, Ordering::Relaxed) + written;
        if since < self.budget.limit() / RESCAN_PART {
            return Ok(());
        }
        self.written_since_scan.store(0, Ordering::Relaxed);
        self.rescan()
    }

    /// Reconciles the index with the directory. Changes since the scan began stay as the index has
    /// them.
    pub(super) fn rescan(&self) -> Result<()> {
        let value_during_change = self.index()?.now();
        let found = walk::walk(self.layout.entries())?;
        let found = found.into_iter().map(|found| (found.digest, found.len));
        let change = self.index()?.reconcile(found, value_during_change);
        self.budget.grow(change.taken);
        self.budget.shrink(change.freed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use larder_core::ErrorKind;
    use larder_core::tier::{PutOptions, Tier, VersionedTier};

    use super::super::tests::{MIB, files, frame, has, key, now, open_shared, put};
    use super::super::{FIXED, peers};
    use super::*;

    #[test]
    fn each_process_sees_the_changes_of_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (open_shared(dir.path(), MIB), open_shared(dir.path(), MIB));
        put(&one, 1, 7, 100);
        assert!(has(&two, 1, 7, 100) && now(two.contains(&key(1))).unwrap());
        put(&two, 1, 8, 50_000);
        assert!(has(&one, 1, 8, 50_000));
        assert_eq!(one.usage().bytes, two.usage().bytes);
        assert!(now(one.remove(&key(1))).unwrap());
        assert!(!now(two.contains(&key(1))).unwrap());
        assert_eq!(now(two.get(&key(1))).unwrap(), None);
        assert!(!now(two.remove(&key(1))).unwrap());
        assert_eq!((one.usage().entries, two.usage().entries), (0, 0));
        (0..20).for_each(|number| put(&one, number, 7, 100));
        assert_eq!(scanned(&two), 20);
        now(two.clear()).unwrap();
        assert!((0..20).all(|number| now(one.get(&key(number))).unwrap().is_none()));
        put(&one, 3, 9, 100);
        assert!(has(&two, 3, 9, 100));
    }

    fn scanned(tier: &FileTier) -> usize {
        let mut heads = 0;
        now(tier.scan(&mut |_| heads += 1)).unwrap();
        heads
    }

    #[test]
    fn version_changes_with_every_change_by_any_process() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (open_shared(dir.path(), MIB), open_shared(dir.path(), MIB));
        let mut seen = vec![one.version(&key(1)).unwrap()];
        let mut changed = |what: &str| {
            let stamp = one.version(&key(1)).unwrap();
            assert_eq!(two.version(&key(1)), Some(stamp), "{what}");
            assert!(!seen.contains(&stamp), "{what}");
            seen.push(stamp);
        };
        put(&two, 1, 7, 100);
        changed("put");
        put(&one, 1, 7, 100);
        changed("put again");
        now(two.remove(&key(1))).unwrap();
        changed("remove");
        now(two.remove(&key(1))).unwrap();
        changed("remove of nothing");
        now(two.clear()).unwrap();
        changed("clear");
        now(one.close()).unwrap();
        assert_eq!(one.version(&key(1)), None);
        let error = now(one.put(&key(1), &frame(1, 1, 1))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }

    #[test]
    fn put_with_an_outdated_version_stores_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (open_shared(dir.path(), MIB), open_shared(dir.path(), MIB));
        let current = || PutOptions::if_version(one.version(&key(1)).unwrap());
        let put_if = |options| now(one.compare_and_set(&key(1), &frame(1, 8, 100), options)).unwrap();
        let outdated = current();
        put(&two, 1, 7, 100);
        assert!(!put_if(outdated));
        assert!(has(&one, 1, 7, 100), "the put of the other one wins");
        let outdated = current();
        now(two.remove(&key(1))).unwrap();
        assert!(!put_if(outdated));
        assert_eq!(now(one.get(&key(1))).unwrap(), None, "so does its removal");
        assert!(put_if(current()));
        assert!(has(&two, 1, 8, 100));
        assert_eq!(one.usage().bytes + FIXED + peers::BYTES, one.budget.used());
    }

    #[test]
    fn four_processes_keep_the_budget_of_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let limit = 8 * MIB;
        thread::scope(|scope| {
            for writer in 0..4_u64 {
                let tier = open_shared(dir.path(), limit);
                scope.spawn(move || {
                    for round in 0..150 {
                        put(&tier, writer * 1000 + round, 7, 90_000);
                        now(tier.get(&key(round))).unwrap();
                    }
                    assert!(tier.usage().evictions > 0);
                });
            }
        });
        let bytes: u64 = files(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(bytes <= limit + limit / 4, "{bytes} bytes for a budget of {limit}");
        assert!(bytes >= limit / 2, "{bytes} bytes: too much was evicted");
    }

    #[test]
    fn concurrent_puts_gets_and_clears_corrupt_no_frame() {
        let dir = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            for writer in 0..4_u64 {
                let tier = open_shared(dir.path(), 64 * MIB);
                scope.spawn(move || {
                    for round in 0..200_u64 {
                        put(&tier, round % 5, writer as u8, 3000 * (round as usize % 7));
                        if let Some(whole) = now(tier.get(&key((round + 2) % 5))).unwrap() {
                            larder_core::frame::open(&whole, &key((round + 2) % 5)).unwrap();
                        }
                        match round % 50 {
                            13 => now(tier.clear()).unwrap(),
                            _ => drop(now(tier.remove(&key((round + 3) % 5))).unwrap()),
                        }
                    }
                });
            }
        });
    }
}
