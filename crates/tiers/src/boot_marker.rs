//! Which boot of the machine wrote a directory, and how that ended.
//!
//! What a process handed to the operating system outlives the process, and not
//! the machine. So a directory carries a marker: the boot it was opened in, and
//! whether it was closed with all of it on the medium. `docs/format.md` has its
//! bytes.
//!
//! No marker means that nothing in the directory is trusted. Taking it away
//! needs no room on a full disk, so a tier that cannot write down a change
//! takes it away and goes on.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use larder_core::Durability;
use parking_lot::Mutex;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::durable_sync::sync_dir;

const NAME: &str = "marker";
const DRAFT: &str = "marker.new";
const MAGIC: &[u8; 4] = b"LRDM";
const VERSION: u8 = 1;
const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const BOOT_AT: usize = 8;
const SUM_AT: usize = 24;
const LEN: usize = 32;

/// What is known of those who had a directory before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// It was closed, and is whole.
    Closed,
    /// The process ended without closing it, and the machine went on: all
    /// that was handed to the operating system is there.
    Killed,
    /// The machine went down, and what was acknowledged had been synced.
    Downed,
    /// Nothing in it is to be trusted.
    Unknown,
}

/// The marker of a directory that a tier has open.
#[derive(Debug)]
pub(crate) struct Marker {
    dir: PathBuf,
    durability: Durability,
    boot: Option<u128>,
    standing: Mutex<Standing>,
}

/// Whether the file is there. Held while that changes.
#[derive(Debug)]
struct Standing {
    is_withdrawn: bool,
    /// How often nothing was to be trusted any more.
    #[cfg(feature = "disk")]
    withdrawals: u64,
}

impl Marker {
    /// The marker of `dir`, which is there, and what it says of the past.
    /// Changes nothing.
    pub(crate) fn find(dir: &Path, durability: Durability) -> (Self, Past) {
        let boot = this_boot();
        let past = fs::read(dir.join(NAME)).map_or(Past::Unknown, |bytes| past(&bytes, boot));
        let standing = Mutex::new(Standing {
            is_withdrawn: true,
            #[cfg(feature = "disk")]
            withdrawals: 0,
        });
        let marker = Self { dir: dir.to_owned(), durability, boot, standing };
        (marker, past)
    }

