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
        let now = self.timeline.get()?.now();
        self.offset_at(now, self.server_time(key))
    }

    /// As [`offset`](Self::offset), for the time `now` of the cache and the time of the server.
    fn offset_at(&self, now: Time, of_server: Option<Time>) -> Option<Offset> {
        let of_machine = || self.tier.versioned().map(|_| self.clock.now());
        Some(Offset::between(now, of_server.or_else(of_machine)?))
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
        let Some(timeline) = self.timeline.get() else { return (header, terms) };
        let (now, of_server) = (timeline.now(), self.server_time(key));
        let Some(own) = self.offset_at(now, of_server) else { return (header, terms) };
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
