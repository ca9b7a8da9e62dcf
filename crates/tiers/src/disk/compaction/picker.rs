//! Chooses the next step of compaction or eviction, as a pure function of a [`CompactionState`].

use crate::disk::segment::files::Sealed;
use crate::disk::space::eviction::Survivors;

/// Above this number, segments are merged even within the budget, because each holds a file open.
const SEGMENTS_MAX: usize = 512;

/// Smaller memtables are not frozen for their size.
const MEMTABLE_BYTES_MIN: u64 = 256 << 10;

/// Larger memtables are always frozen. Two of them may be in memory.
const MEMTABLE_BYTES_MAX: u64 = 32 << 20;

/// Above this number, sorted runs are merged, because the look-up of an absent row asks each of
/// them.
const RUNS_MAX: usize = 40;

/// Most sorted runs that one compaction replaces.
const REPLACED_MAX: usize = 4;

/// The state on which the choice depends.
#[derive(Clone, Debug, Default)]
pub(in crate::disk) struct CompactionState {
    /// The present limit of the budget.
    pub(in crate::disk) limit: u64,
    /// Bytes to free until usage is within the budget.
    pub(in crate::disk) excess: u64,
    /// The excess after this sorted run and the next one, and after the writes meanwhile. Each run
    /// is assumed to be as large as the last one.
    pub(in crate::disk) excess_soon: u64,
    /// Bytes that are free after this sorted run and the writes meanwhile.
    pub(in crate::disk) room_soon: u64,
    /// Bytes of the newest memtable.
    pub(in crate::disk) newest_bytes: u64,
    /// Whether the newest memtable has rows.
    pub(in crate::disk) newest_grown: bool,
    /// Bytes of the frozen memtable, if there is one.
    pub(in crate::disk) frozen_bytes: Option<u64>,
    /// Whether a sorted run is being written.
    pub(in crate::disk) is_compacting: bool,
    /// The sorted runs, highest number first.
    pub(in crate::disk) runs: Vec<RunStats>,
    /// The sealed segments, lowest number first.
    pub(in crate::disk) sealed: Vec<Sealed>,
    /// Whether there is an active segment.
    pub(in crate::disk) active: bool,
    /// Bytes that dropping everything would free.
    pub(in crate::disk) reclaimable: u64,
}

/// A sorted run, as the choice sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) struct RunStats {
    /// The number of the run.
    pub(in crate::disk) number: u64,
    /// Bytes of the file.
    pub(in crate::disk) len: u64,
    /// Number of rows with a value.
    pub(in crate::disk) values: u64,
    /// Number of those rows that are valid.
    pub(in crate::disk) live: u64,
    /// Number of rows that were read.
    pub(in crate::disk) read: u64,
    /// Bytes that an eviction frees.
    pub(in crate::disk) droppable: u64,
    /// Whether the run was rewritten from an earlier one of the same number. Its rows had little
    /// time to be read again.
    pub(in crate::disk) is_rewritten: bool,
}

impl RunStats {
    /// Returns whether an eviction frees more than it writes.
    fn is_worth_dropping(&self) -> bool {
        self.droppable > self.len / 2 && self.droppable > 4 << 10
    }

    fn is_mostly_dead(&self) -> bool {
        self.live.saturating_mul(4) <= self.values
    }

    /// Bytes that an eviction frees, approximately. Of the rows that were read, it copies at most
    /// half of all rows, and no dead ones.
    fn freed(&self) -> u64 {
        let stays = self.read.min(self.values / 2).min(self.live);
        let of_one = self.droppable / self.values.max(1);
        self.droppable.saturating_sub(of_one.saturating_mul(stays))
    }
}

