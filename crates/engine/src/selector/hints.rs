//! The hints of a cache, and how those of an entry precede them.

use std::time::Duration;

use larder_core::entry_meta::EntryMeta;
use larder_core::place::{
    Access, EntryHints, Facts, Hint, HintsUsed, Kind, Persistence, Sharing, Thresholds,
};
use larder_core::tier::TierKind;

/// What the user has configured about all entries of a cache.
#[derive(Clone, Copy, Debug)]
pub struct Hints {
    /// The kind of the values.
    pub kind: Kind,
    /// How long entries should outlive the process.
    pub persistence: Persistence,
    /// How entries are used.
    pub access: Access,
    /// Which processes or nodes need to see the entries.
    pub sharing: Sharing,
    /// The home tier that the user has fixed, if any.
    pub home: Option<TierKind>,
    /// The bounds of the size classes.
    pub thresholds: Thresholds,
}

impl Hints {
    /// Returns the facts for placing an entry of `bytes`. The hints that the entry has precede those
    /// of the cache.
    pub(crate) fn facts(&self, bytes: u64, load_cost: Option<Duration>, terms: &EntryMeta) -> Facts {
        let Self { kind, sharing, thresholds, .. } = *self;
        let HintsUsed { persistence, access, home } = self.used(terms.hints);
        Facts {
            bytes,
            kind,
            load_cost,
            ttl: terms.ttl,
            persistence: persistence.value,
            access: access.value,
            sharing,
            home: home.value,
            found: None,
            key: None,
            thresholds,
        }
    }

    /// Returns the hints that an entry with these hints is placed by, each with its source.
    pub(crate) fn used(&self, entry: EntryHints) -> HintsUsed {
        HintsUsed {
            persistence: Hint::of(entry.persistence, self.persistence),
            access: Hint::of(entry.access, self.access),
            home: Hint::of(entry.home.map(Some), self.home),
        }
    }
}
