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

use crate::disk::db::databases::Databases;
use crate::disk::journal::record::{self, Change, HEAD_LEN, Head, Record, Tally};
use crate::disk::journal::writer::{HEADER_LEN, header};
use crate::disk::layout::{Layout, unavailable};

/// The last record of each row, and of the whole store.
#[derive(Default)]
pub(in crate::disk) struct Replay {
    /// The number of the last journal. Zero if there is none.
    pub(in crate::disk) last: u64,
    /// Databases below this number were cleared.
    pub(in crate::disk) cleared: u64,
    /// The number of rows and their checksum, if the databases were closed.
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
    /// Reads all journals. `None` if one is damaged, because the state of the rows is unknown then.
    ///
    /// After a crash of the machine, bytes that were not synced may have any value, and no record
    /// after them was acknowledged. So with `is_torn`, damage only ends a journal.
    pub(in crate::disk) fn read(layout: &Layout, is_torn: bool) -> Result<Option<Self>> {
        let mut replay = Self::default();
        for (number, path) in layout.journals()? {
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

    /// Returns whether there was no journal.
    pub(in crate::disk) fn is_empty(&self) -> bool {
        self.last == 0
    }

    /// Returns whether the journals say only that the databases were closed with this tally.
    pub(in crate::disk) fn is_closed_with(&self, tally: Tally) -> bool {
        self.tally == Some(tally) && self.rows.is_empty() && self.cleared == 0
    }

    /// Applies the journals to the databases.
    pub(in crate::disk) fn apply(&self, databases: &Databases) -> Result<()> {
        for (row, last) in &self.rows {
            let found = databases.get(row)?;
            match (last, found) {
                (Last::Value(value), found) if found.as_deref() != Some(value) => {
                    databases.insert(row, value.as_slice())?;
                }
                (Last::Removed, Some(_)) => {
                    databases.remove(row)?;
                }
                (Last::Hash(hash), Some(found)) if record::hash(&found) != *hash => {
                    databases.remove(row)?;
                }
                _ => {}
            }
        }
        Ok(())
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
