//! Keeping the budget: what to do next, and doing it.
//!
//! The decision is a pure function of an [`Outlook`]. Upkeep runs in the call
//! that writes, one at a time, holding `upkeep` alone; `scan`, `flush` and
//! moves between generations hold it too, so that rows stay where they are
//! for them.

pub(in crate::disk) mod job;
pub(in crate::disk) mod reaper;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::{Error, ErrorKind, Result};

use crate::disk::DiskTier;
use crate::disk::compaction::job::CompactionJob;
use crate::disk::db::database::{EMPTY_BYTES, Generation};
use crate::disk::eviction::Carry;
use crate::disk::run::sorted_run::SortedRun;
use crate::disk::segment::files::Sealed;
use crate::disk::store::Store;

/// More segments than this are merged, even where the budget allows them:
/// each holds a file open.
const SEGMENTS_MAX: usize = 512;

/// A database is not worth dropping below this: an empty one has half as much.
const GENERATION_BYTES_MIN: u64 = 2 << 20;

/// More packs than this are put together: each is looked at for a row that is
/// not there.
const PACKS_MAX: usize = 40;

/// So many go at once at most.
const RETIRED_MAX: usize = 4;

/// Rows that each put looks at for the pack under way. A database is packed before
/// the next one has taken a thirty-second as many, and the same again for a pack that goes.
const ROWS_A_PUT: u64 = 32;

/// So many are looked at together.
const ROWS_AT_ONCE: u64 = 128;

/// And so many where room is gone before the pack is whole.
const ROWS_IN_HASTE: u64 = 1024;

/// All the decision depends on.
#[derive(Clone, Debug, Default)]
struct Outlook {
    limit: u64,
    /// Bytes to free before the budget holds.
    excess: u64,
    /// The same after this pack and the next one, which take as much as the last did,
    /// and what comes in while they are written.
    excess_soon: u64,
    /// What is free beside this pack and what comes in meanwhile.
    room_soon: u64,
    newest_bytes: u64,
    /// Whether the newest database has more in it than an empty one.
    newest_grown: bool,
    frozen_bytes: Option<u64>,
    /// Whether a pack is being written.
    is_packing: bool,
    /// Highest number first.
    packs: Vec<Packed>,
    sealed: Vec<Sealed>,
    active: bool,
    /// What dropping everything would free.
    reclaimable: u64,
}

/// What upkeep needs to know of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed {
    number: u64,
    /// Bytes of the file.
    len: u64,
    /// Rows that have a value.
    values: u64,
    /// Those of them that are valid.
    live: u64,
    /// Those that were read.
    read: u64,
    /// Bytes that an eviction frees.
    droppable: u64,
    /// Whether it is what was left of another one: what was read of it stands in
    /// the same place, and had little time to be read again.
    is_rest: bool,
}

impl Packed {
    /// An eviction must free more than it writes.
    fn is_worth_dropping(&self) -> bool {
        self.droppable > self.len / 2 && self.droppable > 4 << 10
    }

    fn is_mostly_dead(&self) -> bool {
        self.live.saturating_mul(4) <= self.values
    }

    /// What an eviction frees, about: of what was read half at most stays, and no more than is valid.
    fn freed(&self) -> u64 {
        let stays = self.read.min(self.values / 2).min(self.live);
        let of_one = self.droppable / self.values.max(1);
        self.droppable.saturating_sub(of_one.saturating_mul(stays))
    }
}

