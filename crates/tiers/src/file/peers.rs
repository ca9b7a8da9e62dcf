//! Coordination with other processes on the same directory.
//!
//! ```text
//! <dir>/peers/changes       a counter for each of 16384 groups of entries
//! <dir>/peers/<2 hex>.lock  locked by a process while it changes an entry
//! <dir>/tmp/<id>.live       locked by a process while it has the directory open
//! ```
//!
//! A counter is odd while an entry of its group is being changed, and even and larger afterwards.
//! So an even value that is read twice says that nothing changed in between. It is the version of
//! the entry.
//!
//! A process that is killed during a change leaves an odd value. Its group has no version until the
//! next change.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use larder_core::tier::EntryVersion;
use larder_core::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::index::{BLOCK, upper_of};
use super::layout::{create_dir, create_file, error_at};
use crate::durable_sync::is_removed;
use crate::private_file;

/// Number of counters. Entries that share a counter lose their copies in memory together.
const GROUPS: usize = 1 << 14;
/// Number of lock files: as many changes can be in progress at once.
///
/// All entries in one upper directory share a lock. So no process deletes a directory in which
/// another one creates a file.
const LOCKS: usize = 16;
/// Longest wait for a lock that another process holds. A change takes some microseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);

/// Disk usage of the counters and their directory.
pub(super) const BYTES: u64 = GROUPS as u64 * 8 + BLOCK;

/// The files that the processes on a directory share. They are dropped on close.
#[derive(Debug)]
pub(super) struct Peers {
    dir: PathBuf,
    /// Behind a mutex: threads of this process share the file position. Other processes have their
    /// own.
    changes: Mutex<Option<File>>,
    locks: Vec<Mutex<Option<File>>>,
}

impl Peers {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let dir = dir.join("peers");
        let open = |name: &str| {
            let path = dir.join(name);
            open_file(&path).map(|file| Mutex::new(Some(file))).map_err(|error| error_at(&path, error))
        };
        create_dir(&dir).map_err(|error| error_at(&dir, error))?;
        let locks = (0..LOCKS).map(|lock| open(&lock_name(lock))).collect::<Result<Vec<_>>>()?;
        let changes = Mutex::new(Some(open_counters(&dir)?));
        Ok(Self { changes, locks, dir })
    }

    /// The version of `digest` now. `None` while its group is being changed.
    pub(super) fn version(&self, digest: u128) -> Option<EntryVersion> {
        self.counters(|file| read_count(file, group_of(digest))).ok().and_then(version_of)
    }

    /// Begins a change of `digest`, which ends when the guard is dropped. Waits for changes of
    /// other processes.
    pub(super) fn change(&self, digest: u128) -> Result<Change<'_>> {
        let lock = self.lock(usize::from(upper_of(digest)) % LOCKS)?;
        let group = group_of(digest);
        let count = self.counters(|file| {
            let count = read_count(file, group)?;
            write_counts(file, group, &[value_during_change(count)]).map(|()| count)
        })?;
        let before = version_of(count);
        Ok(Change {
            peers: self,
            first: group,
            counts: vec![value_after_change(count)],
            before,
            _locks: vec![lock],
        })
    }

    /// Begins a change of every entry.
    pub(super) fn change_all(&self) -> Result<Change<'_>> {
        let locks = (0..LOCKS).map(|lock| self.lock(lock)).collect::<Result<Vec<_>>>()?;
        let counts = self.counters(|file| {
            let counts = (0..GROUPS).map(|group| read_count(file, group)).collect::<io::Result<Vec<_>>>()?;
            let during_change: Vec<u64> = counts.iter().copied().map(value_during_change).collect();
            write_counts(file, 0, &during_change).map(|()| counts)
        })?;
        let counts = counts.into_iter().map(value_after_change).collect();
        Ok(Change { peers: self, first: 0, counts, before: None, _locks: locks })
    }

    /// Opens the files that are at the paths now, after the directory was removed or replaced.
    pub(super) fn renew(&self) -> Result<()> {
        create_dir(&self.dir)?;
        for (number, lock) in self.locks.iter().enumerate() {
            *lock.lock() = Some(open_file(&self.dir.join(lock_name(number)))?);
        }
        *self.changes.lock() = Some(open_counters(&self.dir)?);
        Ok(())
    }

    /// Closes all files. Waits for changes in progress.
    pub(super) fn close(&self) {
        *self.changes.lock() = None;
        self.locks.iter().for_each(|lock| *lock.lock() = None);
    }

    /// Lends the file of the counters to `work`.
    ///
    /// A program that cleans up temporary directories may have deleted the file. This opens the one
    /// at the path then, as every other process does.
    fn counters<T>(&self, work: impl FnOnce(&mut File) -> io::Result<T>) -> Result<T> {
        let mut changes = self.changes.lock();
        let file = changes.as_mut().ok_or_else(closed)?;
        if is_removed(file) {
            *file = open_counters(&self.dir)?;
        }
        Ok(work(file)?)
    }

    fn lock(&self, lock: usize) -> Result<Locked<'_>> {
        let mut guard = self.locks.get(lock % LOCKS).ok_or_else(lock_timeout)?.lock();
        let file = guard.as_mut().ok_or_else(closed)?;
        acquire(file)?;
        while is_removed(file) {
            create_dir(&self.dir)?;
            *file = open_file(&self.dir.join(lock_name(lock % LOCKS)))?;
            acquire(file)?;
        }
        Ok(Locked(guard))
    }
}

