//! The marker file of a directory: in which boot it was opened, and whether it was closed.
//!
//! Data that a process handed to the operating system survives a crash of the process, but not of
//! the machine. So each directory has a marker. It records the boot in which the directory was
//! opened, and whether the directory was closed with all of its data durable. `docs/format.md`
//! specifies its bytes.
//!
//! Without a marker, nothing in the directory is trusted. Deleting the marker needs no free space.
//! So a tier that cannot record a change on a full disk deletes the marker and continues.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use larder_core::Durability;
use parking_lot::Mutex;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::durable_sync::{self, sync_dir};
use crate::private_file;

const NAME: &str = "marker";
const DRAFT: &str = "marker.new";
const MAGIC: &[u8; 4] = b"LRDM";
const VERSION: u8 = 1;
const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const BOOT_AT: usize = 8;
const SUM_AT: usize = 24;
const LEN: usize = 32;

/// How the last process that had the directory of a tier open left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastShutdown {
    /// The directory was closed, and all of its data is durable.
    Closed,
    /// The process ended without closing it, in the present boot: all data that was handed to the
    /// operating system is there.
    Killed,
    /// The machine went down, and acknowledged writes had been synced.
    MachineDown,
    /// Nothing in the directory is trusted.
    Unknown,
}

/// What the marker of a tier's directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownRecord {
    /// How the last process left the directory.
    pub last_shutdown: LastShutdown,
    /// Whether acknowledged writes were synced.
    pub is_synced: bool,
    written: SystemTime,
}

impl ShutdownRecord {
    /// Reads the marker of the directory `dir`. `None` if there is none, or if it cannot be read.
    ///
    /// Every process that opens the directory writes the marker before it changes an entry. So the entries of
    /// a directory that no process had open have not changed as long as this returns an equal value.
    pub fn read(dir: &Path) -> Option<Self> {
        let path = dir.join(NAME);
        let written = fs::metadata(&path).and_then(|found| found.modified()).ok()?;
        let bytes = fs::read(path).ok()?;
        let is_synced = bytes.get(6) == Some(&1);
        Some(Self { last_shutdown: last_shutdown(&bytes, this_boot()), is_synced, written })
    }

    /// The durability that the directory was opened with, as far as a later process has to know it.
    pub fn durability(&self) -> Durability {
        if self.is_synced { Durability::Synced } else { Durability::Buffered }
    }
}

/// The marker of a directory that a tier has open.
#[derive(Debug)]
pub(crate) struct Marker {
    dir: PathBuf,
    durability: Durability,
    boot: Option<u128>,
    state: Mutex<MarkerState>,
}

/// Whether the marker file exists. The lock is held while that changes.
#[derive(Debug)]
struct MarkerState {
    is_withdrawn: bool,
    /// How often the marker was withdrawn.
    #[cfg(feature = "disk")]
    withdrawals: u64,
}

impl Marker {
    /// Reads the marker of the existing directory `dir`. Changes nothing on disk.
    pub(crate) fn find(dir: &Path, durability: Durability) -> (Self, LastShutdown) {
        let boot = this_boot();
        let last_shutdown =
            fs::read(dir.join(NAME)).map_or(LastShutdown::Unknown, |bytes| last_shutdown(&bytes, boot));
        let state = Mutex::new(MarkerState {
            is_withdrawn: true,
            #[cfg(feature = "disk")]
            withdrawals: 0,
        });
        let marker = Self { dir: dir.to_owned(), durability, boot, state };
        (marker, last_shutdown)
    }