/// Packs that are to go, and what of them lives on.
type Retire = Vec<(u64, Carry)>;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Choice {
    /// Nothing: the budget holds.
    Rest,
    /// Freeze the newest database, begin a new one.
    Freeze,
    /// Begin a pack of the frozen database and of what lives on of others.
    SortedRun(Retire),
    /// Go on with the pack under way; what is missing until it is whole is little.
    Hurry,
    /// Write the rest of the pack under way.
    Finish,
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
        if let Some(choice) = self.choose_for_rows() {
            return choice;
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
            _ if self.rows_go_first() && self.is_packing => {
                if self.is_little_over() {
                    Choice::Hurry
                } else {
                    Choice::Finish
                }
            }
            Some(oldest) => Choice::Evict(oldest.number),
            None if self.active => Choice::Seal,
            None if self.newest_grown => Choice::Freeze,
            None => Choice::GiveUp,
        }
    }

    /// What a database or a pack has come to.
    fn choose_for_rows(&self) -> Option<Choice> {
        let is_full = self.newest_bytes > (self.limit / 16).max(GENERATION_BYTES_MIN);
        match (self.is_packing, self.frozen_bytes) {
            (true, _) => is_full.then_some(Choice::Finish),
            (false, Some(_)) => Some(Choice::SortedRun(self.stale_packs())),
            (false, None) if is_full => Some(Choice::Freeze),
            (false, None) if self.excess > 0 && self.rows_go_first() => {
                let oldest = self.worth_dropping().min_by_key(|pack| pack.is_rest)?;
                let in_place = Choice::SortedRun(vec![(oldest.number, Carry::Read)]);
                Some(if self.newest_grown { Choice::Freeze } else { in_place })
            }
            _ => None,
        }
    }

    /// A merge must free more than it writes, or end with fewer segments.
    fn is_worth_merging(&self, sealed: &Sealed, crowded: bool) -> bool {
        let mostly_dead = sealed.live.saturating_mul(4) <= sealed.len;
        mostly_dead && self.excess > 0 || crowded && sealed.live <= self.limit / 1024
    }

    /// Rows may take a quarter of the budget beside segments, and all of it alone.
    fn rows_go_first(&self) -> bool {
        let packed: u64 = self.packs.iter().map(|pack| pack.len).sum();
        let rows = packed + self.newest_bytes + self.frozen_bytes.unwrap_or(0);
        rows > self.limit / 4 || self.sealed.is_empty() && !self.active
    }

    /// Whether to go beyond the budget until a pack is whole rather than have one `put`
    /// write all that is missing of it.
    fn is_little_over(&self) -> bool {
        self.excess <= self.limit / 32
    }

    /// Packs that could go, the oldest first.
    fn worth_dropping(&self) -> impl Iterator<Item = &Packed> {
        self.packs.iter().rev().filter(|pack| pack.is_worth_dropping())
    }

    /// The packs that are to go together with the frozen database, so that the next
    /// one can grow and be packed in turn, and no `put` has to wait for room. Half of
    /// a pack too little is made up for the next time.
    fn stale_packs(&self) -> Retire {
        let mut need = self.excess_soon;
        let mut retire = Vec::new();
        if need > 0
            && let Some(dead) = self.worth_dropping().find(|pack| pack.is_mostly_dead())
        {
            need = need.saturating_sub(dead.droppable / 4 * 3);
            retire.push((dead.number, Carry::Named));
        }
        for pack in self.worth_dropping().filter(|_| self.rows_go_first()) {
            let is_little = need < pack.freed() / 2;
            if is_little || retire.len() == RETIRED_MAX {
                break;
            }
            if retire.iter().all(|(number, _)| *number != pack.number) {
                need = need.saturating_sub(pack.freed());
                retire.push((pack.number, Carry::Read));
            }
        }
        if retire.is_empty() && self.packs.len() > PACKS_MAX {
            let smallest = self.packs.iter().min_by_key(|pack| pack.len);
            retire.extend(smallest.map(|pack| (pack.number, Carry::Named)));
        }
        retire.sort_unstable_by_key(|(number, _)| *number);
        retire
    }
}

impl DiskTier {
    /// Frees space until `bytes` fit, which are counted already; `Full` when they cannot.
    pub(in crate::disk) fn make_room(&self, bytes: u64) -> Result<()> {
        let mut upkeep = self.upkeep.write();
        self.reaper.settle()?;
        self.spare_unexpired()?;
        match self.keep_budget(&mut upkeep)? {
            Choice::GiveUp => Err(Error::new(ErrorKind::Full, format!("no room for {bytes} bytes"))),
            _ => Ok(()),
        }
    }

    /// Measures the databases, and frees space if the budget says so. Does
    /// nothing while someone else is at it.
    pub(in crate::disk) fn tend(&self) {
        let Some(mut upkeep) = self.upkeep.try_write() else { return };
        if let Err(error) = self.keep_budget(&mut upkeep) {
            tracing::warn!(target: "larder", %error, "upkeep of the disk tier failed");
        }
    }