fn lock_name(lock: usize) -> String {
    format!("{lock:02x}.lock")
}

/// Opens the counters in `dir`. Creates them if they are missing: written whole, then renamed.
///
/// New counters start at the present time, so that no value of a former file occurs again.
fn open_counters(dir: &Path) -> Result<File> {
    let path = dir.join("changes");
    let counters = || -> io::Result<File> {
        let found = open_file(&path)?;
        if found.metadata()?.len() >= GROUPS as u64 * 8 {
            return Ok(found);
        }
        let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() as u64;
        let draft = dir.join(format!("changes.{:x}-{nanos:x}", std::process::id()));
        let mut file = create_file(&draft)?;
        let renamed = write_counts(&mut file, 0, &vec![nanos & !1; GROUPS]);
        // If several processes do this at once, the last rename wins. The others find their file
        // deleted.
        let renamed = renamed.and_then(|()| fs::rename(&draft, &path));
        if renamed.is_err() {
            let _ = fs::remove_file(&draft);
        }
        renamed.and_then(|()| open_file(&path))
    };
    create_dir(dir).and_then(|()| counters()).map_err(|error| error_at(&path, error))
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the tier is closed")
}

fn version_of(count: u64) -> Option<EntryVersion> {
    count.is_multiple_of(2).then(|| EntryVersion::new(count / 2 + 1)).flatten()
}

/// The value of a counter during a change. An odd value, which a killed process left, is raised
/// too, because its changes are unknown.
fn value_during_change(count: u64) -> u64 {
    (count | 1).wrapping_add(if count.is_multiple_of(2) { 0 } else { 2 })
}

/// The value of a counter after the change.
fn value_after_change(count: u64) -> u64 {
    value_during_change(count).wrapping_add(1)
}

fn group_of(digest: u128) -> usize {
    digest as usize % GROUPS
}

fn read_count(changes: &mut File, group: usize) -> io::Result<u64> {
    let mut count = [0; 8];
    changes.seek(SeekFrom::Start(group as u64 * 8))?;
    changes.read_exact(&mut count)?;
    Ok(u64::from_le_bytes(count))
}

fn write_counts(changes: &mut File, first: usize, counts: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    changes.seek(SeekFrom::Start(first as u64 * 8))?;
    changes.write_all(&bytes)
}

/// Guard of a change in progress. Other processes wait with theirs, and trust no copy in memory.
#[derive(Debug)]
pub(super) struct Change<'a> {
    peers: &'a Peers,
    first: usize,
    /// The values of the counters after the change.
    counts: Vec<u64>,
    before: Option<EntryVersion>,
    /// Released after the counters are written.
    _locks: Vec<Locked<'a>>,
}

impl Change<'_> {
    /// The version of the entry before this change.
    pub(super) fn before(&self) -> Option<EntryVersion> {
        self.before
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        // If this fails, the counters stay odd, so no copy is trusted.
        let _ = self.peers.counters(|file| write_counts(file, self.first, &self.counts));
    }
}

#[derive(Debug)]
struct Locked<'a>(MutexGuard<'a, Option<File>>);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.0.as_ref() {
            let _ = file.unlock();
        }
    }
}

