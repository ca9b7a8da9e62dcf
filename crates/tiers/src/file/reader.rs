//! Reads the entries in the directory of a file tier, without opening the tier.

use std::io;
use std::path::Path;

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stream::Stored;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Error, ErrorKind, Result};

use super::index::rounded;
use super::layout::{Layout, error_at};
use super::{check, walk, work};
use crate::entry_check::EntryCheck;

/// The entries in the directory of a file tier, for reading.
///
/// It takes no lock, writes nothing and deletes nothing, so it may read while a process has the directory
/// open: each file is replaced whole, never changed. It knows the files that existed when it was opened.
///
/// ```
/// use larder_core::tier::Tier;
/// use larder_tiers::file::FileReader;
///
/// # fn main() -> larder_core::Result<()> {
/// let dir = tempfile::tempdir()?;
/// let reader = FileReader::open(dir.path())?;
/// assert_eq!(reader.usage().entries, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileReader {
    layout: Layout,
    found: Vec<walk::Found>,
}

impl FileReader {
    /// Lists the files in `dir`. A directory that is missing has no entries.
    ///
    /// Costs a read of each directory and a `stat` of each file.
    ///
    /// # Errors
    /// A directory that cannot be read, which is named.
    pub fn open(dir: &Path) -> Result<Self> {
        let layout = Layout::to_read(dir);
        let found = walk::list(layout.entries())?;
        Ok(Self { layout, found })
    }

    /// Reads every file and verifies its frame.
    ///
    /// # Errors
    /// A file that cannot be read, which is named.
    pub fn check(&self) -> Result<EntryCheck> {
        let mut counts = EntryCheck::default();
        for found in &self.found {
            if let Some(is_whole) = check::is_whole(&self.layout, found.digest)? {
                counts.count(is_whole);
            }
        }
        Ok(counts)
    }

    /// Opens the frame of `key` for reading in parts; `None` if there is none. It stays unchanged while the
    /// entry is replaced or removed.
    ///
    /// # Errors
    /// A file that cannot be opened, which is named.
    pub fn open_entry(&self, key: &EncodedKey) -> Result<Option<Stored>> {
        match self.layout.open_entry(key.digest()) {
            Ok((file, len)) => Ok(Some(Stored { medium: Box::new(file), len })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error_at(&self.layout.path(key.digest()), error)),
        }
    }

    fn read(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        match self.layout.read(key.digest()) {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error_at(&self.layout.path(key.digest()), error)),
        }
    }

    fn refuse<'a, T: Send + 'a>(&'a self, operation: &'static str) -> BoxFuture<'a, Result<T>> {
        work(operation, || Err(Error::new(ErrorKind::Unsupported, "the directory is opened for reading")))
    }
}

/// Calls that change something fail with `ErrorKind::Unsupported`.
impl Tier for FileReader {
    fn kind(&self) -> TierKind {
        TierKind::File
    }

    fn capability(&self) -> Capability {
        Capability { stores: false, persistent: true, shared: true, blocking: true, frame_bytes_max: 0 }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        work("get", move || self.read(key))
    }

    fn put<'a>(&'a self, _: &'a EncodedKey, _: &'a Frame) -> BoxFuture<'a, Result<()>> {
        self.refuse("put")
    }

    fn remove<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.refuse("remove")
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.refuse("clear")
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        work("scan", move || {
            let heads = self.found.iter().filter_map(|found| self.layout.read_head(found.digest));
            heads.for_each(|head| visit(&head));
            Ok(())
        })
    }

    fn usage(&self) -> Usage {
        let bytes = self.found.iter().map(|found| rounded(found.len)).sum();
        Usage { entries: self.found.len() as u64, bytes, evictions: 0 }
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        work("flush", || Ok(()))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        work("close", || Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use larder_core::Durability;

    use super::*;
    use crate::DiskBudget;
    use crate::file::tests::{frame, key, now};
    use crate::file::{FileOptions, FileTier};

    fn tier(dir: &Path) -> FileTier {
        let budget = DiskBudget::unlimited().share();
        let durability = Durability::Buffered;
        FileTier::open(FileOptions { dir: dir.to_owned(), shared: false, budget, durability }).unwrap()
    }

    fn names(dir: &Path) -> Vec<std::path::PathBuf> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    #[test]
    fn reader_sees_entries_of_an_open_tier_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tier = tier(dir.path());
        let (key, stored) = (key(7), frame(7, 1, 10));
        now(tier.put(&key, &stored)).unwrap();
        let before = names(dir.path());
        let reader = FileReader::open(dir.path()).unwrap();
        assert_eq!(now(reader.get(&key)).unwrap().unwrap(), stored.to_vec());
        let mut heads = 0;
        now(reader.scan(&mut |_| heads += 1)).unwrap();
        assert_eq!((heads, reader.usage().entries), (1, 1));
        assert_eq!(now(reader.remove(&key)).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(now(reader.clear()).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(names(dir.path()), before);
        assert_eq!(now(tier.get(&key)).unwrap().unwrap(), stored.to_vec());
    }

    #[test]
    fn damaged_and_misnamed_files_are_counted_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tier = tier(dir.path());
        let keys: Vec<_> = (0..3).map(key).collect();
        for (number, key) in (0..).zip(&keys) {
            now(tier.put(key, &frame(number, 1, 10))).unwrap();
        }
        let path = |key: &EncodedKey| tier.layout.path(key.digest());
        let mut bytes = fs::read(path(&keys[0])).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path(&keys[0]), bytes).unwrap();
        fs::copy(path(&keys[2]), path(&keys[1])).unwrap();
        let unknown = path(&key(9));
        fs::create_dir_all(unknown.parent().unwrap()).unwrap();
        fs::copy(path(&keys[2]), unknown).unwrap();
        let expected = EntryCheck { whole: 1, damaged: 3 };
        assert_eq!(FileReader::open(dir.path()).unwrap().check().unwrap(), expected);
        assert_eq!(tier.remove_damaged().unwrap(), expected);
        assert_eq!(tier.remove_damaged().unwrap(), EntryCheck { whole: 1, damaged: 0 });
        assert!(now(tier.get(&keys[2])).unwrap().is_some());
    }
}
