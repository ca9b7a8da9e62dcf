//! Reads without a future, of a thread whose tiers answer without one.
//!
//! A look-up in the newest database takes half a microsecond. The futures of the walk over the tiers would
//! take as long again: they are allocated, moved and polled once. A cache whose tiers all block and that no
//! other process shares reads without them. Anything beyond the plain read (a quarantine, equal keys with
//! different encodings) takes the walk.

use std::sync::Arc;

use larder_core::Result;
use larder_core::erased::{AnyLookup, Value};
use larder_core::key::EncodedKey;
use larder_exec::runtime::{Blocking, block_on, on_this_thread};

use crate::coherence::CoherencePlan;
use crate::engine::Engine;
use crate::read::{Found, ReadFrom};
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// Returns whether a thread can read these tiers without a future, and no other process shares them.
pub(crate) fn can_read(plan: Option<&CoherencePlan>, tiers: &[TierHandle]) -> bool {
    let is_plain = |handle: &TierHandle| !handle.is_shared() && handle.inner().blocking().is_some();
    plan.is_none() && !tiers.is_empty() && tiers.iter().all(is_plain)
}

impl Engine {
    /// As [`get`](Self::get), for a thread. `None` if that takes the walk over the tiers.
    pub(crate) fn get_on_thread(self: &Arc<Self>, key: &dyn AnyLookup) -> Option<Result<Option<Value>>> {
        let stack = self.stack.as_ref().filter(|_| self.reads_on_thread)?;
        if self.has_key_conflicts() || stack.tiers.iter().any(|handle| handle.quarantine().is_any()) {
            return None;
        }
        Some(on_this_thread(|| match self.begin_get(key) {
            Ok(None) => Ok(None),
            // This very key may be the one that comes with another encoding.
            Ok(Some(encoded)) if self.has_key_conflicts() => {
                let found = block_on(self.seek::<Blocking>(encoded, self.key_locks.hash(key)));
                self.end_get(found)
            }
            Ok(Some(encoded)) => self.end_get(self.read_on_thread(stack, key, &encoded)),
            Err(error) => self.end_get(Err(error)),
        }))
    }

    /// Asks the tiers in turn, and copies the entry into memory unless it changed meanwhile.
    fn read_on_thread(
        self: &Arc<Self>,
        stack: &TierStack,
        key: &dyn AnyLookup,
        encoded: &EncodedKey,
    ) -> Result<Option<Found>> {
        let hash = || self.key_locks.hash(key);
        let observation = (self.memory_weight_max > 0).then(|| self.key_locks.observe(hash()));
        let mut failure = None;
        for handle in &stack.tiers {
            match handle.get_blocking(encoded) {
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    let observation = &observation;
                    let from = ReadFrom { stack, handle, key: encoded, observation, version: None };
                    match self.admit(&from, bytes) {
                        Ok((found, None)) => return Ok(Some(found)),
                        Ok((found, Some(to))) => {
                            block_on(Box::pin(self.relocate(stack, handle, (encoded, hash()), to)));
                            return Ok(Some(found));
                        }
                        Err(_) => drop(block_on(Box::pin(self.drop_gone(stack, handle, encoded, hash())))),
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }
}
