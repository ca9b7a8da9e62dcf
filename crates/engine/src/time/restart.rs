//! Finds the time at which a cache starts, from the time that earlier runs recorded.
//!
//! The invalidation log records the time of the cache. If the clock is behind the recorded
//! time by at most [`CARRIED_MAX`], the time continues from the recorded one. Otherwise
//! expired entries would become valid again.
//!
//! If the clock is further behind, the time restarts at the clock. Otherwise a clock that
//! was once years ahead would determine the time from then on. Before a restart, entries with
//! a deadline are removed from the tiers of this process, because their age is unknown.

use std::time::Duration;

use larder_core::Result;
use larder_core::clock::{Clock, Time};
use larder_core::frame::Head;
use larder_core::invalidation::{Invalidation, InvalidationRecord};
use larder_core::key::EncodedKey;

use crate::invalidation::log::Invalidations;
use crate::tier_stack::tier_handle::TierHandle;
use larder_exec::runtime::block_on;

/// The time continues from the recorded one if the clock is behind it by at most this, 24
/// hours. This covers nearly every wrong time zone.
const CARRIED_MAX: Duration = Duration::from_secs(24 * 3600);

/// Returns the latest time that earlier runs recorded, or the Unix epoch if there is none.
pub(crate) fn noted(kept: &[InvalidationRecord]) -> Time {
    let times =
        kept.iter().filter(|marked| marked.invalidation == Invalidation::Time).map(|marked| marked.at);
    times.max().unwrap_or(Time::from_millis(0))
}

/// Returns the earliest time that this run may show. If the time restarts, also removes all
/// entries with a deadline.
///
/// The time restarts if the clock is more than [`CARRIED_MAX`] behind `noted`. The removal
/// reads the head of every entry, and does nothing for a tier that other processes share. If
/// the removal or the restart fails, the time continues from `noted`, and a warning is logged.
/// Without a restart, no tier is read.
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
                "the clock is behind that of an earlier run; entries with a deadline were removed"
            );
            now
        }
        Err(error) => {
            tracing::warn!(target: "larder", %error, "the clock is far behind that of an earlier run, whose time is continued");
            noted
        }
    }
}

/// Removes every entry with a deadline from the tier. Does nothing if other processes share
/// the tier.
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
