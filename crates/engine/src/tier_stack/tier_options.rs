//! The options of a tier: its own time to live, and being read only.

use larder_core::clock::Time;
use larder_core::entry_meta::EntryMeta;
use larder_core::frame::Header;
use larder_core::key::EncodedKey;
use larder_core::tier::{FailedWrites, TierOptions};
use larder_core::{Error, ErrorKind, Result};

use crate::tier_stack::quarantine::Quarantine;
use crate::tier_stack::tier_handle::TierHandle;

impl TierHandle {
    /// Sets the options, before the tier is used.
    pub fn set_options(&mut self, options: TierOptions) {
        self.options = options;
        // The dirty flag would make the next process clear the tier because of entries that are hidden here.
        if options.read_only && !self.quarantine.is_whole() {
            self.quarantine = Quarantine::new(self.kind, None);
        }
    }

    /// Whether the tier is read and never written.
    pub fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    pub(crate) fn failed_writes(&self) -> FailedWrites {
        self.options.failed_writes
    }

    /// Whether the tier has a time to live of its own.
    pub(crate) fn expires(&self) -> bool {
        self.options.ttl.is_some()
    }

    /// Limits the deadline of an entry by the time to live of the tier.
    pub(crate) fn cap(&self, mut terms: EntryMeta, created: Time) -> EntryMeta {
        if let Some(ttl) = self.options.ttl {
            terms.deadline = terms.deadline.min(created.after(ttl));
        }
        terms
    }

    /// As [`cap`](Self::cap), with the deadlines in the header.
    pub(crate) fn capped(&self, (header, terms): (Header, EntryMeta)) -> (Header, EntryMeta) {
        if !self.expires() {
            return (header, terms);
        }
        let terms = self.cap(terms, header.created);
        let (deadline, stale_deadline) = (terms.until(), terms.stale_until());
        (Header { deadline, stale_deadline, ..header }, terms)
    }

    /// Removes an entry of a tier that is only read: hides it from this cache.
    pub(super) async fn hide(&self, key: &EncodedKey) -> Result<bool> {
        if self.quarantine.covers(key) {
            return Ok(false);
        }
        let found = self.inner().contains(key).await;
        // One that cannot be looked up may be there.
        if !matches!(found, Ok(false)) {
            self.quarantine.add(key, self.epoch(key));
        }
        found
    }

    /// The error of a write to a tier that is only read.
    pub(super) fn refuse_write(&self) -> Error {
        Error::new(ErrorKind::Unsupported, "the tier is read only").in_tier(self.kind).during("put")
    }
}
