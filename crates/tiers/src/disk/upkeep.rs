//! Keeping the budget: what to do next, and doing it.
//!
//! The decision is a pure function of an [`Outlook`]. Upkeep runs in the call
//! that writes, one at a time, holding `upkeep` alone; `scan`, `flush` and
//! moves between generations hold it too, so that rows stay where they are
//! for them.

use larder_core::{Error, ErrorKind, Result};

use super::DiskTier;
use super::eviction::Carry;
use super::segments::Sealed;
use super::store::Store;

/// More segments than this are merged, even where the budget allows them:
/// each holds a file open.
const SEGMENTS_MAX: usize = 512;

/// A database is not worth dropping below this: an empty one has half as much.
const GENERATION_BYTES_MIN: u64 = 2 << 20;

/// What a database takes at least.
const EMPTY_GENERATION_BYTES: u64 = 512 << 10;

/// All the decision depends on.
#[derive(Clone, Debug, Default)]
struct Outlook {
    limit: u64,
    /// Bytes to free before the budget holds.
    excess: u64,
    /// The same after a sixteenth of the budget more: whether there is room to grow.
    excess_soon: u64,
    newest_bytes: u64,
    older_bytes: Option<u64>,
    /// Whether either database has more in it than an empty one.
    databases_grown: bool,
    sealed: Vec<Sealed>,
    active: bool,
    /// What dropping everything would free.
    reclaimable: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Nothing: the budget holds.
    Rest,
    /// Drop the older database, begin a new one.
    Rotate,
    /// Drop a segment, and carry everything named in it to the active one.
    Merge(u64),
    /// Drop a segment, and carry what was read of it.
    Evict(u64),
    /// End the active segment, so that it can be evicted.
    Seal,
    /// Nothing is left to drop.
    GiveUp,
}

impl Outlook {
    fn choose(&self) -> Choice {
        if self.excess > self.reclaimable {
            return Choice::GiveUp;
        }
        if self.should_rotate() {
            return Choice::Rotate;
        }
        let crowded = self.sealed.len() > SEGMENTS_MAX;
        if self.excess == 0 && !crowded {
            return Choice::Rest;
        }
        let emptiest = self.sealed.iter().min_by_key(|sealed| sealed.live);
        if let Some(sealed) = emptiest.filter(|sealed| self.is_worth_merging(sealed, crowded)) {
            return Choice::Merge(sealed.number);
        }
        if self.excess == 0 {
            return Choice::Rest;
        }
        match self.sealed.first() {
            Some(oldest) => Choice::Evict(oldest.number),
            None if self.active => Choice::Seal,
            None if self.databases_grown => Choice::Rotate,
            None => Choice::GiveUp,
        }
    }

    /// A merge must free more than it writes, or end with fewer segments.
    fn is_worth_merging(&self, sealed: &Sealed, crowded: bool) -> bool {
        let mostly_dead = sealed.live.saturating_mul(4) <= sealed.len;
        mostly_dead && self.excess > 0 || crowded && sealed.live <= self.limit / 1024
    }

    /// The newest database may take an eighth of the budget, and more while
    /// there is room: up to seven sixteenths, so that two fit.
    fn should_rotate(&self) -> bool {
        let eighth = (self.limit / 8).max(GENERATION_BYTES_MIN);
        let seven_sixteenths = (self.limit / 16).saturating_mul(7).max(GENERATION_BYTES_MIN);
        let outgrown =
            self.newest_bytes > seven_sixteenths || self.newest_bytes > eighth && self.excess_soon > 0;
        let both = self.newest_bytes.saturating_add(self.older_bytes.unwrap_or(0));
        outgrown || self.older_bytes.is_some() && self.excess > 0 && both > eighth.saturating_mul(2)
    }
}

impl DiskTier {
    /// Frees space until `more` bytes fit; `Full` when they cannot.
    pub(super) fn make_room(&self, more: u64) -> Result<()> {
        let _alone = self.upkeep.write();
        match self.keep_budget(more)? {
            Choice::GiveUp => Err(Error::new(ErrorKind::Full, format!("no room for {more} bytes"))),
            _ => Ok(()),
        }
    }

    /// Measures the databases, and frees space if the budget says so. Does
    /// nothing while someone else is at it.
    pub(super) fn tend(&self) {
        let Some(_alone) = self.upkeep.try_write() else { return };
        if let Err(error) = self.keep_budget(0) {
            tracing::warn!(target: "larder", %error, "upkeep of the disk tier failed");
        }
    }

    /// Flushes the databases where the journal has grown enough; waits for
    /// others who do so only where it has grown too much.
    pub(super) fn tend_journal(&self) {
        let (due, overdue) = self
            .with_store(|store| Ok((store.journal.is_due(), store.journal.is_overdue())))
            .unwrap_or_default();
        let flushed = if overdue {
            let _shared = self.upkeep.read();
            self.with_store(Store::checkpoint)
        } else if due && let Some(_shared) = self.upkeep.try_read() {
            self.with_store(Store::try_checkpoint)
        } else {
            Ok(())
        };
        if let Err(error) = flushed {
            tracing::warn!(target: "larder", %error, "the journal of the disk tier stays for now");
        }
    }

