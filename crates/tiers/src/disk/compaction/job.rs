//! Writing a pack, a few rows with each `put`.
//!
//! Its rows come from the frozen database and from packs that are to go.
//! While it is written all of these are read as before, and rows of them are
//! overwritten and removed. So a row that is copied may be dead when the pack takes
//! its place, which harms nobody: what killed it is newer, and is looked at first.
//!
//! # Invariants
//! - Every row of the frozen database that is valid when the pack takes its place was copied.
//! - Of a row that was removed, the word goes along for as long as anything older
//!   may have the row. A pack that goes counts as there: it may outlive the process.
//! - So does it for a row that is evicted while an older pack may have it.
//! - What a pack holds of segments goes along always: the bytes would be lost with it.

use std::sync::Arc;

use larder_core::Result;
use sled::IVec;

use crate::disk::db::database::{Generation, Rows};
use crate::disk::eviction::Carry;
use crate::disk::row::{REMOVED, Row};
use crate::disk::run::sorted_run::{Cursor, Found, SortedRun};
use crate::disk::run::writer::RunWriter;
use crate::disk::store::Store;

/// What was read of a pack lives on up to half of it, and up to this: what is left of
/// a pack, all of it read, is not halved again and again.
const SMALL_BYTES: u64 = 64 << 10;

/// A pack under way.
pub(in crate::disk) struct CompactionJob {
    draft: RunWriter,
    frozen: Option<Ahead<Rows, IVec>>,
    retiring: Vec<Retiring>,
}

/// A pack that is to go.
struct Retiring {
    rows: Ahead<Cursor, Found>,
    carry: Carry,
    allowance: u64,
}

/// Rows, and the one that comes next.
struct Ahead<R, V> {
    rows: R,
    head: Option<(IVec, V)>,
}

impl Retiring {
    fn begin(pack: &Arc<SortedRun>, carry: Carry, room: u64) -> Result<Self> {
        pack.begin_carrying();
        let half = (pack.droppable() / 2).min(room).max(SMALL_BYTES);
        let allowance = if carry == Carry::Named { u64::MAX } else { half };
        let mut rows = Cursor::new(Arc::clone(pack));
        let head = rows.next()?;
        Ok(Self { rows: Ahead { rows, head }, carry, allowance })
    }

    fn pack(&self) -> &Arc<SortedRun> {
        self.rows.rows.pack()
    }
}

/// What a finished pack stands in for.
pub(in crate::disk) struct Replaced {
    /// Whether it has the rows of the frozen database.
    pub(in crate::disk) frozen: bool,
    /// The packs that go, the lowest number first: an older one alone would show
    /// what was overwritten in a newer one.
    pub(in crate::disk) retired: Vec<Arc<SortedRun>>,
}

impl CompactionJob {
    /// Begins; the draft has the number of what it stands in for.
    pub(in crate::disk) fn begin(
        draft: RunWriter,
        frozen: Option<&Generation>,
        retire: &[(&Arc<SortedRun>, Carry)],
        room: u64,
    ) -> Result<Self> {
        let ahead = |frozen: &Generation| {
            let mut rows = frozen.rows();
            rows.next().map(|head| Ahead { rows, head })
        };
        let frozen = frozen.map(ahead).transpose()?;
        let room = room / retire.len().max(1) as u64;
        let retiring = retire.iter().map(|(pack, carry)| Retiring::begin(pack, *carry, room));
        Ok(Self { draft, frozen, retiring: retiring.collect::<Result<_>>()? })
    }

    /// Looks at so many rows more; whether those were the last.
    pub(in crate::disk) fn step(&mut self, store: &Store, rows: u64) -> Result<bool> {
        for _ in 0..rows {
            if !self.advance(store)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn advance(&mut self, store: &Store) -> Result<bool> {
        let frozen = self.frozen.as_ref().and_then(|ahead| ahead.head.as_ref()).map(|(row, _)| row);
        let retiring = self.retiring.iter().enumerate();
        let retiring = retiring.filter_map(|(at, pack)| Some((&pack.rows.head.as_ref()?.0, at))).min();
        match (frozen, retiring) {
            (None, None) => return Ok(false),
            (Some(row), Some((other, at))) if row > other => self.advance_retiring(store, at)?,
            (None, Some((_, at))) => self.advance_retiring(store, at)?,
            (Some(_), _) => self.advance_frozen(store)?,
        }
        Ok(true)
    }

    fn advance_frozen(&mut self, store: &Store) -> Result<()> {
        let Some(ahead) = &mut self.frozen else { return Ok(()) };
        let next = ahead.rows.next()?;
        let Some((row, value)) = std::mem::replace(&mut ahead.head, next) else { return Ok(()) };
        let databases = &store.databases;
        let is_needed = &*value != REMOVED || databases.packs_may_hold(&row, |_| true);
        if is_needed && !databases.newest.contains(&row)? { self.draft.push(&row, &value) } else { Ok(()) }
    }

    fn advance_retiring(&mut self, store: &Store, at: usize) -> Result<()> {
        let Some(retiring) = self.retiring.get_mut(at) else { return Ok(()) };
        let next = retiring.rows.rows.next()?;
        let Some((row, found)) = std::mem::replace(&mut retiring.rows.head, next) else { return Ok(()) };
        let pack = Arc::clone(retiring.pack());
        if &*found.value == REMOVED {
            return self.carry_removal(store, &pack, &row);
        }
        let bytes = (row.len() + found.value.len()) as u64;
        let is_pointer = Row::pointer(&found.value).is_some();
        let wanted = retiring.carry == Carry::Named || pack.was_read(found.ordinal);
        if !is_pointer && (!wanted || bytes > retiring.allowance) {
            return self.carry_removal(store, &pack, &row);
        }
        let _stripe = store.lock(&row);
        if store.databases.is_shadowed(&row, pack.number)? {
            return Ok(());
        }
        self.draft.push(&row, &found.value)?;
        pack.carry(found.ordinal, &row, &found.value);
        if !is_pointer {
            retiring.allowance = retiring.allowance.saturating_sub(bytes);
        }
        Ok(())
    }

    /// Has the new pack say that a row is not there, if older packs may say otherwise.
    fn carry_removal(&mut self, store: &Store, pack: &SortedRun, row: &[u8]) -> Result<()> {
        let databases = &store.databases;
        let is_needed = databases.packs_may_hold(row, |other| other.number < pack.number);
        if is_needed && !databases.is_shadowed(row, pack.number)? {
            self.draft.push(row, REMOVED)
        } else {
            Ok(())
        }
    }

    /// Lets go of what was read; the draft is ready to be finished.
    pub(in crate::disk) fn end(self) -> (RunWriter, Replaced) {
        let mut retired: Vec<_> = self.retiring.iter().map(|one| Arc::clone(one.pack())).collect();
        retired.sort_unstable_by_key(|pack| pack.number);
        (self.draft, Replaced { frozen: self.frozen.is_some(), retired })
    }
}
