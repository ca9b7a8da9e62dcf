//! A full medium: which errors say so, and what a write does about it.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use larder_core::{Error, Result};

use crate::disk_budget::Share;

/// The shortest time between two times that room is made after a write has failed: that may
/// read the head of every entry and open the store again.
const RELIEF_PAUSE: Duration = Duration::from_secs(1);

/// What the operating system has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Blocks or inodes of the file system, or the quota of the user.
    Room,
    /// Open files, of the process or of the system.
    Handles,
}

/// What an error says there is too little of: `ENOSPC` and `EDQUOT`, `EMFILE`
/// and `ENFILE`. `None` for any other error, such as a tier's own refusal.
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
    /// `ENFILE` and `EMFILE`, which have no kind in the standard library and
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

/// Runs `write`. Where the system has run out of something, `available` says how much is left
/// on the medium, the budget shrinks by that, `relieve` makes room, once in a second at most,
/// and `write` runs once more.
pub(crate) fn relieved<T>(
    share: &Share,
    available: impl FnOnce() -> Option<u64>,
    mut write: impl FnMut() -> Result<T>,
    relieve: impl FnOnce(Shortage) -> Result<()>,
) -> Result<T> {
    let error = match write() {
        Err(error) => error,
        done => return done,
    };
    let Some(shortage) = shortage(&error) else { return Err(error) };
    if shortage == Shortage::Room {
        share.fit(available());
        share.refused();
    }
    if share.relieved.is_over(share.elapsed(), RELIEF_PAUSE) {
        tracing::warn!(target: "larder", %error, budget = share.budget(), "the medium has no room: entries are evicted");
        if let Err(error) = relieve(shortage) {
            tracing::warn!(target: "larder", %error, "no room could be made on the medium");
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
    use crate::Space;
    use crate::disk_budget::Hands;

    fn of_system(code: i32) -> Error {
        let source = io::Error::from_raw_os_error(code);
        Error::new(ErrorKind::Unavailable, "the path").with_source(source)
    }

    #[cfg(unix)]
    #[test]
    fn errors_of_the_system_name_what_is_short() {
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
    fn a_write_without_room_is_tried_once_more_and_shrinks_the_budget() {
        let clock = Arc::new(Hands::default());
        let space = Space::with_clock(100 << 20, Arc::clone(&clock) as Arc<dyn Clock>);
        let (mut writes, mut reliefs) = (0, 0);
        let share = space.share();
        share.grow(32 << 20);
        let mut attempt = |fails: usize, code| {
            writes = 0;
            let write = || {
                writes += 1;
                if writes <= fails { Err(of_system(code)) } else { Ok(writes) }
            };
            let done = relieved(
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
        assert_eq!(space.budget(), 30 << 20, "less than what is used");
        assert_eq!(attempt(1, 28), (Some(2), 1), "room is made once in a second");
        assert_eq!(attempt(2, 28), (None, 1));
        clock.set(1_000);
        assert_eq!(attempt(1, 28), (Some(2), 2));
    }
}
