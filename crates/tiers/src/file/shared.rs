//! Operations that differ if other processes have the same directory open.
//!
//! Other processes create and delete files without this process's index. So a look-up asks the
//! directory, and its result corrects the index. The index still tracks the budget and chooses
//! entries to evict.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use larder_core::Result;

use super::folder::at;
use super::index::Held;
use super::{FileTier, walk};

/// The directory is scanned again after one part in this many of the budget was written.
const LOOK_AGAIN: u64 = 16;

impl FileTier {
    /// Looks up `digest` in the index before its file is read.
    ///
    /// Returns `None` if the file cannot exist. In a shared directory, a file may exist that the
    /// index does not have.
    pub(super) fn expect(&self, digest: u128) -> Result<Option<Held>> {
        let held = self.index()?.touch(digest);
        Ok(held.or_else(|| self.peers.is_some().then_some(Held { digest, version: 0 })))
    }

    /// Corrects the index after the file of `held` was found, with `len` bytes.
    pub(super) fn found(&self, held: Held, len: u64) -> Result<()> {
        if self.peers.is_none() || !self.index()?.differs(held.digest, len) {
            return Ok(());
        }
        let change = self.index()?.insert(held.digest, len);
        self.space.grow(change.taken);
        self.space.shrink(change.freed);
        self.index()?.touch(held.digest);
        Ok(())
    }

    /// Corrects the index after the file of `held` was not found.
    pub(super) fn missed(&self, held: Held) -> Result<()> {
        if self.peers.is_none() {
            return self.delete(held).map(drop);
        }
        if let Some(removed) = self.index()?.remove(held) {
            self.space.shrink(removed.freed);
        }
        Ok(())
    }

    /// Deletes the file of `digest`, which any process may have written. Returns whether there was
    /// one.
    ///
    /// Changes the version even if there was no file. So a load that another process began before
    /// is not stored after it.
    pub(super) fn remove_shared(&self, digest: u128) -> Result<bool> {
        let _lane = self.lane(digest)?;
        let held = self.index()?.find(digest);
        let deleted = self.folder.unlink(digest).map_err(|error| at(&self.folder.path(digest), error))?;
        let removed = match held {
            Some(held) => self.index()?.remove(held),
            None => None,
        };
        if let Some(removed) = removed {
            self.folder.unlink_folders(digest, removed.empty_folders);
            self.space.shrink(removed.freed);
        }
        Ok(deleted)
    }

    pub(super) fn contains_shared(&self, digest: u128) -> Result<bool> {
        self.index().map(drop)?;
        match fs::metadata(self.folder.path(digest)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at(&self.folder.path(digest), error)),
        }
    }

    /// Scans the directory again if enough was written since the last scan.
    ///
    /// So each process knows the writes of every other one, except for the last sixteenth of the
    /// budget.
    pub(super) fn look_now_and_then(&self, written: u64) -> Result<()> {
        if self.peers.is_none() {
            return Ok(());
        }
        let since = self.unseen.fetch_add(written, Ordering::Relaxed) + written;
        if since < self.space.limit() / LOOK_AGAIN {
            return Ok(());
        }
        self.unseen.store(0, Ordering::Relaxed);
        self.look_again()
    }

    /// Reconciles the index with the directory. Changes since the scan began stay as the index has
    /// them.
    pub(super) fn look_again(&self) -> Result<()> {
        let begun = self.index()?.now();
        let found = walk::walk(self.folder.entries())?;
        let found = found.into_iter().map(|found| (found.digest, found.len));
        let change = self.index()?.reconcile(found, begun);
        self.space.grow(change.taken);
        self.space.shrink(change.freed);
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
        assert_eq!(one.usage().bytes + FIXED + peers::BYTES, one.space.used());
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