    /// Goes on with the pack under way, now and then.
    pub(in crate::disk) fn tend_pack(&self) {
        if self.owed.fetch_add(ROWS_A_PUT, Ordering::Relaxed) < ROWS_AT_ONCE {
            return;
        }
        let Some(mut upkeep) = self.upkeep.try_write() else { return };
        let rows = self.owed.swap(0, Ordering::Relaxed).min(8 * ROWS_AT_ONCE);
        if let Err(error) = self.go_on(&mut upkeep, rows) {
            tracing::warn!(target: "larder", %error, "a pack of the disk tier was given up for now");
        }
    }

    /// Flushes the databases where the journal has grown enough; waits for
    /// others who do so only where it has grown too much.
    pub(in crate::disk) fn tend_journal(&self) {
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

    /// Frees space until the budget holds; what there was to do last.
    pub(in crate::disk) fn keep_budget(&self, upkeep: &mut Option<CompactionJob>) -> Result<Choice> {
        self.measure()?;
        loop {
            let outlook = self.outlook(upkeep.is_some())?;
            let choice = outlook.choose();
            match choice {
                Choice::Rest | Choice::GiveUp => return Ok(choice),
                Choice::Freeze => self.freeze()?,
                Choice::SortedRun(retire) => *upkeep = self.begin_repack(&retire, outlook.room_soon)?,
                Choice::Hurry => {
                    self.go_on(upkeep, ROWS_IN_HASTE)?;
                    return Ok(choice);
                }
                Choice::Finish => {
                    self.go_on(upkeep, u64::MAX)?;
                    // What that frees is free before more goes.
                    self.reaper.settle()?;
                }
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
    pub(in crate::disk) fn measure(&self) -> Result<()> {
        self.measure_after(0)
    }

    /// The same for those that were given so many bytes since the last time.
    pub(in crate::disk) fn measure_after(&self, bytes: u64) -> Result<()> {
        self.with_store(|store| {
            for generation in store.databases.each_generation().filter(|one| one.is_due(bytes)) {
                let (before, now) = generation.measure();
                self.space.grow(now);
                self.space.shrink(before);
            }
            Ok(())
        })
    }

    fn outlook(&self, is_packing: bool) -> Result<Outlook> {
        self.with_store(|store| {
            let databases = &store.databases;
            let packed = |pack: &Arc<SortedRun>| Packed {
                number: pack.number,
                len: pack.len(),
                values: pack.values(),
                live: pack.counts.live(),
                read: pack.marked(),
                droppable: pack.droppable(),
                is_rest: pack.is_rest,
            };
            let taken = databases.bytes() + databases.pack_bytes();
            let frozen_bytes = databases.frozen.as_ref().map(Generation::bytes);
            let most = frozen_bytes.unwrap_or(0) / 4 * 3;
            let draft = databases.packs.first().map_or(most, |pack| pack.len().min(2 * most));
            let meanwhile = self.space.budget() / 32;
            Ok(Outlook {
                limit: self.space.budget(),
                excess: self.space.excess(0),
                excess_soon: self.space.excess(2 * draft + meanwhile),
                room_soon: self.space.room().saturating_sub(draft.min(most) + meanwhile),
                newest_bytes: databases.newest.bytes(),
                newest_grown: databases.newest.has_grown(),
                frozen_bytes,
                is_packing,
                packs: databases.packs.iter().map(packed).collect(),
                sealed: store.segments.sealed(),
                active: store.segments.has_active(),
                reclaimable: store.segments.bytes() + taken.saturating_sub(2 * EMPTY_BYTES),
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
        check(Outlook { sealed: segments, newest_bytes: 4 * MIB, ..Outlook::default() }, Choice::Rest);
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
    fn a_database_is_frozen_at_its_sixteenth_and_packed() {
        let full = Outlook { newest_bytes: 5 * MIB, ..Outlook::default() };
        check(full.clone(), Choice::Freeze);
        check(Outlook { is_packing: true, ..full.clone() }, Choice::Finish);
        let frozen = Outlook { frozen_bytes: Some(5 * MIB), ..Outlook::default() };
        check(Outlook { newest_bytes: 5 * MIB, ..frozen.clone() }, Choice::SortedRun(vec![]));
        check(Outlook { is_packing: true, ..frozen.clone() }, Choice::Rest);
        check(Outlook { packs: vec![packed(2, 4), packed(1, 4)], ..frozen }, Choice::SortedRun(vec![]));
    }

    fn packed(number: u64, live: u64) -> Packed {
        Packed { number, len: 4 * MIB, values: 4, live, read: 0, droppable: 4 * MIB, is_rest: false }
    }

    #[test]
    fn packs_go_where_room_gets_scarce() {
        let packs = |live: [u64; 3]| vec![packed(3, live[0]), packed(2, live[1]), packed(1, live[2])];
        let scarce = Outlook { excess_soon: 3 * MIB, frozen_bytes: Some(MIB), ..Outlook::default() };
        let check_packs = |outlook: &Outlook, packs: Vec<Packed>, expect: &[(u64, Carry)]| {
            check(Outlook { packs, ..outlook.clone() }, Choice::SortedRun(expect.to_vec()));
        };
        check_packs(&scarce, packs([4, 4, 4]), &[(1, Carry::Read)]);
        check_packs(&scarce, packs([4, 1, 2]), &[(2, Carry::Named)]);
        let scarcer = Outlook { excess_soon: 7 * MIB, ..scarce.clone() };
        check_packs(&scarcer, packs([4, 4, 4]), &[(1, Carry::Read), (2, Carry::Read)]);
        check_packs(&scarcer, packs([4, 1, 4]), &[(1, Carry::Read), (2, Carry::Named)]);
        check_packs(&scarce, vec![Packed { droppable: 100, ..packed(1, 0) }], &[]);
        check(Outlook { frozen_bytes: None, packs: packs([4, 4, 4]), ..scarcer }, Choice::Rest);
    }

    #[test]
    fn packs_above_their_quarter_go_before_segments() {
        let over = Outlook {
            excess: 1,
            excess_soon: 1,
            sealed: vec![sealed(1, 4 * MIB)],
            packs: vec![packed(1, 4)],
            ..Outlook::default()
        };
        check(over.clone(), Choice::Evict(1));
        let over = Outlook { packs: (1..6).rev().map(|number| packed(number, 4)).collect(), ..over };
        check(over.clone(), Choice::SortedRun(vec![(1, Carry::Read)]));
        check(Outlook { newest_grown: true, ..over.clone() }, Choice::Freeze);
        let rest = Packed { is_rest: true, ..packed(0, 4) };
        let packs = over.packs.iter().copied().chain([rest]).collect();
        check(Outlook { packs, ..over.clone() }, Choice::SortedRun(vec![(1, Carry::Read)]));
        let packing = Outlook { is_packing: true, ..over };
        check(packing.clone(), Choice::Hurry);
        check(Outlook { excess: 2 * MIB, ..packing.clone() }, Choice::Hurry);
        check(Outlook { excess: 2 * MIB + 1, ..packing }, Choice::Finish);
    }

    #[test]
    fn what_was_read_frees_less() {
        let freed = |read, live| Packed { read, ..packed(1, live) }.freed() / MIB;
        assert_eq!([freed(0, 4), freed(1, 4), freed(4, 4), freed(4, 1), freed(4, 0)], [4, 3, 2, 3, 4]);
    }

    #[test]
    fn many_packs_are_put_together() {
        let packs = (0..=PACKS_MAX as u64).map(|number| Packed { len: MIB + number, ..packed(number, 4) });
        let outlook = Outlook { packs: packs.rev().collect(), ..Outlook::default() };
        check(outlook.clone(), Choice::Rest);
        check(Outlook { frozen_bytes: Some(1), ..outlook }, Choice::SortedRun(vec![(0, Carry::Named)]));
    }

    #[test]
    fn what_is_left_goes_in_the_end() {
        let over = Outlook { excess: 1, excess_soon: 1, newest_bytes: MIB, ..Outlook::default() };
        check(Outlook { active: true, newest_grown: true, ..over.clone() }, Choice::Seal);
        check(Outlook { newest_grown: true, ..over.clone() }, Choice::Freeze);
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
