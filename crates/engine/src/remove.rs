//! Removing: everywhere, before anybody is told.

use std::hash::Hash;
use std::sync::Arc;

use larder_core::events::Event;
use larder_core::key::{EncodedKey, Lookup};
use larder_core::memory::{MemoryStore, Record};
use larder_core::terms::{Freshness, Terms};
use larder_core::tier::Stamp;
use larder_core::{Error, Result};

use crate::engine::Engine;
use crate::gate::Ticket;
use crate::shield;
use crate::wait::Wait;
use crate::wire::Decoded;

/// A fresh entry as who changes it finds it.
pub(crate) struct Peeked<V> {
    /// `None` for the knowledge that there is no value.
    pub(crate) value: Option<V>,
    pub(crate) terms: Terms,
}

/// What memory knew of an entry that is being removed.
pub(crate) struct Former {
    was_here: bool,
    base: Option<Stamp>,
}

impl<V> Peeked<V> {
    pub(crate) fn in_memory(record: Record<V>) -> Self {
        let terms = record.terms.map_or(Terms::PLAIN, |terms| terms.current());
        Self { value: record.value, terms }
    }
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
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
        let (hash, name) = (self.gates.hash(key), self.name_of(key));
        let Some(encoded) = self.encode_key(key)? else {
            let _ticket = self.ticket_to_write(hash).await?;
            return Ok(self.count_removal(name, self.discard(key)));
        };
        let engine = Arc::clone(self);
        self.drive::<W, _>(false, async move { engine.remove_encoded(&encoded, hash, name).await }).await?
    }

    pub(crate) async fn remove_encoded(
        self: &Arc<Self>,
        encoded: &EncodedKey,
        hash: u64,
        name: Option<Arc<K>>,
    ) -> Result<bool> {
        let _ticket = self.ticket_to_write(hash).await?;
        let (removed, failure) = self.erase(encoded).await;
        self.count_removal(name, removed);
        failure.map_or(Ok(removed), Err)
    }

    /// Removes `key` everywhere and returns its value, once among all who ask.
    ///
    /// # Errors
    /// When no tier had a value and one failed, or when a tier failed to remove
    /// the entry. In either case it is not served any more, and its value is lost.
    pub async fn take<W: Wait, Q>(self: &Arc<Self>, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + ?Sized + Sync,
    {
        self.check_open()?;
        let (hash, name) = (self.gates.hash(key), self.name_of(key));
        let Some(encoded) = self.encode_key(key)? else {
            let _ticket = self.ticket_to_write(hash).await?;
            let value = self.recall(key).and_then(|record| record.value);
            self.discard(key);
            self.count_removal(name, value.is_some());
            return Ok(value);
        };
        let engine = Arc::clone(self);
        self.drive::<W, _>(false, async move {
            let _ticket = engine.ticket_to_write(hash).await?;
            if let Some(shared) = engine.shared().filter(|_| engine.life.is_on()) {
                let value = engine.take_shared(shared, &encoded).await?;
                engine.count_removal(name, value.is_some());
                return Ok(value);
            }
            let found = if engine.life.is_on() { engine.peek(&encoded).await } else { Ok(None) };
            let (_, failure) = engine.erase(&encoded).await;
            let value = found?.and_then(|peeked| peeked.value);
            engine.count_removal(name, value.is_some());
            failure.map_or(Ok(value), Err)
        })
        .await?
    }

    /// The ticket of a key for a change, unless the cache was closed meanwhile.
    pub(crate) async fn ticket_to_write(self: &Arc<Self>, hash: u64) -> Result<Ticket<K, V>> {
        let ticket = self.gates.write(hash).await?;
        self.check_open()?;
        self.pauses.end(hash);
        Ok(ticket)
    }

    pub(crate) fn count_removal(&self, name: Option<Arc<K>>, removed: bool) -> bool {
        if removed {
            self.counters.removals.increment();
            self.events.tell_of(name, |key| Event::Removed { key });
        }
        removed
    }

    /// What is fresh of the entry, wherever it is, for who holds the ticket.
    ///
    /// # Errors
    /// That of a tier, when no other had the entry.
    pub(crate) async fn peek(&self, encoded: &EncodedKey) -> Result<Option<Peeked<V>>> {
        let Some(wire) = &self.wire else { return Ok(None) };
        if let Ok(key) = wire.keys.decode(encoded.as_bytes())
            && let Some(record) = self.recall(&key)
        {
            return Ok(Some(Peeked::in_memory(record)));
        }
        let mut failure: Option<Error> = None;
        for slot in &wire.slots {
            match slot.get(encoded).await {
                Ok(Some(bytes)) => match shield::within(|| self.judge(wire, slot, bytes, encoded)) {
                    Ok(found) if found.freshness == Freshness::Fresh => {
                        let Decoded { value, terms, .. } = found.decoded;
                        return Ok(Some(Peeked { value, terms }));
                    }
                    Ok(_) => {}
                    Err(_) => {
                        slot.counters().refused.increment();
                        self.tell_refused(encoded, slot.kind());
                    }
                },
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Removes the entry everywhere, for who holds the ticket: whether it was
    /// anywhere, and the last failure.
    async fn erase(&self, encoded: &EncodedKey) -> (bool, Option<Error>) {
        let former = self.former(encoded);
        self.erase_from(encoded, former, None).await
    }

    /// As [`erase`](Self::erase), once the shared tier was asked.
    pub(crate) async fn erase_beside(
        &self,
        encoded: &EncodedKey,
        former: Former,
        there: Result<bool>,
    ) -> (bool, Option<Error>) {
        self.erase_from(encoded, former, Some(there)).await
    }

    async fn erase_from(
        &self,
        encoded: &EncodedKey,
        former: Former,
        there: Option<Result<bool>>,
    ) -> (bool, Option<Error>) {
        let Some(wire) = &self.wire else { return (false, None) };
        let (mut removed, mut failure) = (former.was_here, None);
        let asked = there.is_some();
        let mut take = |outcome: Result<bool>| match outcome {
            Ok(was_there) => removed |= was_there,
            Err(error) => failure = Some(error),
        };
        there.map(&mut take);
        for slot in wire.slots.iter().filter(|slot| !asked || !slot.is_among_nodes()) {
            take(slot.remove(encoded).await);
        }
        self.note_base(wire, encoded, former.base);
        (removed, failure)
    }

    /// Takes the copy out of memory, before the entry is removed elsewhere.
    pub(crate) fn former(&self, encoded: &EncodedKey) -> Former {
        let Some(wire) = &self.wire else { return Former { was_here: false, base: None } };
        let copy = wire.keys.decode(encoded.as_bytes()).ok().and_then(|key| self.discard_copy(&key));
        Former { was_here: copy.is_some(), base: self.base_of(wire, encoded, copy.flatten()) }
    }
}