    /// What was asked for when the directory was opened.
    #[cfg(feature = "disk")]
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Whether nothing is to be trusted at present.
    #[cfg(feature = "disk")]
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.standing.lock().is_withdrawn
    }

    /// Whether a directory that was not closed can be told from one that lost
    /// its machine.
    pub(crate) fn knows_boot(&self) -> bool {
        self.boot.is_some()
    }

    /// Says that the directory is in use, before anything in it changes.
    ///
    /// Waits for the medium: else a machine that goes down could leave the
    /// word that all is well beside changes that are torn.
    pub(crate) fn open(&self) -> io::Result<()> {
        self.open_as(&mut self.standing.lock())
    }

    fn open_as(&self, standing: &mut Standing) -> io::Result<()> {
        self.write(OPEN, standing).or_else(|error| {
            standing.is_withdrawn = false;
            self.take_away(standing).map_err(|_| error)
        })
    }

    /// Says that all is on the medium, and nothing will change any more.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.write(CLOSED, &mut self.standing.lock())
    }

    /// Says that nothing is to be trusted unless this is taken back.
    #[cfg(feature = "disk")]
    pub(crate) fn withdraw(&self) -> io::Result<()> {
        let mut standing = self.standing.lock();
        standing.withdrawals += 1;
        self.take_away(&mut standing)
    }

    fn take_away(&self, standing: &mut Standing) -> io::Result<()> {
        if standing.is_withdrawn {
            return Ok(());
        }
        match fs::remove_file(self.dir.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => standing.is_withdrawn = true,
        }
        if self.durability == Durability::Synced { sync_dir(&self.dir) } else { Ok(()) }
    }

    /// How often it was withdrawn.
    #[cfg(feature = "disk")]
    pub(crate) fn withdrawals(&self) -> u64 {
        self.standing.lock().withdrawals
    }

    /// Takes back what was withdrawn before there were more than `withdrawals`.
    #[cfg(feature = "disk")]
    pub(crate) fn restore(&self, withdrawals: u64) -> io::Result<()> {
        let mut standing = self.standing.lock();
        let is_made_up_for = standing.is_withdrawn && standing.withdrawals == withdrawals;
        if is_made_up_for { self.open_as(&mut standing) } else { Ok(()) }
    }

    fn write(&self, state: u8, standing: &mut Standing) -> io::Result<()> {
        let draft = self.dir.join(DRAFT);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        file.write_all(&self.bytes(state))?;
        file.sync_all()?;
        fs::rename(&draft, self.dir.join(NAME))?;
        standing.is_withdrawn = false;
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

/// What the bytes of a marker say in the boot `now`.
fn past(bytes: &[u8], now: Option<u128>) -> Past {
    let Ok(bytes) = <&[u8; LEN]>::try_from(bytes) else { return Past::Unknown };
    let (said, sum) = bytes.split_at(SUM_AT);
    if !said.starts_with(MAGIC) || said[4] != VERSION || sum != xxh3_64(said).to_le_bytes() {
        return Past::Unknown;
    }
    let boot = &said[BOOT_AT..];
    match (said[5], now.is_some_and(|now| boot == now.to_le_bytes()), said[6]) {
        (CLOSED, ..) => Past::Closed,
        (OPEN, true, _) => Past::Killed,
        (OPEN, false, 1) => Past::Downed,
        _ => Past::Unknown,
    }
}

/// A number for the time since the machine started, where the system has one.
fn this_boot() -> Option<u128> {
    let id = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    Some(xxh3_128(id.trim_ascii())).filter(|boot| *boot != 0)
}

/// Says of `dir` what another boot would have left, for tests.
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

    fn found(dir: &Path) -> Past {
        Marker::find(dir, Durability::Buffered).1
    }

    #[test]
    fn the_past_is_told_from_the_marker() {
        let dir = tempfile::tempdir().unwrap();
        for (durability, downed) in
            [(Durability::Buffered, Past::Unknown), (Durability::Synced, Past::Downed)]
        {
            let (marker, _) = Marker::find(dir.path(), durability);
            marker.open().unwrap();
            assert_eq!(found(dir.path()), if marker.knows_boot() { Past::Killed } else { downed });
            pretend_reboot(dir.path());
            assert_eq!(found(dir.path()), downed);
            marker.close().unwrap();
            assert_eq!(found(dir.path()), Past::Closed);
            pretend_reboot(dir.path());
            assert_eq!(found(dir.path()), Past::Closed);
        }
    }

    #[cfg(feature = "disk")]
    #[test]
    fn a_withdrawn_marker_is_gone_until_it_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let (marker, past) = Marker::find(dir.path(), Durability::Buffered);
        assert_eq!(past, Past::Unknown);
        marker.open().unwrap();
        marker.withdraw().unwrap();
        marker.withdraw().unwrap();
        assert_eq!(found(dir.path()), Past::Unknown);
        marker.restore(1).unwrap();
        assert_eq!(found(dir.path()), Past::Unknown, "a second change was not made up for");
        marker.restore(2).unwrap();
        assert!(dir.path().join(NAME).exists());
    }

    #[test]
    fn no_damage_of_a_marker_makes_it_trusted() {
        let dir = tempfile::tempdir().unwrap();
        Marker::find(dir.path(), Durability::Synced).0.close().unwrap();
        let whole = fs::read(dir.path().join(NAME)).unwrap();
        for at in 0..whole.len() {
            assert_eq!(past(&whole[..at], None), Past::Unknown, "{at} bytes");
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert_eq!(past(&bytes, None), Past::Unknown, "bit {bit} of byte {at}");
            }
        }
    }
}