/// Waits for a file lock, for at most [`LOCK_WAIT_MAX`]: the process that holds it may be stopped.
fn acquire(file: &File) -> Result<()> {
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    let mut pause = Duration::from_micros(20);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                // Sleeps. File locks have no event to wait for.
                Condvar::new().wait_for(&mut Mutex::new(()).lock(), pause);
                pause = (pause * 2).min(Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => return Err(lock_timeout()),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

fn lock_timeout() -> Error {
    let message = format!("another process has held the lock of an entry for {} s", LOCK_WAIT_MAX.as_secs());
    Error::new(ErrorKind::Unavailable, message)
}

fn open_file(path: &Path) -> io::Result<File> {
    private_file::open(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)
}

/// The liveness file of this process. While it is locked, other processes keep this process's
/// temporary files.
#[derive(Debug)]
pub(super) struct LivenessFile {
    id: String,
    path: PathBuf,
    /// Locked. The system releases the lock when the process ends, however it ends.
    file: Mutex<Option<File>>,
}

impl LivenessFile {
    /// Creates the file under a name that no other process uses.
    pub(super) fn new(tmp: &Path) -> io::Result<Self> {
        let mut failure = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..100 {
            let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() as u64;
            let id = format!("{:x}-{nanos:x}", std::process::id());
            let path = tmp.join(format!("{id}.live"));
            match create_file(&path) {
                // Another process may have swept the file before it was locked.
                Ok(file) if file.try_lock().is_ok() && path.exists() => {
                    return Ok(Self { id, path, file: Mutex::new(Some(file)) });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    /// The prefix of the names of this process's temporary files.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Deletes the file.
    pub(super) fn end(&self) {
        if let Some(locked) = self.file.lock().take() {
            // Deleted before the unlock: afterwards another process may sweep it.
            let _ = fs::remove_file(&self.path);
            drop(locked);
        }
    }
}

impl Drop for LivenessFile {
    fn drop(&mut self) {
        self.end();
    }
}

/// Deletes temporary files that ended processes left in `tmp`. Keeps those of live processes, and
/// files whose names are foreign.
pub(super) fn sweep(tmp: &Path) -> io::Result<()> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(tmp)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    let mut ids: Vec<&str> = names.iter().filter_map(|name| owner(name)).collect();
    ids.dedup();
    for id in ids {
        let live = tmp.join(format!("{id}.live"));
        let file = File::open(&live).ok();
        if file.as_ref().is_some_and(|file| file.try_lock().is_err()) {
            continue;
        }
        names.iter().filter(|name| owner(name) == Some(id)).try_for_each(|name| delete(&tmp.join(name)))?;
    }
    Ok(())
}

/// The id of the process that created a file in `tmp`. Empty for a process that had the directory
/// alone, and `None` for a foreign file.
fn owner(name: &str) -> Option<&str> {
    let (rest, suffix) = name.rsplit_once('.')?;
    let (id, number) = match suffix {
        "live" => (rest, "0"),
        "put" | "clear" => rest.rsplit_once('.').unwrap_or(("", rest)),
        _ => return None,
    };
    let is_id =
        |id: &str| id.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit()));
    let is_ours = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty();
    (is_ours && (id.is_empty() && suffix != "live" || is_id(id) && id.contains('-'))).then_some(id)
}

fn delete(path: &Path) -> io::Result<()> {
    let deleted = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    // Another process may sweep at the same time.
    deleted.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_stays_the_same_until_a_process_changes_the_entry() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, theirs) = (Peers::open(dir.path()).unwrap(), Peers::open(dir.path()).unwrap());
        let (entry, other) = (7, 8);
        let before = mine.version(entry).unwrap();
        let untouched = mine.version(other).unwrap();
        let change = theirs.change(entry).unwrap();
        assert_eq!(mine.version(entry), None, "while it is changed");
        drop(change);
        let after = mine.version(entry).unwrap();
        assert!(after != before && mine.version(other) == Some(untouched));
        drop(mine.change_all().unwrap());
        assert!(theirs.version(entry) != Some(after) && theirs.version(other) != Some(untouched));
        drop((mine, theirs));
        assert!(Peers::open(dir.path()).unwrap().version(entry).unwrap().get() > after.get());
    }

    #[cfg(unix)]
    #[test]
    fn deleted_counters_and_locks_are_created_again_and_shared() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, theirs) = (Peers::open(dir.path()).unwrap(), Peers::open(dir.path()).unwrap());
        let before = mine.version(7).unwrap();
        fs::remove_dir_all(dir.path().join("peers")).unwrap();
        drop(theirs.change(7).unwrap());
        let after = mine.version(7).unwrap();
        assert!(after != before && theirs.version(7) == Some(after));
        let change = mine.change(7).unwrap();
        assert_eq!(theirs.version(7), None, "while it is changed");
        let lock = open_file(&dir.path().join("peers").join(lock_name(0))).unwrap();
        assert!(lock.try_lock().is_err(), "it is the lock that others find");
        drop(change);
        assert!(theirs.version(7).unwrap().get() > after.get());
    }

    #[test]
    fn interrupted_change_leaves_no_version_until_the_next_change() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::open(dir.path()).unwrap();
        let before = peers.version(7).unwrap();
        peers
            .counters(|file| write_counts(file, group_of(7), &[value_during_change(before.get() * 2)]))
            .unwrap();
        assert_eq!(peers.version(7), None);
        drop(peers.change(7).unwrap());
        assert!(peers.version(7).unwrap().get() > before.get() + 1);
    }

    #[test]
    fn sweep_deletes_files_of_ended_processes_and_keeps_those_of_live_ones() {
        let dir = tempfile::tempdir().unwrap();
        let liveness = LivenessFile::new(dir.path()).unwrap();
        let path = |name: &str| dir.path().join(name);
        let mine = format!("{}.0.put", liveness.id());
        for name in [mine.as_str(), "1-ab.3.put", "1-ab.live", "5.put", "2-cd.live", "notes.txt", "x.put.bak"]
        {
            fs::write(path(name), b"").unwrap();
        }
        fs::create_dir_all(path("1-ab.4.clear/aa/bb")).unwrap();
        sweep(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected =
            vec![format!("{}.live", liveness.id()), mine, "notes.txt".into(), "x.put.bak".into()];
        expected.sort();
        assert_eq!(left, expected);
        drop(liveness);
        sweep(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
