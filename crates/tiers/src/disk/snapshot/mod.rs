//! The snapshot of an open store, which a clean close leaves for the next open.
//!
//! It has what an open would otherwise collect in a pass over every row. `docs/format.md` specifies
//! its bytes. As the snapshot of the file tier, it is written after the marker says that the directory
//! is closed, names that marker, and is not synced.
//!
//! It is used only if every file that it describes is as it was:
//!
//! - a database by a checksum of all its files: sled takes a file that was cut or overwritten for an
//!   earlier state, which has overwritten values;
//! - a sorted run and a segment by their inode number, length and times. Their blocks and frames have
//!   checksums, which are verified when they are read;
//! - the journal by the counts that it records.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sled::IVec;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use self::words::{Reader, Writer};
use crate::boot_marker;
use crate::disk::db::databases::Databases;
use crate::disk::journal::record::Tally;
use crate::disk::layout::{Layout, remove_file, rounded};
use crate::disk::run::filter;
use crate::disk::run::index::RunContents;
use crate::disk::segment::files::Segments;
use crate::disk::store::Store;
use crate::durable_sync::stamp;
use crate::private_file;

pub(in crate::disk) mod words;

const MAGIC: &[u8; 4] = b"LRDS";
const VERSION: u8 = 1;
/// Magic, version, three bytes of zero, stamp of the marker.
const HEAD_LEN: usize = 16;
const SUM_LEN: usize = 8;
/// Bytes of a database that are read at once, for its checksum.
const BUFFER_BYTES: usize = 256 << 10;

/// A snapshot that matches the directory.
pub(in crate::disk) struct Snapshot {
    /// The newest database, then the frozen one.
    databases: Vec<DatabasePart>,
    runs: Vec<RunPart>,
    segments: Vec<SegmentPart>,
    /// The number of the next segment.
    next_segment: u64,
}

struct DatabasePart {
    number: u64,
    tally: Tally,
    checksum: u64,
}

struct RunPart {
    number: u64,
    stamp: u64,
    tally: Tally,
    contents: Option<RunContents>,
}

struct SegmentPart {
    number: u64,
    stamp: u64,
    live: u64,
    rows: Vec<IVec>,
}

/// What a store has in memory when it is closed: a snapshot without the databases' checksums, which
/// are known only after sled has closed its files.
pub(in crate::disk) struct Draft {
    databases: Vec<(u64, Tally)>,
    /// Runs and segments, encoded.
    rest: Vec<u8>,
}

impl Draft {
    /// Collects the counts and contents of a store that no thread changes any more.
    pub(in crate::disk) fn of(store: &Store) -> Option<Self> {
        let Store { databases, segments, .. } = store;
        let mut rest = Writer::default();
        rest.word(databases.runs.len() as u64);
        for run in &databases.runs {
            let Tally { rows, sum } = run.counts.tally();
            [run.number, stamp(run.path())?, rows, sum].into_iter().for_each(|word| rest.word(word));
            run.contents().encode(&mut rest);
        }
        let all = segments.all();
        rest.word(segments.next());
        rest.word(all.len() as u64);
        for segment in all {
            let rows = segment.rows();
            let words = [segment.number, stamp(segment.path())?, segment.live(), rows.len() as u64];
            words.into_iter().for_each(|word| rest.word(word));
            rows.iter().for_each(|row| rest.row(row));
        }
        let databases = databases.each_database().map(|one| (one.number, one.counts.tally())).collect();
        Some(Self { databases, rest: rest.into_bytes() })
    }

    /// Writes the snapshot, if it fits into `room` bytes. A failure is logged: the next open reads
    /// every row then.
    pub(in crate::disk) fn write(&self, layout: &Layout, room: u64) {
        let written = self.encode(layout).and_then(|bytes| match bytes {
            Some(bytes) if rounded(bytes.len() as u64) <= room => {
                private_file::create(&layout.snapshot())?.write_all(&bytes)
            }
            _ => Ok(()),
        });
        if let Err(error) = written {
            let _ = remove_file(&layout.snapshot());
            tracing::debug!(target: "larder", path = %layout.dir().display(), %error, "cannot write the snapshot of the disk tier; the next open reads every row");
        }
    }

    /// `None` where the marker cannot be identified.
    fn encode(&self, layout: &Layout) -> io::Result<Option<Vec<u8>>> {
        let Some(stamp) = boot_marker::stamp(layout.dir()) else { return Ok(None) };
        let mut parts = Writer::default();
        parts.word(filter::fingerprint());
        parts.word(self.databases.len() as u64);
        for (number, Tally { rows, sum }) in &self.databases {
            let words = [*number, *rows, *sum, checksum(&layout.database(*number))?];
            words.into_iter().for_each(|word| parts.word(word));
        }
        let parts = parts.into_bytes();
        let mut bytes = Vec::with_capacity(HEAD_LEN + parts.len() + self.rest.len() + SUM_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&stamp.to_le_bytes());
        bytes.extend_from_slice(&parts);
        bytes.extend_from_slice(&self.rest);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        Ok(Some(bytes))
    }
}

impl Snapshot {
    /// Reads the snapshot of a directory that was closed. `None` if there is none, if it is damaged,
    /// or if it does not match the marker, a database, a run or a segment.
    pub(in crate::disk) fn read(layout: &Layout) -> Option<Self> {
        let bytes = fs::read(layout.snapshot()).ok()?;
        let snapshot = Self::decode(&bytes, boot_marker::stamp(layout.dir())?)?;
        snapshot.matches(layout).then_some(snapshot)
    }

