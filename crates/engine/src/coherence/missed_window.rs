//! Missed windows: periods without contact to other nodes, for entries kept outside
//! memory.

use std::time::{Duration, Instant};

use larder_core::clock::Time;
use larder_core::tier::REMOVAL_LIFE;
use parking_lot::Mutex;

/// Number of windows that are kept; beyond that the two oldest are merged.
const GAPS_MAX: usize = 32;
/// Safety margin before the shared tier forgets a removal.
pub(crate) const MARGIN: Duration = Duration::from_secs(5);

/// The missed windows, oldest first.
pub(super) struct Gaps(Mutex<Vec<Gap>>);

struct Gap {
    over: Time,
    /// The last contact before the window.
    heard: Option<Instant>,
}

/// What this node may have missed of an entry since it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// Nothing: every change was reported.
    Nothing,
    /// Some changes, but the tier still remembers the removals since then.
    AWhile,
    /// Too much: the entry may have been removed, and the tier may have forgotten that.
    TooLong,
}

impl Gaps {
    /// The windows of a node that had no contact before `begun`.
    pub(super) fn since(begun: Time) -> Self {
        Self(Mutex::new(vec![Gap { over: begun, heard: None }]))
    }

    pub(super) fn note(&self, over: Time, heard: Option<Instant>) {
        let mut gaps = self.0.lock();
        gaps.push(Gap { over, heard });
        if gaps.len() > GAPS_MAX {
            // The merged window spans both: the contact before the older, the end of the
            // later.
            let oldest = gaps.remove(0);
            gaps[0].heard = oldest.heard;
        }
    }

    pub(super) fn missed_since(&self, written: Time) -> Missed {
        let gaps = self.0.lock();
        let Some(first) = gaps.iter().find(|gap| gap.over >= written) else { return Missed::Nothing };
        match first.heard {
            Some(heard) if heard.elapsed() + MARGIN < REMOVAL_LIFE => Missed::AWhile,
            _ => Missed::TooLong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_written_after_the_last_window_missed_nothing() {
        let at = Time::from_millis;
        let gaps = Gaps::since(at(10));
        assert_eq!([at(9), at(10), at(11)].map(|time| gaps.missed_since(time)), {
            [Missed::TooLong, Missed::TooLong, Missed::Nothing]
        });
        gaps.note(at(20), Some(Instant::now()));
        assert_eq!([at(10), at(11), at(20), at(21)].map(|time| gaps.missed_since(time)), {
            [Missed::TooLong, Missed::AWhile, Missed::AWhile, Missed::Nothing]
        });
        for time in 30..30 + GAPS_MAX as u64 {
            gaps.note(at(time), Some(Instant::now()));
        }
        assert_eq!(gaps.missed_since(at(11)), Missed::TooLong, "the oldest gaps became one");
        assert_eq!(gaps.missed_since(at(50)), Missed::AWhile);
        assert_eq!(gaps.missed_since(at(1000)), Missed::Nothing);
    }
}
