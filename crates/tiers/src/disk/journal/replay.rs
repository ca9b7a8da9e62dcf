//! Reading the journals that an earlier process left, and going by them.
//!
//! The last record of a row decides. A row whose value is known goes back to
//! it; a row that does not have the hash it should have goes; a row that was
//! removed goes. Doing it twice does no harm, so a process that is killed
//! meanwhile leaves the journals for the next one.

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

/// The last word on each row, and on everything.
#[derive(Default)]
pub(in crate::disk) struct Replay {
    /// The number of the last journal; zero where there is none.
    pub(in crate::disk) last: u64,
    /// Generations below this one were cleared.
    pub(in crate::disk) cleared: u64,
    /// What the databases had when they were let go, if they were.
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
    /// With the file, or with a record that its writer did not finish.
    Tail,
    /// With bytes that nobody wrote.
    Damage,
}

impl Replay {
    /// Reads every journal; `None` when one is damaged, and it is not known any
    /// more what is true.
    ///
    /// After the machine went down the bytes that were not synced may be
    /// anything, and nothing behind them was acknowledged: with `is_torn`
    /// damage ends a journal as its tail does.
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
            Record::Cleared(generation) => {
                self.rows.clear();
                self.cleared = self.cleared.max(generation);
            }
            Record::Row(row, change) => {
                self.rows.insert(row.to_vec(), change.into());
            }
        }
    }

    /// Whether there was any journal.
    pub(in crate::disk) fn is_empty(&self) -> bool {
        self.last == 0
    }

    /// Makes the databases say what the journals do.
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

/// Reads so many bytes, unless fewer are left.
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
