//! The snapshot of an open store, which a clean close leaves for the next open.
//!
//! It has what an open would otherwise collect in a pass over every row. `docs/format.md` specifies
//! its bytes. As the snapshot of the file tier, it is written after the marker says that the directory
//! is closed, names that marker, and is not synced.
//!
//! It is used only if every file that it describes is as it was:
//!
//! - a sorted run and a segment by their inode number, length and times. Their blocks and frames have
//!   checksums, which are verified when they are read;
//! - the journal by the counts that it records.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use sled::IVec;
use xxhash_rust::xxh3::xxh3_64;

use self::words::{Reader, Writer};
use crate::boot_marker;
use crate::disk::journal::record::Tally;
use crate::disk::layout::{Layout, remove_file, rounded};
use crate::disk::run::filter;
use crate::disk::run::index::RunContents;
use crate::disk::segment::files::Segments;
use crate::disk::store::Store;
use crate::disk::table::tables::Tables;
use crate::durable_sync::stamp;
use crate::private_file;

pub(in crate::disk) mod words;

const MAGIC: &[u8; 4] = b"LRDS";
const VERSION: u8 = 1;
/// Magic, version, three bytes of zero, stamp of the marker.
const HEAD_LEN: usize = 16;
const SUM_LEN: usize = 8;

/// A snapshot that matches the directory.
pub(in crate::disk) struct Snapshot {
    runs: Vec<RunPart>,
    segments: Vec<SegmentPart>,
    /// The number of the next segment.
    next_segment: u64,
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

/// What a store has in memory when it is closed: a snapshot without the stamp of the marker, which is
/// known only after the marker says that the directory is closed.
pub(in crate::disk) struct Draft(Vec<u8>);

impl Draft {
    /// Collects the counts and contents of a store that no thread changes any more.
    pub(in crate::disk) fn of(store: &Store) -> Option<Self> {
        let Store { tables, segments, .. } = store;
        let mut rest = Writer::default();
        rest.word(filter::fingerprint());
        // Earlier builds listed sled databases here.
        rest.word(0);
        rest.word(tables.runs.len() as u64);
        for run in &tables.runs {
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
        Some(Self(rest.into_bytes()))
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
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.0.len() + SUM_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&stamp.to_le_bytes());
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        Ok(Some(bytes))
    }
}

impl Snapshot {
    /// Reads the snapshot of a directory that was closed. `None` if there is none, if it is damaged,
    /// or if it does not match the marker, a run or a segment.
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
        let is_ours =
            |body: &mut Reader<'_>| Some(body.word()? == filter::fingerprint() && body.word()? == 0);
        if !is_whole || !is_ours(&mut body)? {
            return None;
        }
        let runs = listed(&mut body, RunPart::decode)?;
        let next_segment = body.word()?;
        let segments = listed(&mut body, SegmentPart::decode)?;
        body.is_at_end().then_some(Self { runs, segments, next_segment })
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
            && layout.databases().is_ok_and(|found| found.is_empty())
    }

    /// Takes the contents of a sorted run.
    pub(in crate::disk) fn take_run(&mut self, number: u64) -> Option<RunContents> {
        self.runs.iter_mut().find(|run| run.number == number)?.contents.take()
    }

    /// Sets the counts of all sorted runs, and the rows of all segments. Returns false, and changes
    /// nothing, if these are not the runs of the snapshot.
    pub(in crate::disk) fn restore(self, tables: &Tables, segments: &Segments) -> bool {
        let runs = tables.runs.iter().map(|run| run.number);
        if !runs.eq(self.runs.iter().map(|part| part.number)) {
            return false;
        }
        tables.runs.iter().zip(&self.runs).for_each(|(run, part)| run.counts.set(part.tally));
        segments.skip_to(self.next_segment);
        for SegmentPart { number, live, rows, .. } in self.segments {
            if let Some(segment) = segments.segment(number) {
                segment.restore(rows, live);
            }
        }
        true
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
