//! Missed windows: periods without contact to other nodes, for entries kept outside
//! memory.

use std::time::{Duration, Instant};

use larder_core::clock::Time;
use parking_lot::Mutex;

/// Number of windows that are kept; beyond that the two oldest are merged.
const WINDOWS_MAX: usize = 32;
/// Safety margin before the shared tier forgets a removal.
pub(crate) const MARGIN: Duration = Duration::from_secs(5);

/// The missed windows, oldest first.
pub(super) struct MissedWindows {
    windows: Mutex<Vec<MissedWindow>>,
    /// How long the shared tier remembers a removal.
    remembered: Duration,
}

struct MissedWindow {
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

impl MissedWindows {
    /// The windows of a node that had no contact before `begun`.
    pub(super) fn since(begun: Time, remembered: Duration) -> Self {
        Self { windows: Mutex::new(vec![MissedWindow { over: begun, heard: None }]), remembered }
    }

    pub(super) fn note(&self, over: Time, heard: Option<Instant>) {
        let mut windows = self.windows.lock();
        windows.push(MissedWindow { over, heard });
        if windows.len() > WINDOWS_MAX {
            // The merged window spans both: the contact before the older, the end of the
            // later.
            let oldest = windows.remove(0);
            windows[0].heard = oldest.heard;
        }
    }

    pub(super) fn missed_since(&self, written: Time) -> Missed {
        let windows = self.windows.lock();
        let Some(first) = windows.iter().find(|window| window.over >= written) else {
            return Missed::Nothing;
        };
        match first.heard {
            Some(heard) if heard.elapsed() + MARGIN < self.remembered => Missed::AWhile,
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
        let windows = MissedWindows::since(at(10), Duration::from_secs(60));
        assert_eq!([at(9), at(10), at(11)].map(|time| windows.missed_since(time)), {
            [Missed::TooLong, Missed::TooLong, Missed::Nothing]
        });
        windows.note(at(20), Some(Instant::now()));
        assert_eq!([at(10), at(11), at(20), at(21)].map(|time| windows.missed_since(time)), {
            [Missed::TooLong, Missed::AWhile, Missed::AWhile, Missed::Nothing]
        });
        for time in 30..30 + WINDOWS_MAX as u64 {
            windows.note(at(time), Some(Instant::now()));
        }
        assert_eq!(windows.missed_since(at(11)), Missed::TooLong, "the oldest windows became one");
        assert_eq!(windows.missed_since(at(50)), Missed::AWhile);
        assert_eq!(windows.missed_since(at(1000)), Missed::Nothing);
    }
}
