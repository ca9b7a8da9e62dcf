//! Writing: place the entry, clear its other homes, store it, copy it into memory.
//!
//! The order keeps a reader from ever finding an older copy behind a newer
//! one: first the other homes are cleared, then the home is written, then
//! memory. What a tier buffers when the process is killed is the tier's matter.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use larder_core::frame::Frame;
use larder_core::key::{EncodedKey, Lookup};
use larder_core::memory::MemoryStore;
use larder_core::place::{Facts, Placement, TierList};
use larder_core::tier::TierKind;
use larder_core::{Error, ErrorKind, Result};

use crate::engine::Engine;
use crate::wait::{Inline, Wait};
use crate::wire::Wire;

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// Stores `value` under `key` and says where.
    ///
    /// Once begun it runs to its end. Supersedes the loads and promotions of
    /// the key that are in progress.
    ///
    /// # Errors
    /// When no tier took the entry; the former one is gone then.
    pub async fn insert<W: Wait>(self: &Arc<Self>, key: K, value: V) -> Result<Placement> {
        self.check_open().inspect_err(|_| self.counters.dropped.increment())?;
        let encoded = self.encode_key(&key).inspect_err(|_| self.counters.dropped.increment())?;
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move {
            let hash = engine.gates.hash(&key);
            let _ticket = engine.gates.write::<Inline>(hash).await;
            engine.counters.insertions.increment();
            engine.store(key, encoded, value, None).await
        })
        .await?
    }

    /// Removes `key` everywhere; whether it was anywhere. Supersedes the loads
    /// and promotions of the key that are in progress.
    ///
    /// # Errors
    /// When a tier failed to remove it. What may be left there is not served.
    pub async fn remove<W: Wait, Q>(self: &Arc<Self>, key: &Q) -> Result<bool>
    where
        Q: Lookup<K> + ?Sized + Sync,
    {
        self.check_open()?;
        let hash = self.gates.hash(key);
        let Some(encoded) = self.encode_key(key)? else {
            let _ticket = self.gates.write::<W>(hash).await;
            return Ok(self.count_removal(self.memory.remove(key).is_some()));
        };
        let engine = Arc::clone(self);
        W::section(true, async move {
            let _ticket = engine.gates.write::<Inline>(hash).await;
            let removed = engine.erase(&encoded).await;
            removed.map(|removed| engine.count_removal(removed))
        })
        .await?
    }

    /// Removes `key` everywhere and returns its value, once among all who ask.
    ///
    /// # Errors
    /// As [`remove`](Self::remove); the entry is not served any more, and its
    /// value is lost.
    pub async fn take<W: Wait, Q>(self: &Arc<Self>, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + ?Sized + Sync,
    {
        self.check_open()?;
        let hash = self.gates.hash(key);
        let Some(encoded) = self.encode_key(key)? else {
            let _ticket = self.gates.write::<W>(hash).await;
            let taken = self.memory.remove(key).map(|record| record.value);
            self.count_removal(taken.is_some());
            return Ok(taken);
        };
        let engine = Arc::clone(self);
        W::section(true, async move {
            let _ticket = engine.gates.write::<Inline>(hash).await;
            let value = engine.peek(&encoded).await?;
            engine.erase(&encoded).await?;
            engine.count_removal(value.is_some());
            Ok(value)
        })
        .await?
    }

    fn count_removal(&self, removed: bool) -> bool {
        if removed {
            self.counters.removals.increment();
        }
        removed
    }

    /// The value wherever it is, for who holds the ticket.
    async fn peek(&self, encoded: &EncodedKey) -> Result<Option<V>> {
        let Some(wire) = &self.wire else { return Ok(None) };
        if let Ok(key) = wire.keys.decode(encoded.as_bytes())
            && let Some(record) = self.near(&key)
        {
            return Ok(Some(record.value));
        }
        for slot in &wire.slots {
            if let Some(bytes) = slot.get(encoded).await? {
                match wire.open(bytes, encoded) {
                    Ok(decoded) => return Ok(Some(decoded.value)),
                    Err(_) => slot.counters().refused.increment(),
                }
            }
        }
        Ok(None)
    }

    /// Removes the entry everywhere, for who holds the ticket.
    async fn erase(&self, encoded: &EncodedKey) -> Result<bool> {
        let Some(wire) = &self.wire else { return Ok(false) };
        let mut removed = match wire.keys.decode(encoded.as_bytes()) {
            Ok(key) => self.memory.remove(&key).is_some(),
            Err(_) => false,
        };
        let mut failure = None;
        for slot in &wire.slots {
            match slot.remove(encoded).await {
                Ok(was_there) => removed |= was_there,
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(removed), Err)
    }

    /// Stores an entry, for who holds the ticket.
    pub(crate) async fn store(
        &self,
        key: K,
        encoded: Option<EncodedKey>,
        value: V,
        load_cost: Option<Duration>,
    ) -> Result<Placement> {
        let (Some(wire), Some(encoded)) = (&self.wire, encoded) else {
            self.keep(key, value, 0, (TierKind::Memory, self.clock.now()));
            return Ok(Placement::MEMORY_ONLY);
        };
        let stored = self.store_beyond(wire, &encoded, &value, load_cost).await;
        match stored {
            Ok((placement, bytes)) if placement.in_memory() => {
                let bytes = bytes + encoded.as_bytes().len() as u64;
                self.keep(key, value, bytes, (placement.home, self.clock.now()));
                Ok(placement)
            }
            outcome => {
                self.memory.remove(&key);
                outcome.map(|(placement, _)| placement).inspect_err(|_| self.counters.dropped.increment())
            }
        }
    }

    /// The part of a write that concerns tiers of bytes: where the entry went,
    /// and its measured size.
    async fn store_beyond(
        &self,
        wire: &Wire<K, V>,
        key: &EncodedKey,
        value: &V,
        load_cost: Option<Duration>,
    ) -> Result<(Placement, u64)> {
        let bytes = match wire.values.measure(value) {
            Ok(bytes) => bytes,
            Err(error) => {
                forget(wire, key).await;
                return Err(error);
            }
        };
        let facts = self.facts(bytes, load_cost);
        let placement = self.place(wire, &facts);
        self.clear_homes(wire, key, placement.home).await;
        match self.settle_home(wire, key, (value, &facts), placement).await {
            Ok(settled) => Ok((settled, bytes)),
            Err(error) => {
                forget(wire, key).await;
                Err(error)
            }
        }
    }

    /// Removes the entry from every tier but `home`. What could not be removed
    /// is counted and no longer trusted.
    pub(crate) async fn clear_homes(&self, wire: &Wire<K, V>, key: &EncodedKey, home: TierKind) {
        for slot in wire.slots.iter().filter(|slot| slot.kind() != home) {
            if let Ok(true) = slot.remove(key).await {
                self.counters.moves.increment();
            }
        }
    }

    /// Writes to the home, or to the first alternative that takes the entry.
    async fn settle_home(
        &self,
        wire: &Wire<K, V>,
        key: &EncodedKey,
        (value, facts): (&V, &Facts),
        placement: Placement,
    ) -> Result<Placement> {
        let mut frame = None;
        let mut failure = None;
        let homes: TierList = std::iter::once(placement.home).chain(placement.alternatives.iter()).collect();
        for home in homes.iter() {
            let settled = settled_at(home, placement);
            let Some(slot) = wire.slots.iter().find(|slot| slot.kind() == home) else {
                if home == TierKind::Memory {
                    return Ok(settled);
                }
                continue;
            };
            let frame = match &frame {
                Some(frame) => frame,
                None => frame.insert(wire.frame(key, value, facts, self.clock.now())?),
            };
            match self.put(slot, key, frame).await {
                Ok(()) if home == placement.home => return Ok(settled),
                Ok(()) => {
                    slot.counters().fallbacks.increment();
                    return Ok(settled);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| nowhere(&placement)))
    }

    async fn put(&self, slot: &crate::Slot, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let max = slot.tier().capability().frame_bytes_max;
        if frame.len() as u64 > max {
            slot.remove(key).await?;
            let message = format!("the entry has {} bytes, the tier takes {max}", frame.len());
            return Err(Error::new(ErrorKind::TooLarge, message).in_tier(slot.kind()).during("put"));
        }
        slot.put(key, frame).await
    }
}

/// Removes the former entry from every tier, because the new one went to none.
/// What could not be removed is counted and no longer trusted.
async fn forget<K, V>(wire: &Wire<K, V>, key: &EncodedKey) {
    for slot in &wire.slots {
        let _counted = slot.remove(key).await;
    }
}

/// The placement as it came out: at its home, or at an alternative.
fn settled_at(home: TierKind, placement: Placement) -> Placement {
    if home == placement.home {
        return placement;
    }
    let copy_in_memory = placement.copy_in_memory && home != TierKind::Memory;
    Placement {
        home,
        copy_in_memory,
        rule: "an alternative, because the home refused the entry",
        ..placement
    }
}

fn nowhere(placement: &Placement) -> Error {
    Error::new(ErrorKind::TooLarge, format!("no tier takes the entry: {}", placement.rule))
}