    fn decode(bytes: &[u8], stamp: u64) -> Option<Self> {
        let (rest, sum) = bytes.split_last_chunk::<SUM_LEN>()?;
        let (head, body) = rest.split_first_chunk::<HEAD_LEN>()?;
        let is_whole = head.starts_with(MAGIC)
            && head[4..8] == [VERSION, 0, 0, 0]
            && head[8..] == stamp.to_le_bytes()
            && xxh3_64(rest) == u64::from_le_bytes(*sum);
        let mut body = Reader::new(body);
        if !is_whole || body.word()? != filter::fingerprint() {
            return None;
        }
        let databases = listed(&mut body, DatabasePart::decode)?;
        let runs = listed(&mut body, RunPart::decode)?;
        let next_segment = body.word()?;
        let segments = listed(&mut body, SegmentPart::decode)?;
        body.is_at_end().then_some(Self { databases, runs, segments, next_segment })
    }

    /// Returns whether the files are those that the snapshot describes.
    fn matches(&self, layout: &Layout) -> bool {
        let runs = self.runs.iter().map(|run| (run.number, run.stamp));
        let segments = self.segments.iter().map(|segment| (segment.number, segment.stamp));
        let are = |found: larder_core::Result<Vec<(u64, PathBuf)>>, mut known: Vec<(u64, u64)>| {
            known.sort_unstable();
            let is = |((number, path), known): (&(u64, PathBuf), &(u64, u64))| {
                *number == known.0 && stamp(path) == Some(known.1)
            };
            found.is_ok_and(|found| found.len() == known.len() && found.iter().zip(&known).all(is))
        };
        are(layout.runs(), runs.collect())
            && are(layout.segments(), segments.collect())
            && layout.databases().is_ok_and(|found| found.len() == self.databases.len())
            && self.databases.iter().all(|database| {
                checksum(&layout.database(database.number)).is_ok_and(|sum| sum == database.checksum)
            })
    }

    /// The number and the checksum of all valid rows.
    pub(in crate::disk) fn tally(&self) -> Tally {
        let tallies = self.databases.iter().map(|one| one.tally).chain(self.runs.iter().map(|run| run.tally));
        tallies.fold(Tally::default(), |all, one| Tally {
            rows: all.rows.wrapping_add(one.rows),
            sum: all.sum.wrapping_add(one.sum),
        })
    }

    /// Takes the contents of a sorted run.
    pub(in crate::disk) fn take_run(&mut self, number: u64) -> Option<RunContents> {
        self.runs.iter_mut().find(|run| run.number == number)?.contents.take()
    }

    /// Sets the counts of all places, and the rows of all segments. Returns false, and changes
    /// nothing, if these are not the places of the snapshot.
    pub(in crate::disk) fn restore(self, databases: &Databases, segments: &Segments) -> bool {
        let found = databases.each_database().map(|database| database.number);
        let runs = databases.runs.iter().map(|run| run.number);
        let is_same = found.eq(self.databases.iter().map(|part| part.number))
            && runs.eq(self.runs.iter().map(|part| part.number));
        if !is_same {
            return false;
        }
        let tallies =
            self.databases.iter().map(|part| part.tally).chain(self.runs.iter().map(|part| part.tally));
        databases.each_counts().zip(tallies).for_each(|(counts, tally)| counts.set(tally));
        segments.skip_to(self.next_segment);
        for SegmentPart { number, live, rows, .. } in self.segments {
            if let Some(segment) = segments.segment(number) {
                segment.restore(rows, live);
            }
        }
        true
    }
}

impl DatabasePart {
    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let number = from.word()?;
        let tally = Tally { rows: from.word()?, sum: from.word()? };
        Some(Self { number, tally, checksum: from.word()? })
    }
}

impl RunPart {
    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (number, stamp) = (from.word()?, from.word()?);
        let tally = Tally { rows: from.word()?, sum: from.word()? };
        Some(Self { number, stamp, tally, contents: Some(RunContents::decode(from)?) })
    }
}

impl SegmentPart {
    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (number, stamp, live) = (from.word()?, from.word()?, from.word()?);
        let rows = listed(from, |from| from.row().map(IVec::from))?;
        Some(Self { number, stamp, live, rows })
    }
}

/// Reads as many parts as the next word says.
fn listed<T>(from: &mut Reader<'_>, part: impl Fn(&mut Reader<'_>) -> Option<T>) -> Option<Vec<T>> {
    let count = from.word()?;
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push(part(from)?);
    }
    Some(parts)
}

/// A checksum of the names and contents of all files in `dir`, and below it.
fn checksum(dir: &Path) -> io::Result<u64> {
    let mut sum = Xxh3::new();
    add_dir(&mut sum, dir, &mut vec![0; BUFFER_BYTES])?;
    Ok(sum.digest())
}

fn add_dir(sum: &mut Xxh3, dir: &Path, buffer: &mut [u8]) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        sum.update(&(name.len() as u64).to_le_bytes());
        sum.update(name);
        if entry.file_type()?.is_dir() {
            add_dir(sum, &entry.path(), buffer)?;
        } else {
            add_file(sum, &mut File::open(entry.path())?, buffer)?;
        }
    }
    sum.update(&u64::MAX.to_le_bytes());
    Ok(())
}

fn add_file(sum: &mut Xxh3, file: &mut File, buffer: &mut [u8]) -> io::Result<()> {
    sum.update(&file.metadata()?.len().to_le_bytes());
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => sum.update(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