    fn keep_budget(&self, more: u64) -> Result<Choice> {
        self.measure()?;
        loop {
            let choice = self.outlook(more)?.choose();
            match choice {
                Choice::Rest | Choice::GiveUp => return Ok(choice),
                Choice::Rotate => self.rotate()?,
                Choice::Merge(number) => self.drop_measured(number, Carry::Named)?,
                Choice::Evict(number) => self.drop_measured(number, Carry::Read)?,
                Choice::Seal => self.with_store(|store| {
                    store.segments.seal_active();
                    Ok(())
                })?,
            }
        }
    }

    /// Rows that go make the databases grow, so they are measured again.
    fn drop_measured(&self, number: u64, carry: Carry) -> Result<()> {
        self.drop_segment(number, carry)?;
        self.measure()
    }

    /// Counts what the databases take now.
    pub(super) fn measure(&self) -> Result<()> {
        self.measure_after(0)
    }

    /// The same for those that were given so many bytes since the last time.
    pub(super) fn measure_after(&self, bytes: u64) -> Result<()> {
        self.with_store(|store| {
            for generation in store.databases.each_generation().filter(|one| one.is_due(bytes)) {
                let (before, now) = generation.measure();
                self.space.grow(now);
                self.space.shrink(before);
            }
            Ok(())
        })
    }

    fn outlook(&self, more: u64) -> Result<Outlook> {
        self.with_store(|store| {
            let databases = &store.databases;
            Ok(Outlook {
                limit: self.space.limit(),
                excess: self.space.excess(more),
                excess_soon: self.space.excess(more.saturating_add(self.space.limit() / 16)),
                newest_bytes: databases.newest.bytes(),
                older_bytes: databases.older.as_ref().map(|older| older.bytes()),
                databases_grown: databases.each_generation().any(|generation| generation.has_grown()),
                sealed: store.segments.sealed(),
                active: store.segments.has_active(),
                reclaimable: store.segments.bytes()
                    + databases.bytes().saturating_sub(2 * EMPTY_GENERATION_BYTES),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn sealed(number: u64, live: u64) -> Sealed {
        Sealed { number, len: 4 * MIB, live }
    }

    fn check(outlook: Outlook, expect: Choice) {
        let outlook = Outlook { limit: 64 * MIB, reclaimable: 64 * MIB, ..outlook };
        assert_eq!(outlook.choose(), expect, "{outlook:?}");
    }

    #[test]
    fn within_the_budget_nothing_goes() {
        let segments = vec![sealed(1, 4 * MIB), sealed(2, 0)];
        check(Outlook { sealed: segments, newest_bytes: 9 * MIB, ..Outlook::default() }, Choice::Rest);
    }

    #[test]
    fn the_oldest_segment_goes_first() {
        let segments = vec![sealed(3, 4 * MIB), sealed(4, 2 * MIB)];
        check(Outlook { excess: 1, sealed: segments, ..Outlook::default() }, Choice::Evict(3));
    }

    #[test]
    fn a_segment_that_is_mostly_dead_goes_before_it() {
        let segments = vec![sealed(3, 4 * MIB), sealed(4, MIB)];
        check(Outlook { excess: 1, sealed: segments, ..Outlook::default() }, Choice::Merge(4));
    }

    #[test]
    fn a_database_grows_beyond_its_eighth_while_there_is_room() {
        check(Outlook { newest_bytes: 20 * MIB, ..Outlook::default() }, Choice::Rest);
        check(Outlook { newest_bytes: 9 * MIB, excess_soon: 1, ..Outlook::default() }, Choice::Rotate);
        check(Outlook { newest_bytes: 29 * MIB, ..Outlook::default() }, Choice::Rotate);
    }

    #[test]
    fn databases_above_their_quarter_go_before_segments() {
        let over =
            Outlook { excess: 1, sealed: vec![sealed(1, 4 * MIB)], newest_bytes: MIB, ..Outlook::default() };
        check(Outlook { older_bytes: Some(20 * MIB), ..over.clone() }, Choice::Rotate);
        check(Outlook { older_bytes: Some(9 * MIB), ..over }, Choice::Evict(1));
    }

    #[test]
    fn what_is_left_goes_in_the_end() {
        let over = Outlook { excess: 1, excess_soon: 1, newest_bytes: MIB, ..Outlook::default() };
        check(Outlook { active: true, databases_grown: true, ..over.clone() }, Choice::Seal);
        check(Outlook { databases_grown: true, ..over.clone() }, Choice::Rotate);
        check(over, Choice::GiveUp);
    }

    #[test]
    fn nothing_goes_in_vain() {
        let segments = vec![sealed(1, 4 * MIB)];
        let over = Outlook { excess: 5 * MIB, sealed: segments, ..Outlook::default() };
        assert_eq!(Outlook { reclaimable: 4 * MIB, ..over.clone() }.choose(), Choice::GiveUp);
        assert_eq!(Outlook { reclaimable: 5 * MIB, ..over }.choose(), Choice::Evict(1));
    }

    #[test]
    fn many_small_segments_are_merged_within_the_budget() {
        let crowd = |live| (0..=SEGMENTS_MAX as u64).map(|number| sealed(number, live)).collect();
        check(Outlook { sealed: crowd(1), ..Outlook::default() }, Choice::Merge(0));
        check(Outlook { sealed: crowd(MIB), ..Outlook::default() }, Choice::Rest);
    }
}
