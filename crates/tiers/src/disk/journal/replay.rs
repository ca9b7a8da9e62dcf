//! Replays the journals of an earlier process.
//!
//! The last record of each row decides. A row whose value is recorded is set to that value. A row
//! whose value does not have the recorded hash is removed, and so is a row that was recorded as
//! removed.
//!
//! Replay is idempotent. So a process that is killed meanwhile leaves the journals for the next
//! one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use foldhash::fast::RandomState;
use larder_core::Result;

use crate::disk::journal::record::{self, Change, HEAD_LEN, Head, Record, Tally};
use crate::disk::journal::writer::{HEADER_LEN, header};
use crate::disk::layout::{Layout, unavailable};
use crate::disk::row::REMOVED;
use crate::disk::table::tables::Tables;

/// The last record of each row, and of the whole store.
#[derive(Default)]
pub(in crate::disk) struct Replay {
    /// The number of the last journal. Zero if there is none.
    pub(in crate::disk) last: u64,
    /// Sorted runs below this number were cleared.
    pub(in crate::disk) cleared: u64,
    /// The number of rows and their checksum, if the tier was closed.
    pub(in crate::disk) tally: Option<Tally>,
    rows: HashMap<Vec<u8>, Last, RandomState>,
}

enum Last {
    Removed,
    Hash(u64),
    Value(Vec<u8>),
}

/// Why the reading of a journal ended.
enum End {
    /// The file ended, or its last record is incomplete.
    Tail,
    /// A record is damaged.
    Damage,
}

impl Replay {
    /// Reads all journals. `None` if one is damaged or missing, because the state of the rows is unknown then.
    ///
    /// After a crash of the machine, bytes that were not synced may have any value, and no record
    /// after them was acknowledged. So with `is_torn`, damage only ends a journal.
    pub(in crate::disk) fn read(layout: &Layout, is_torn: bool) -> Result<Option<Self>> {
        let mut replay = Self::default();
        for (number, path) in layout.journals()? {
            if replay.last > 0 && number != replay.last + 1 {
                return Ok(None);
            }
            match replay.read_one(number, &path).map_err(|error| unavailable(&path, error))? {
                End::Damage if !is_torn => return Ok(None),
                _ => replay.last = number,
            }
        }
        Ok(Some(replay))
    }

    fn read_one(&mut self, number: u64, path: &Path) -> io::Result<End> {
        let mut file = BufReader::with_capacity(256 << 10, File::open(path)?);
        let mut left = file.get_ref().metadata()?.len();
        let mut start = [0; HEADER_LEN];
        if !fill(&mut file, &mut start, &mut left)? {
            return Ok(End::Tail);
        }
        if start != header(number) {
            return Ok(End::Damage);
        }
        loop {
            let mut head = [0; HEAD_LEN];
            if !fill(&mut file, &mut head, &mut left)? {
                return Ok(End::Tail);
            }
            let Some(head) = Head::parse(&head, number) else { return Ok(End::Damage) };
            if u64::from(head.len) > left {
                return Ok(End::Tail);
            }
            let mut body = vec![0; head.len as usize];
            if !fill(&mut file, &mut body, &mut left)? {
                return Ok(End::Tail);
            }
            match Record::parse(&body).filter(|_| head.fits(&body, number)) {
                Some(record) => self.note(record),
                None => return Ok(End::Damage),
            }
        }
    }

    fn note(&mut self, record: Record<'_>) {
        self.tally = None;
        match record {
            Record::Tally(tally) => self.tally = Some(tally),
            Record::Cleared(below) => {
                self.rows.clear();
                self.cleared = self.cleared.max(below);
            }
            Record::Row(row, change) => {
                self.rows.insert(row.to_vec(), change.into());
            }
        }
    }

    /// The rows with a value.
    #[cfg(test)]
    pub(in crate::disk) fn values(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.rows.iter().filter_map(|(row, last)| match last {
            Last::Value(value) => Some((&row[..], &value[..])),
            _ => None,
        })
    }

    /// Applies the journals to the tables. Then the newest memtable has every row with a value in them.
    pub(in crate::disk) fn apply(&self, tables: &Tables) -> Result<()> {
        for (row, last) in &self.rows {
            let found = tables.get(row)?;
            match (last, found) {
                // Also what a sorted run has: it may be evicted while the journal stays.
                (Last::Value(value), _) => drop(tables.insert(row, value.as_slice())?),
                (Last::Removed, Some(_)) => {
                    tables.remove(row)?;
                }
                (Last::Hash(hash), Some(found)) if record::hash(&found) != *hash => {
                    tables.remove(row)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Fills the newest memtable as it was when the tier was closed. The counts of the sorted runs are those
    /// of that time already. Returns whether the rows are those of the tally.
    pub(in crate::disk) fn restore(&self, tables: &Tables) -> bool {
        let newest = &tables.newest;
        for (row, last) in &self.rows {
            match last {
                Last::Value(value) => {
                    newest.counts.add(row, value);
                    newest.insert(row, value.as_slice().into());
                }
                Last::Removed if tables.runs_may_hold(row, |_| true) => {
                    newest.insert(row, REMOVED.into());
                }
                Last::Removed => {}
                Last::Hash(_) => return false,
            }
        }
        self.tally == Some(tables.tally())
    }
}

impl From<Change<'_>> for Last {
    fn from(change: Change<'_>) -> Self {
        match change {
            Change::Removed => Self::Removed,
            Change::Hash(hash) => Self::Hash(hash),
            Change::Value(value) => Self::Value(value.to_vec()),
        }
    }
}

/// Fills `bytes` from the file. Returns false if fewer bytes are left.
fn fill(file: &mut impl Read, bytes: &mut [u8], left: &mut u64) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => {
            *left = left.saturating_sub(bytes.len() as u64);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
