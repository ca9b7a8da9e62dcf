//! The life of a cache: counting, clearing, flushing, closing.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::Result;
use larder_core::frame::Head;
use larder_core::memory::MemoryStore;
use larder_core::tier::TierKind;

use crate::engine::Engine;
use crate::wait::{Inline, Wait};

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// Entries, each counted at its home. Where there are tiers, costs a pass
    /// over the entries in memory.
    pub fn len(&self) -> u64 {
        if self.wire.is_none() {
            return self.memory.usage().entries;
        }
        let beyond: u64 = self.slots().iter().map(|slot| slot.tier().usage().entries).sum();
        beyond + self.memory.homed(TierKind::Memory)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all tiers, as each accounts for them.
    pub fn bytes(&self) -> u64 {
        let beyond: u64 = self.slots().iter().map(|slot| slot.tier().usage().bytes).sum();
        beyond + self.memory.usage().bytes
    }

    /// The keys of all tiers, each once, in no order.
    pub async fn keys<W: Wait>(self: &Arc<Self>) -> Result<Vec<Arc<K>>> {
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move { engine.collect_keys().await }).await?
    }

    async fn collect_keys(&self) -> Result<Vec<Arc<K>>> {
        let mut keys = if self.checks { Vec::new() } else { self.memory.keys() };
        let Some(wire) = self.wire.as_ref().filter(|_| !self.is_closed()) else { return Ok(keys) };
        let mut seen: HashSet<Box<[u8]>> = HashSet::with_capacity(keys.len());
        for key in &keys {
            seen.insert(wire.encode_key(key)?.as_bytes().into());
        }
        for slot in &wire.slots {
            let mut visit = |bytes: &[u8]| {
                if let Ok(head) = Head::parse(bytes)
                    && !seen.contains(head.key)
                    && let Ok(key) = wire.keys.decode(head.key)
                {
                    seen.insert(head.key.into());
                    keys.push(Arc::new(key));
                }
            };
            slot.tier().scan(&mut visit).await?;
        }
        Ok(keys)
    }

    /// Removes every entry, in every tier. Supersedes all that is in progress.
    ///
    /// # Errors
    /// When a tier failed; it is not asked any more until a later `clear` succeeds.
    pub async fn clear<W: Wait>(self: &Arc<Self>) -> Result<()> {
        self.check_open()?;
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move {
            let _closed = engine.gates.close::<Inline>().await;
            engine.memory.clear();
            let mut outcome = Ok(());
            for slot in engine.slots() {
                outcome = outcome.and(slot.clear().await);
            }
            outcome
        })
        .await?
    }

    /// Hands what is buffered to the operating system.
    pub async fn flush<W: Wait>(self: &Arc<Self>) -> Result<()> {
        self.check_open()?;
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move {
            let mut outcome = Ok(());
            for slot in engine.slots() {
                outcome = outcome.and(slot.tier().flush().await);
            }
            outcome
        })
        .await?
    }

    /// Ends the cache: waits for the writes in progress, flushes and closes
    /// every tier, lets go of memory and locks. A second call does nothing.
    ///
    /// # Errors
    /// The first failure of a tier; the others are closed all the same.
    pub async fn close<W: Wait>(self: &Arc<Self>) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move {
            let _closed = engine.gates.close::<Inline>().await;
            engine.memory.clear();
            let mut outcome = Ok(());
            for slot in engine.slots() {
                outcome = outcome.and(slot.tier().close().await);
            }
            engine.held.lock().clear();
            outcome
        })
        .await?
    }
}
