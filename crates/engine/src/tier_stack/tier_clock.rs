//! Times of frames between this cache and the other processes of a tier.

use larder_core::clock::{Offset, Time};
use larder_core::entry_meta::{self, EntryMeta};
use larder_core::frame::Header;
use larder_core::key::EncodedKey;
use larder_core::tier::Tier;

use crate::tier_stack::tier_handle::TierHandle;

impl TierHandle {
    /// Returns how far the clock shared by all processes of the tier is ahead of this
    /// cache's time. `None` for a tier that only this process uses, and until its server
    /// answered once. Processes of one machine share the clock of the machine.
    ///
    /// The time of a cache is corrected when the clock is set back, and may be wrong by
    /// years. So a timestamp goes to other processes only together with this offset.
    pub(crate) fn offset(&self, key: &EncodedKey) -> Option<Offset> {
        let timeline = self.timeline.get()?;
        let shared = self.server_time(key).or_else(|| self.machine_time())?;
        Some(Offset::between(timeline.now(), shared))
    }

    /// Returns the present time of the machine, if its processes share the tier.
    fn machine_time(&self) -> Option<Time> {
        self.tier.versioned().map(|_| self.clock.now())
    }

    /// Converts the times of a frame in this tier to the time of this cache, and limits its
    /// deadline by the time to live of the tier.
    pub(crate) fn by_own_time(
        &self,
        key: &EncodedKey,
        frame: (Header, EntryMeta),
        written: Option<Offset>,
    ) -> (Header, EntryMeta) {
        self.capped(self.by_own_clock(key, frame, written))
    }

    /// Converts the times of a frame in this tier to the time of this cache. The frame
    /// has times of its writer, and the offset of the shared clock that the writer noted.
    /// Frames of earlier builds have no offset; their writers are taken to have had the
    /// right time.
    ///
    /// A frame from the future by the clock of the machine has an unknown age, because
    /// that clock was set back since. It is expired if it has a deadline.
    fn by_own_clock(
        &self,
        key: &EncodedKey,
        (header, terms): (Header, EntryMeta),
        written: Option<Offset>,
    ) -> (Header, EntryMeta) {
        let of_server = self.server_time(key);
        let shared = of_server.or_else(|| self.machine_time());
        let (Some(shared), Some(timeline)) = (shared, self.timeline.get()) else { return (header, terms) };
        let now = timeline.now();
        let own = Offset::between(now, shared);
        let written = written.unwrap_or_default();
        let shift = |time| own.backward(written.forward(time));
        let mut terms = terms.by_clock(now, shift);
        if terms.is_of_the_future(shift(header.created), now) && of_server.is_none() {
            terms.deadline = Time::from_millis(0);
        }
        let created = shift(header.created).min(now);
        let (deadline, stale_deadline) = (terms.until(), terms.stale_until());
        (Header { created, deadline, stale_deadline, ..header }, terms)
    }

    /// Returns the attributes of a frame with this metadata for this tier.
    pub(crate) fn attributes(&self, key: &EncodedKey, terms: &EntryMeta) -> Vec<u8> {
        attributes(terms, || self.offset(key))
    }
}

/// Returns the attributes of a frame with this metadata. If it has a deadline, they
/// include the offset of the shared clock, which other processes judge the deadline by.
pub(crate) fn attributes(terms: &EntryMeta, offset: impl FnOnce() -> Option<Offset>) -> Vec<u8> {
    let mut attributes = terms.attributes();
    if terms.until() != Time::NEVER
        && let Some(offset) = offset()
    {
        entry_meta::write_offset(&mut attributes, offset);
    }
    attributes
}