/// Sorted runs to replace, and which of their entries are copied.
pub(in crate::disk) type RunsToReplace = Vec<(u64, Survivors)>;

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Choice {
    /// Nothing: usage is within the budget.
    Idle,
    /// Freeze the newest memtable and create a new one.
    Freeze,
    /// Begin a sorted run of the frozen memtable and the copied entries of other runs.
    Compact(RunsToReplace),
    /// Continue the sorted run in progress with more rows. The budget is exceeded only a little.
    Advance,
    /// Finish the sorted run in progress.
    Finish,
    /// Drop a segment, and copy all of its live frames to the active one.
    Merge(u64),
    /// Drop a segment, and copy its frames that were read.
    Evict(u64),
    /// Seal the active segment, so that it can be evicted.
    Seal,
    /// Nothing is left to drop.
    GiveUp,
}

/// The size above which a memtable is frozen, with this limit of the budget.
pub(in crate::disk) fn memtable_bytes_max(limit: u64) -> u64 {
    (limit / 16).clamp(MEMTABLE_BYTES_MIN, MEMTABLE_BYTES_MAX)
}

impl CompactionState {
    /// The next step.
    pub(in crate::disk) fn choose(&self) -> Choice {
        if self.excess > self.reclaimable {
            return Choice::GiveUp;
        }
        if let Some(choice) = self.choose_for_rows() {
            return choice;
        }
        let crowded = self.sealed.len() > SEGMENTS_MAX;
        if self.excess == 0 && !crowded {
            return Choice::Idle;
        }
        let emptiest = self.sealed.iter().min_by_key(|sealed| sealed.live);
        if let Some(sealed) = emptiest.filter(|sealed| self.is_worth_merging(sealed, crowded)) {
            return Choice::Merge(sealed.number);
        }
        if self.excess == 0 {
            return Choice::Idle;
        }
        match self.sealed.first() {
            _ if self.rows_go_first() && self.is_compacting => {
                if self.is_little_over() {
                    Choice::Advance
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

    /// The next step for memtables and sorted runs, if there is one.
    fn choose_for_rows(&self) -> Option<Choice> {
        let is_full = self.newest_bytes > memtable_bytes_max(self.limit);
        match (self.is_compacting, self.frozen_bytes) {
            (true, _) => is_full.then_some(Choice::Finish),
            (false, Some(_)) => Some(Choice::Compact(self.runs_to_replace())),
            (false, None) if is_full => Some(Choice::Freeze),
            (false, None) if self.excess > 0 && self.rows_go_first() => {
                let oldest = self.worth_dropping().min_by_key(|run| run.is_rewritten)?;
                let in_place = Choice::Compact(vec![(oldest.number, Survivors::Read)]);
                Some(if self.newest_grown { Choice::Freeze } else { in_place })
            }
            _ => None,
        }
    }

    /// Returns whether a merge frees more than it writes, or leaves fewer segments.
    fn is_worth_merging(&self, sealed: &Sealed, crowded: bool) -> bool {
        let mostly_dead = sealed.live.saturating_mul(4) <= sealed.len;
        mostly_dead && self.excess > 0 || crowded && sealed.live <= self.limit / 1024
    }

    /// Returns whether rows are evicted before segments. Rows may take a quarter of the budget
    /// beside segments, and all of it without segments.
    fn rows_go_first(&self) -> bool {
        let run_bytes: u64 = self.runs.iter().map(|run| run.len).sum();
        let rows = run_bytes + self.newest_bytes + self.frozen_bytes.unwrap_or(0);
        rows > self.limit / 4 || self.sealed.is_empty() && !self.active
    }

    /// Returns whether the budget may be exceeded until the sorted run is complete. Otherwise one
    /// `put` writes the rest of the run.
    fn is_little_over(&self) -> bool {
        self.excess <= self.limit / 32
    }

    /// Sorted runs that are worth evicting, oldest first.
    fn worth_dropping(&self) -> impl Iterator<Item = &RunStats> {
        self.runs.iter().rev().filter(|run| run.is_worth_dropping())
    }

    /// Chooses the sorted runs to replace together with the frozen memtable.
    ///
    /// They free enough for the next memtable to grow and to be compacted, so that no `put` waits
    /// for room. Up to half of a run too little is left for the next time.
    fn runs_to_replace(&self) -> RunsToReplace {
        let mut need = self.excess_soon;
        let mut replaced = Vec::new();
        if need > 0
            && let Some(dead) = self.worth_dropping().find(|run| run.is_mostly_dead())
        {
            need = need.saturating_sub(dead.droppable / 4 * 3);
            replaced.push((dead.number, Survivors::Live));
        }
        for run in self.worth_dropping().filter(|_| self.rows_go_first()) {
            let is_little = need < run.freed() / 2;
            if is_little || replaced.len() == REPLACED_MAX {
                break;
            }
            if replaced.iter().all(|(number, _)| *number != run.number) {
                need = need.saturating_sub(run.freed());
                replaced.push((run.number, Survivors::Read));
            }
        }
        if replaced.is_empty() && self.runs.len() > RUNS_MAX {
            let smallest = self.runs.iter().min_by_key(|run| run.len);
            replaced.extend(smallest.map(|run| (run.number, Survivors::Live)));
        }
        replaced.sort_unstable_by_key(|(number, _)| *number);
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::{Choice, CompactionState as State, *};

    const MIB: u64 = 1 << 20;

    fn sealed(number: u64, live: u64) -> Sealed {
        Sealed { number, len: 4 * MIB, live }
    }

    fn check(state: State, expect: Choice) {
        let state = State { limit: 64 * MIB, reclaimable: 64 * MIB, ..state };
        assert_eq!(state.choose(), expect, "{state:?}");
    }

    #[test]
    fn nothing_is_dropped_within_the_budget() {
        let segments = vec![sealed(1, 4 * MIB), sealed(2, 0)];
        check(State { sealed: segments, newest_bytes: 4 * MIB, ..State::default() }, Choice::Idle);
    }

    #[test]
    fn oldest_segment_is_evicted_first() {
        let segments = vec![sealed(3, 4 * MIB), sealed(4, 2 * MIB)];
        check(State { excess: 1, sealed: segments, ..State::default() }, Choice::Evict(3));
    }

    #[test]
    fn mostly_dead_segment_is_merged_before_an_older_one_is_evicted() {
        let segments = vec![sealed(3, 4 * MIB), sealed(4, MIB)];
        check(State { excess: 1, sealed: segments, ..State::default() }, Choice::Merge(4));
    }

    #[test]
    fn memtable_is_frozen_at_a_sixteenth_of_the_budget_and_compacted() {
        let full = State { newest_bytes: 5 * MIB, ..State::default() };
        check(full.clone(), Choice::Freeze);
        check(State { is_compacting: true, ..full.clone() }, Choice::Finish);
        let frozen = State { frozen_bytes: Some(5 * MIB), ..State::default() };
        check(State { newest_bytes: 5 * MIB, ..frozen.clone() }, Choice::Compact(vec![]));
        check(State { is_compacting: true, ..frozen.clone() }, Choice::Idle);
        check(State { runs: vec![run(2, 4), run(1, 4)], ..frozen }, Choice::Compact(vec![]));
    }

    fn run(number: u64, live: u64) -> RunStats {
        RunStats { number, len: 4 * MIB, values: 4, live, read: 0, droppable: 4 * MIB, is_rewritten: false }
    }

    #[test]
    fn sorted_runs_are_replaced_when_room_gets_scarce() {
        let runs = |live: [u64; 3]| vec![run(3, live[0]), run(2, live[1]), run(1, live[2])];
        let scarce = State { excess_soon: 3 * MIB, frozen_bytes: Some(MIB), ..State::default() };
        let check_runs = |state: &State, runs: Vec<RunStats>, expect: &[(u64, Survivors)]| {
            check(State { runs, ..state.clone() }, Choice::Compact(expect.to_vec()));
        };
        check_runs(&scarce, runs([4, 4, 4]), &[(1, Survivors::Read)]);
        check_runs(&scarce, runs([4, 1, 2]), &[(2, Survivors::Live)]);
        let scarcer = State { excess_soon: 7 * MIB, ..scarce.clone() };
        check_runs(&scarcer, runs([4, 4, 4]), &[(1, Survivors::Read), (2, Survivors::Read)]);
        check_runs(&scarcer, runs([4, 1, 4]), &[(1, Survivors::Read), (2, Survivors::Live)]);
        check_runs(&scarce, vec![RunStats { droppable: 100, ..run(1, 0) }], &[]);
        check(State { frozen_bytes: None, runs: runs([4, 4, 4]), ..scarcer }, Choice::Idle);
    }

    #[test]
    fn sorted_runs_above_a_quarter_are_evicted_before_segments() {
        let over = State {
            excess: 1,
            excess_soon: 1,
            sealed: vec![sealed(1, 4 * MIB)],
            runs: vec![run(1, 4)],
            ..State::default()
        };
        check(over.clone(), Choice::Evict(1));
        let over = State { runs: (1..6).rev().map(|number| run(number, 4)).collect(), ..over };
        check(over.clone(), Choice::Compact(vec![(1, Survivors::Read)]));
        check(State { newest_grown: true, ..over.clone() }, Choice::Freeze);
        let rest = RunStats { is_rewritten: true, ..run(0, 4) };
        let runs = over.runs.iter().copied().chain([rest]).collect();
        check(State { runs, ..over.clone() }, Choice::Compact(vec![(1, Survivors::Read)]));
        let compacting = State { is_compacting: true, ..over };
        check(compacting.clone(), Choice::Advance);
        check(State { excess: 2 * MIB, ..compacting.clone() }, Choice::Advance);
        check(State { excess: 2 * MIB + 1, ..compacting }, Choice::Finish);
    }

    #[test]
    fn run_with_read_rows_frees_less() {
        let freed = |read, live| RunStats { read, ..run(1, live) }.freed() / MIB;
        assert_eq!([freed(0, 4), freed(1, 4), freed(4, 4), freed(4, 1), freed(4, 0)], [4, 3, 2, 3, 4]);
    }

    #[test]
    fn too_many_sorted_runs_are_merged() {
        let runs = (0..=RUNS_MAX as u64).map(|number| RunStats { len: MIB + number, ..run(number, 4) });
        let state = State { runs: runs.rev().collect(), ..State::default() };
        check(state.clone(), Choice::Idle);
        check(State { frozen_bytes: Some(1), ..state }, Choice::Compact(vec![(0, Survivors::Live)]));
    }

    #[test]
    fn active_segment_and_newest_memtable_are_evicted_last() {
        let over = State { excess: 1, excess_soon: 1, newest_bytes: MIB, ..State::default() };
        check(State { active: true, newest_grown: true, ..over.clone() }, Choice::Seal);
        check(State { newest_grown: true, ..over.clone() }, Choice::Freeze);
        check(over, Choice::GiveUp);
    }

    #[test]
    fn nothing_is_evicted_if_everything_would_not_free_enough() {
        let segments = vec![sealed(1, 4 * MIB)];
        let over = State { excess: 5 * MIB, sealed: segments, ..State::default() };
        assert_eq!(State { reclaimable: 4 * MIB, ..over.clone() }.choose(), Choice::GiveUp);
        assert_eq!(State { reclaimable: 5 * MIB, ..over }.choose(), Choice::Evict(1));
    }

    #[test]
    fn many_small_segments_are_merged_within_the_budget() {
        let crowd = |live| (0..=SEGMENTS_MAX as u64).map(|number| sealed(number, live)).collect();
        check(State { sealed: crowd(1), ..State::default() }, Choice::Merge(0));
        check(State { sealed: crowd(MIB), ..State::default() }, Choice::Idle);
    }
}
