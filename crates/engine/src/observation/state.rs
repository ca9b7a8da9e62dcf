//! What an engine knows of its present state, beside its statistics.

use std::sync::Arc;

use larder_core::Result;
use larder_core::erased::{AnyLookup, Key};
use larder_core::events::Line;
use larder_core::memory::Bounds;
use larder_core::tier::TierKind;

use super::{KeyName, Observer};
use crate::engine::Engine;

/// The state of a tier beyond memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierState {
    /// The tier.
    pub kind: TierKind,
    /// Whether a new entry may be placed in it.
    pub is_healthy: bool,
    /// The operations whose circuit is open.
    pub open: Vec<Line>,
    /// Whether it has missed changes, and does not serve the keys of these until they are repaired.
    pub has_missed_changes: bool,
    /// Whether it is shared with other nodes or processes.
    pub is_shared: bool,
}

/// The state of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheState {
    /// The bounds of memory.
    pub bounds: Bounds,
    /// The tiers beyond memory, nearest first.
    pub tiers: Vec<TierState>,
    /// Whether the cache is switched on.
    pub is_enabled: bool,
    /// Whether copies in memory are confirmed, because other nodes or processes change the entries.
    pub confirms_copies: bool,
}

impl Engine {
    /// Returns the observer, if the cache is observed.
    pub fn observer(&self) -> Option<&Arc<Observer>> {
        self.events.observer()
    }

    /// Records a look-up of a key that memory does not have, if it is sampled.
    #[inline]
    pub(crate) fn observe_request(&self, key: &dyn AnyLookup) {
        let Some(observer) = self.observer() else { return };
        observer.trace(key);
        if observer.requests().picks_next() {
            key.lend(&mut |key| observer.requested(key));
        }
    }

    /// Returns the state of this moment.
    pub fn state(&self) -> CacheState {
        CacheState {
            bounds: self.memory.bounds(),
            tiers: self.tiers().iter().map(|handle| handle.state()).collect(),
            is_enabled: self.is_enabled(),
            confirms_copies: self.confirms_copies,
        }
    }

    /// Returns the key with this encoding; `None` for a cache that encodes no keys.
    ///
    /// # Errors
    /// If the bytes are not the encoding of a key of this cache.
    pub fn decode_key(&self, encoded: &[u8]) -> Result<Option<Key>> {
        self.stack.as_ref().map(|stack| stack.keys.decode(encoded)).transpose()
    }

    /// Finds the key in memory that the observer names so, by a pass over the keys. `share` makes an own key.
    pub fn find_key(&self, name: &KeyName, share: fn(&dyn std::any::Any) -> Option<Key>) -> Option<Key> {
        let observer = self.observer()?;
        let mut found = None;
        self.memory.for_each_key(&mut |key| {
            if found.is_none() && observer.name(key) == *name {
                found = share(key);
            }
        });
        found
    }
}
