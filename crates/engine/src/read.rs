//! Reading: memory, then tier by tier.

use std::hash::Hash;
use std::sync::Arc;

use larder_core::key::{EncodedKey, Lookup};
use larder_core::memory::MemoryStore;
use larder_core::tier::{Stamp, TierKind};
use larder_core::{Error, Result};

use crate::engine::Engine;
use crate::gate::Observation;
use crate::slot::Slot;
use crate::wait::Wait;
use crate::wire::{Decoded, Wire};

/// A value that a tier of bytes answered with.
pub(crate) struct Found<V> {
    /// The tier that answered.
    pub(crate) tier: TierKind,
    /// The tier that answers for the entry.
    pub(crate) home: TierKind,
    pub(crate) decoded: Decoded<V>,
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// The value of `key` beyond memory, for a caller that missed there.
    ///
    /// # Errors
    /// Those of a tier, when no other tier had the entry.
    pub async fn get<W: Wait, Q>(self: &Arc<Self>, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + ?Sized + Sync,
    {
        let found = match self.encode_key(key) {
            Ok(Some(encoded)) if !self.is_closed() => self.seek::<W>(encoded, self.gates.hash(key)).await,
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        if !matches!(found, Ok(Some(_))) {
            self.counters.misses.increment();
        }
        Ok(found?.map(|found| found.decoded.value))
    }

    /// Whether some tier has an entry for `key`. Reads no payload, so a torn
    /// one is not noticed.
    pub async fn contains_key<W: Wait, Q>(self: &Arc<Self>, key: &Q) -> Result<bool>
    where
        Q: Lookup<K> + ?Sized + Sync,
    {
        if !self.checks && self.memory.contains(key) {
            return Ok(true);
        }
        let Some(encoded) = self.encode_key(key)? else { return Ok(false) };
        if self.is_closed() {
            return Ok(false);
        }
        let engine = Arc::clone(self);
        W::section(true, async move {
            let mut failure = None;
            for slot in engine.slots() {
                match slot.contains(&encoded).await {
                    Ok(true) => return Ok(true),
                    Ok(false) => {}
                    Err(error) => failure = Some(error),
                }
            }
            failure.map_or(Ok(false), Err)
        })
        .await?
    }

    /// Reads `key` from the tiers of bytes, and copies it into memory unless
    /// it changed meanwhile.
    pub(crate) async fn seek<W: Wait>(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> Result<Option<Found<V>>> {
        if self.slots().is_empty() {
            return Ok(None);
        }
        let engine = Arc::clone(self);
        W::section(true, async move { engine.read(&key, hash).await }).await?
    }

    async fn read(self: &Arc<Self>, key: &EncodedKey, hash: u64) -> Result<Option<Found<V>>> {
        let Some(wire) = &self.wire else { return Ok(None) };
        // Without memory there is nothing to promote to, and nothing to remember.
        let observation = (self.memory_weight_max > 0).then(|| self.gates.observe(hash));
        // Taken before anything is read.
        let checks = self.checks && self.memory_weight_max > 0;
        let stamp = if checks { self.stamp(key) } else { None };
        if checks && let Some(found) = self.checked_copy(wire, key, stamp) {
            return Ok(Some(found));
        }
        let mut failure = None;
        for slot in &wire.slots {
            match slot.get(key).await {
                Ok(Some(bytes)) => match wire.open(bytes, key) {
                    Ok(decoded) => {
                        let found = Found { tier: slot.kind(), home: slot.kind(), decoded };
                        if let Some(observation) = &observation {
                            self.promote(wire, key, &found, (observation, stamp));
                        }
                        return Ok(Some(found));
                    }
                    Err(error) => {
                        note_refusal(slot, key, &error);
                        self.drop_refused(wire, slot, key, hash).await;
                    }
                },
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Copies what was read into memory, where its placement wants that.
    fn promote(
        &self,
        wire: &Wire<K, V>,
        key: &EncodedKey,
        found: &Found<V>,
        (observation, stamp): (&Observation<K, V>, Option<Stamp>),
    ) {
        let header = &found.decoded.header;
        let bytes = header.value_len;
        if !self.place(wire, &self.facts(bytes, header.load_cost)).in_memory() {
            return;
        }
        let Some(_ticket) = observation.claim() else {
            self.counters.superseded.increment();
            return;
        };
        if let Ok(key_back) = wire.keys.decode(key.as_bytes()) {
            let bytes = bytes + key.as_bytes().len() as u64;
            if self.checks {
                return self.keep_copy(key_back, found, bytes, stamp);
            }
            let value = found.decoded.value.clone();
            self.keep(key_back, value, bytes, (found.tier, header.created));
        }
    }

    /// Removes an entry that must not be served, unless it was replaced since
    /// it was read, or is being replaced now.
    async fn drop_refused(self: &Arc<Self>, wire: &Wire<K, V>, slot: &Slot, key: &EncodedKey, hash: u64) {
        let observation = self.gates.observe(hash);
        let Some(_ticket) = observation.claim() else { return };
        if let Ok(Some(bytes)) = slot.get(key).await
            && wire.open(bytes, key).is_err()
        {
            // A failure is counted by the layer and the key distrusted by the slot.
            let _counted = slot.remove(key).await;
        }
    }
}

pub(crate) fn note_refusal(slot: &Slot, key: &EncodedKey, error: &Error) {
    slot.counters().refused.increment();
    tracing::warn!(target: "larder", tier = %slot.kind(), key = ?key, error = ?error, "an entry was refused");
}