    /// The durability that the directory was opened with.
    #[cfg(feature = "disk")]
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns whether the marker is deleted, so that nothing in the directory is trusted.
    #[cfg(feature = "disk")]
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.state.lock().is_withdrawn
    }

    /// Returns whether the system has a boot id. Only then can a directory that was not closed be
    /// told apart from one whose machine went down.
    pub(crate) fn knows_boot(&self) -> bool {
        self.boot.is_some()
    }

    /// Writes a marker that says that the directory is in use. The caller does so before it changes
    /// anything in the directory.
    ///
    /// Waits until the marker is durable. Otherwise a machine that goes down could leave the former
    /// marker, which says closed, beside changes that are torn.
    pub(crate) fn open(&self) -> io::Result<()> {
        self.open_as(&mut self.state.lock())
    }

    fn open_as(&self, state: &mut MarkerState) -> io::Result<()> {
        self.write(OPEN, state).or_else(|error| {
            state.is_withdrawn = false;
            self.delete(state).map_err(|_| error)
        })
    }

    /// Writes a marker that says that all data is durable. Nothing may change afterwards.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.write(CLOSED, &mut self.state.lock())
    }

    /// Deletes the marker, so that nothing is trusted unless [`restore`](Self::restore) writes it
    /// again.
    #[cfg(feature = "disk")]
    pub(crate) fn withdraw(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.withdrawals += 1;
        self.delete(&mut state)
    }

    fn delete(&self, state: &mut MarkerState) -> io::Result<()> {
        if state.is_withdrawn {
            return Ok(());
        }
        match fs::remove_file(self.dir.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => state.is_withdrawn = true,
        }
        if self.durability == Durability::Synced { sync_dir(&self.dir) } else { Ok(()) }
    }

    /// How often the marker was withdrawn.
    #[cfg(feature = "disk")]
    pub(crate) fn withdrawals(&self) -> u64 {
        self.state.lock().withdrawals
    }

    /// Writes the marker again after it was withdrawn, unless it was withdrawn more than
    /// `withdrawals` times.
    #[cfg(feature = "disk")]
    pub(crate) fn restore(&self, withdrawals: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let is_covered = state.is_withdrawn && state.withdrawals == withdrawals;
        if is_covered { self.open_as(&mut state) } else { Ok(()) }
    }

    /// Writes the marker. One that exists is overwritten in place: that is a single small write, and
    /// its sync needs no commit of the file system. A torn marker has a wrong checksum.
    fn write(&self, byte: u8, state: &mut MarkerState) -> io::Result<()> {
        if let Ok(mut file) = OpenOptions::new().write(true).open(self.dir.join(NAME))
            && file.metadata()?.len() == LEN as u64
        {
            file.write_all(&self.bytes(byte))?;
            file.sync_data()?;
            state.is_withdrawn = false;
            return Ok(());
        }
        self.create(byte, state)
    }

    fn create(&self, byte: u8, state: &mut MarkerState) -> io::Result<()> {
        let draft = self.dir.join(DRAFT);
        let mut file = private_file::create(&draft)?;
        file.write_all(&self.bytes(byte))?;
        file.sync_all()?;
        fs::rename(&draft, self.dir.join(NAME))?;
        state.is_withdrawn = false;
        sync_dir(&self.dir)
    }

    fn bytes(&self, state: u8) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4] = VERSION;
        bytes[5] = state;
        bytes[6] = (self.durability == Durability::Synced).into();
        bytes[BOOT_AT..SUM_AT].copy_from_slice(&self.boot.unwrap_or(0).to_le_bytes());
        let sum = xxh3_64(&bytes[..SUM_AT]);
        bytes[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// Interprets the bytes of a marker. `now` is the present boot.
fn last_shutdown(bytes: &[u8], now: Option<u128>) -> LastShutdown {
    let Ok(bytes) = <&[u8; LEN]>::try_from(bytes) else { return LastShutdown::Unknown };
    let (head, sum) = bytes.split_at(SUM_AT);
    if !head.starts_with(MAGIC) || head[4] != VERSION || sum != xxh3_64(head).to_le_bytes() {
        return LastShutdown::Unknown;
    }
    let boot = &head[BOOT_AT..];
    match (head[5], now.is_some_and(|now| boot == now.to_le_bytes()), head[6]) {
        (CLOSED, ..) => LastShutdown::Closed,
        (OPEN, true, _) => LastShutdown::Killed,
        (OPEN, false, 1) => LastShutdown::MachineDown,
        _ => LastShutdown::Unknown,
    }
}

/// Identifies the marker file of `dir` as it was last written. `None` if that is unknown.
pub(crate) fn stamp(dir: &Path) -> Option<u64> {
    durable_sync::stamp(&dir.join(NAME))
}

/// Hash of the boot id, on systems that have one.
fn this_boot() -> Option<u128> {
    let id = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    Some(xxh3_128(id.trim_ascii())).filter(|boot| *boot != 0)
}

/// Changes the marker of `dir` to that of another boot, for tests.
#[cfg(test)]
pub(crate) fn pretend_reboot(dir: &Path) {
    let mut bytes = fs::read(dir.join(NAME)).unwrap();
    bytes[BOOT_AT] ^= 1;
    let sum = xxh3_64(&bytes[..SUM_AT]);
    bytes[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
    fs::write(dir.join(NAME), bytes).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(dir: &Path) -> LastShutdown {
        Marker::find(dir, Durability::Buffered).1
    }

    #[test]
    fn marker_tells_how_the_directory_was_left() {
        let dir = tempfile::tempdir().unwrap();
        for (durability, after_reboot) in
            [(Durability::Buffered, LastShutdown::Unknown), (Durability::Synced, LastShutdown::MachineDown)]
        {
            let (marker, _) = Marker::find(dir.path(), durability);
            marker.open().unwrap();
            assert_eq!(
                found(dir.path()),
                if marker.knows_boot() { LastShutdown::Killed } else { after_reboot }
            );
            pretend_reboot(dir.path());
            assert_eq!(found(dir.path()), after_reboot);
            marker.close().unwrap();
            assert_eq!(found(dir.path()), LastShutdown::Closed);
            pretend_reboot(dir.path());
            assert_eq!(found(dir.path()), LastShutdown::Closed);
        }
    }

    #[cfg(feature = "disk")]
    #[test]
    fn withdrawn_marker_is_absent_until_it_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let (marker, last_shutdown) = Marker::find(dir.path(), Durability::Buffered);
        assert_eq!(last_shutdown, LastShutdown::Unknown);
        marker.open().unwrap();
        marker.withdraw().unwrap();
        marker.withdraw().unwrap();
        assert_eq!(found(dir.path()), LastShutdown::Unknown);
        marker.restore(1).unwrap();
        assert_eq!(found(dir.path()), LastShutdown::Unknown, "a second change is not in the flush");
        marker.restore(2).unwrap();
        assert!(dir.path().join(NAME).exists());
    }

    #[test]
    fn damaged_marker_is_never_trusted() {
        let dir = tempfile::tempdir().unwrap();
        Marker::find(dir.path(), Durability::Synced).0.close().unwrap();
        let whole = fs::read(dir.path().join(NAME)).unwrap();
        for at in 0..whole.len() {
            assert_eq!(last_shutdown(&whole[..at], None), LastShutdown::Unknown, "{at} bytes");
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert_eq!(last_shutdown(&bytes, None), LastShutdown::Unknown, "bit {bit} of byte {at}");
            }
        }
    }
}
