//! The snapshot of the index, which a clean close leaves for the next open.
//!
//! `docs/format.md` specifies its bytes. The snapshot is written after the marker says that the
//! directory is closed. It names that marker file by its inode number and its times. A process of
//! any build that opens the directory writes the marker again before it changes anything. So an
//! outdated snapshot never matches the marker. A snapshot that is not durable, or is damaged, does
//! not have its checksum.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use larder_core::clock::Time;
use xxhash_rust::xxh3::xxh3_64;

use super::index::{Index, KeptEntry, KnownDeadline, rounded};
use crate::{boot_marker, private_file};

const NAME: &str = "index";
const MAGIC: &[u8; 4] = b"LRDI";
const VERSION: u8 = 1;
/// Magic, version, three bytes of zero, stamp of the marker, number of entries.
const HEAD_LEN: usize = 24;
/// Digest, bytes on disk, deadline, flags.
const ENTRY_LEN: usize = 33;
const SUM_LEN: usize = 8;
const WAS_READ: u8 = 1;
const HAS_DEADLINE: u8 = 2;

/// A directory of fewer entries is listed about as fast as a snapshot of it is read, so the budget
/// has no room reserved for one.
const ENTRIES_MIN: usize = 64;

/// Bytes on disk of a snapshot of `index`, if the budget is to have room for one.
pub(super) fn reserve(index: &Index) -> u64 {
    if index.len() < ENTRIES_MIN { 0 } else { len(index) }
}

fn len(index: &Index) -> u64 {
    rounded((HEAD_LEN + index.len() * ENTRY_LEN + SUM_LEN) as u64)
}

/// Reads the snapshot of a directory that was closed. `None` if there is none that matches the
/// marker, or if it is damaged.
pub(super) fn read(dir: &Path) -> Option<Index> {
    let bytes = fs::read(dir.join(NAME)).ok()?;
    decode(&bytes, boot_marker::stamp(dir)?)
}

/// Writes a snapshot of `index`, if it fits into `room` bytes. A failure is logged: the next open
/// lists the directory then.
pub(super) fn write(dir: &Path, index: &Index, room: u64) {
    let Some(stamp) = boot_marker::stamp(dir).filter(|_| len(index) <= room) else { return };
    if let Err(error) =
        private_file::create(&dir.join(NAME)).and_then(|mut file| file.write_all(&encode(index, stamp)))
    {
        let _ = delete(dir);
        tracing::debug!(target: "larder", path = %dir.display(), %error, "cannot write the snapshot of the index; the next open lists all files");
    }
}

/// Deletes the snapshot, if there is one.
pub(super) fn delete(dir: &Path) -> io::Result<()> {
    private_file::remove(&dir.join(NAME))
}

fn encode(index: &Index, stamp: u64) -> Vec<u8> {
    let kept = index.kept();
    let mut bytes = Vec::with_capacity(HEAD_LEN + kept.len() * ENTRY_LEN + SUM_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
    bytes.extend_from_slice(&stamp.to_le_bytes());
    bytes.extend_from_slice(&(kept.len() as u64).to_le_bytes());
    for KeptEntry { digest, bytes: on_disk, was_read, until } in kept {
        let (deadline, known) = match until {
            KnownDeadline::Unknown => (0, 0),
            KnownDeadline::At(time) => (time.as_millis(), HAS_DEADLINE),
        };
        bytes.extend_from_slice(&digest.to_le_bytes());
        bytes.extend_from_slice(&on_disk.to_le_bytes());
        bytes.extend_from_slice(&deadline.to_le_bytes());
        bytes.push(known | if was_read { WAS_READ } else { 0 });
    }
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], stamp: u64) -> Option<Index> {
    let (rest, sum) = bytes.split_last_chunk::<SUM_LEN>()?;
    let (head, entries) = rest.split_first_chunk::<HEAD_LEN>()?;
    let count = u64::from_le_bytes(*head.last_chunk()?);
    let is_whole = head.starts_with(MAGIC)
        && head[4..8] == [VERSION, 0, 0, 0]
        && head[8..16] == stamp.to_le_bytes()
        && entries.len() as u64 == count.checked_mul(ENTRY_LEN as u64)?
        && xxh3_64(rest) == u64::from_le_bytes(*sum);
    is_whole.then(|| Index::restored(entries.as_chunks::<ENTRY_LEN>().0.iter().map(entry)))
}

fn entry(bytes: &[u8; ENTRY_LEN]) -> KeptEntry {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let flags = bytes[32];
    KeptEntry {
        digest: u128::from(word(0)) | u128::from(word(8)) << 64,
        bytes: word(16),
        was_read: flags & WAS_READ != 0,
        until: match flags & HAS_DEADLINE {
            0 => KnownDeadline::Unknown,
            _ => KnownDeadline::At(Time::from_millis(word(24))),
        },
    }
}

#[cfg(test)]
mod tests;
