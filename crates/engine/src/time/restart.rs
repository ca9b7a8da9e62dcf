//! Where the time of a cache starts, given what its directory recorded in earlier runs.
//!
//! The directory records the latest time. If the clock shows an earlier time now, it was
//! set back, and the time continues from the recorded one. Otherwise expired entries
//! would become valid again. A clock that was once years ahead would stay in effect for
//! ever this way. So beyond [`CARRIED_MAX`] the time restarts by the clock, and entries
//! with a deadline are removed from the directory, because their age is unknown.

use std::time::Duration;

use larder_core::Result;
use larder_core::clock::{Clock, Time};
use larder_core::frame::Head;
use larder_core::invalidation::{Invalidation, InvalidationRecord};
use larder_core::key::EncodedKey;

use crate::invalidation::log::Invalidations;
use crate::tier_stack::tier_handle::TierHandle;
use larder_exec::runtime::block_on;

/// How far the clock may be behind the last run for the time to continue from there. A
/// wrong time zone is well within it.
const CARRIED_MAX: Duration = Duration::from_secs(24 * 3600);

/// Returns the latest time that earlier runs recorded.
pub(crate) fn noted(kept: &[InvalidationRecord]) -> Time {
    let times =
        kept.iter().filter(|marked| marked.invalidation == Invalidation::Time).map(|marked| marked.at);
    times.max().unwrap_or(Time::from_millis(0))
}

/// Returns the earliest time that this run may show. If the time restarts, this reads the
/// heads of all entries of the directory; otherwise it costs nothing.
pub(crate) fn earliest(
    noted: Time,
    clock: &dyn Clock,
    tiers: &[TierHandle],
    invalidations: &Invalidations,
) -> Time {
    let now = clock.now();
    if noted.since(now) <= CARRIED_MAX {
        return noted;
    }
    match tiers.iter().try_for_each(remove_timed).and_then(|()| invalidations.restart_time(now)) {
        Ok(()) => {
            let days = noted.since(now).as_secs() / (24 * 3600);
            tracing::warn!(
                target: "larder",
                days,
                "the clock is that much lagging an earlier run: entries with a deadline were removed"
            );
            now
        }
        Err(error) => {
            tracing::warn!(target: "larder", %error, "the time of an earlier run, far ahead of the clock, goes on");
            noted
        }
    }
}

/// Removes every entry with a deadline from a tier that only this process uses.
fn remove_timed(handle: &TierHandle) -> Result<()> {
    if handle.is_shared() {
        return Ok(());
    }
    let mut timed = Vec::new();
    let mut visit = |bytes: &[u8]| {
        if let Ok(head) = Head::parse(bytes)
            && head.header.deadline != Time::NEVER
        {
            timed.push(EncodedKey::new(head.key));
        }
    };
    block_on(handle.scan(&mut visit))?;
    block_on(handle.remove_many(&timed)).into_iter().try_for_each(|removed| removed.map(drop))
}
