//! Handles a full disk: recognizes the error, makes room and retries the write.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use larder_core::{Error, Result};

use crate::disk_budget::BudgetShare;

/// Shortest time between two attempts to make room after a failed write.
///
/// An attempt may read the head of every entry and reopen the store.
const RELIEF_PAUSE: Duration = Duration::from_secs(1);

/// The resource that the operating system has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Blocks or inodes of the file system, or the user's quota.
    Room,
    /// File handles, of the process or of the system.
    Handles,
}

/// Returns the resource that `error` reports as exhausted: `ENOSPC` and `EDQUOT`, or `EMFILE` and
/// `ENFILE`.
///
/// `None` for any other error, such as a tier that refuses a frame.
pub(crate) fn shortage(error: &Error) -> Option<Shortage> {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<io::Error>().and_then(of_system) {
            return Some(found);
        }
        source = error.source();
    }
    None
}

fn of_system(error: &io::Error) -> Option<Shortage> {
    /// `ENFILE` and `EMFILE`. The standard library has no `ErrorKind` for them, and their numbers
    /// are the same on every Unix.
    const HANDLES: [i32; 2] = [23, 24];
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Shortage::Room),
        _ if cfg!(unix) && error.raw_os_error().is_some_and(|code| HANDLES.contains(&code)) => {
            Some(Shortage::Handles)
        }
        _ => None,
    }
}

/// Runs `write`, and retries it once if the system has run out of a resource.
///
/// Before the retry, the budget shrinks to what fits into the space that `available` reports. Then
/// `relieve` makes room, at most once a second.
pub(crate) fn retry_when_full<T>(
    share: &BudgetShare,
    available: impl FnOnce() -> Option<u64>,
    mut write: impl FnMut() -> Result<T>,
    free_space: impl FnOnce(Shortage) -> Result<()>,
) -> Result<T> {
    let error = match write() {
        Err(error) => error,
        done => return done,
    };
    let Some(shortage) = shortage(&error) else { return Err(error) };
    if shortage == Shortage::Room {
        share.fit_to_free_space(available());
        share.write_failed();
    }
    if share.relief.allows(share.elapsed(), RELIEF_PAUSE) {
        tracing::warn!(target: "larder", %error, budget = share.effective_limit(), "a write failed for lack of space or file handles; entries are evicted");
        if let Err(error) = free_space(shortage) {
            tracing::warn!(target: "larder", %error, "cannot free space or file handles");
        }
    }
    write()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larder_core::ErrorKind;
    use larder_core::clock::Clock;

    use super::*;
    use crate::DiskBudget;
    use crate::disk_budget::ElapsedClock;

    fn of_system(code: i32) -> Error {
        let source = io::Error::from_raw_os_error(code);
        Error::new(ErrorKind::Unavailable, "the path").with_source(source)
    }

    #[cfg(unix)]
    #[test]
    fn system_errors_map_to_the_exhausted_resource() {
        for (code, expect) in [
            (28, Some(Shortage::Room)),
            (24, Some(Shortage::Handles)),
            (23, Some(Shortage::Handles)),
            (5, None),
            (13, None),
        ] {
            assert_eq!(shortage(&of_system(code)), expect, "errno {code}");
        }
        let quota = io::Error::from(io::ErrorKind::QuotaExceeded);
        assert_eq!(shortage(&Error::from(quota)), Some(Shortage::Room));
        assert_eq!(shortage(&Error::new(ErrorKind::Full, "the budget is full")), None);
    }

    #[cfg(unix)]
    #[test]
    fn write_on_a_full_disk_is_retried_once_and_shrinks_the_budget() {
        let clock = Arc::new(ElapsedClock::default());
        let budget = DiskBudget::with_clock(100 << 20, Arc::clone(&clock) as Arc<dyn Clock>);
        let (mut writes, mut reliefs) = (0, 0);
        let share = budget.share();
        share.grow(32 << 20);
        let mut attempt = |fails: usize, code| {
            writes = 0;
            let write = || {
                writes += 1;
                if writes <= fails { Err(of_system(code)) } else { Ok(writes) }
            };
            let done = retry_when_full(
                &share,
                || Some(100 << 20),
                write,
                |_| {
                    reliefs += 1;
                    Ok(())
                },
            );
            (done.ok(), reliefs)
        };
        assert_eq!(attempt(1, 5), (None, 0), "another failure");
        assert_eq!(attempt(1, 28), (Some(2), 1));
        assert_eq!(budget.effective_limit(), 30 << 20, "less than what is used");
        assert_eq!(attempt(1, 28), (Some(2), 1), "room is made once in a second");
        assert_eq!(attempt(2, 28), (None, 1));
        clock.set(1_000);
        assert_eq!(attempt(1, 28), (Some(2), 2));
    }
}
