//! Reading and loading many keys in one call.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use larder_core::Result;
use larder_core::key::{EncodedKey, Lookup};
use larder_core::memory::MemoryStore;
use tracing::Instrument;

use crate::draft::Said;
use crate::engine::Engine;
use crate::flight::{Flight, Outcome, Running, Seat};
use crate::load::{Approach, Lead, Wish};
use crate::loaded::LoadsMany;
use crate::read::Found;
use crate::wait::Wait;
use crate::watch::Watch;

/// A missing key: where in the request it stands, and how tiers see it.
struct Missing {
    at: usize,
    encoded: EncodedKey,
    hash: u64,
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// The values of `keys`, in their order. A tier that fails counts as having none.
    pub async fn get_many<W: Wait, Q>(self: &Arc<Self>, keys: &[Q]) -> Vec<Option<V>>
    where
        Q: Lookup<K> + Sync,
    {
        let mut values: Vec<Option<V>> = keys.iter().map(|key| self.hit(key)).collect();
        let missing = self.missing(keys, &values);
        let asked = values.iter().filter(|value| value.is_none()).count();
        for (at, value) in self.seek_many::<W>(missing).await {
            values[at] = Some(value);
        }
        let found = asked - values.iter().filter(|value| value.is_none()).count();
        self.counters.misses.add((asked - found) as u64);
        values
    }

    /// The keys to look for beyond memory.
    fn missing<Q: Lookup<K>>(&self, keys: &[Q], values: &[Option<V>]) -> Vec<Missing> {
        if self.slots().is_empty() || self.is_closed() {
            return Vec::new();
        }
        let empty = keys.iter().enumerate().filter(|(at, _)| values[*at].is_none());
        empty
            .filter_map(|(at, key)| {
                let encoded = self.encode_key(key).ok().flatten()?;
                Some(Missing { at, encoded, hash: self.gates.hash(key) })
            })
            .collect()
    }

    /// Reads keys from the tiers of bytes, all in one section.
    async fn seek_many<W: Wait>(self: &Arc<Self>, missing: Vec<Missing>) -> Vec<(usize, V)> {
        if missing.is_empty() {
            return Vec::new();
        }
        let engine = Arc::clone(self);
        let section = async move {
            if engine.stamps {
                return engine.read_one_by_one(missing).await;
            }
            engine.read_together(missing).await
        };
        self.drive::<W, _>(true, section).await.unwrap_or_default()
    }

    /// Where copies in memory are checked, each key has its own stamp.
    async fn read_one_by_one(self: &Arc<Self>, missing: Vec<Missing>) -> Vec<(usize, V)> {
        let mut found = Vec::new();
        for Missing { at, encoded, hash } in missing {
            let value = self.read(&encoded, hash).await.ok().flatten().and_then(Found::into_fresh);
            found.extend(value.map(|value| (at, value)));
        }
        found
    }

    /// Asks each tier once, for what the nearer ones did not have.
    async fn read_together(self: &Arc<Self>, missing: Vec<Missing>) -> Vec<(usize, V)> {
        let Some(wire) = &self.wire else { return Vec::new() };
        self.settle_due().await;
        let mut left = Vec::new();
        for key in missing {
            let doubt = self.doubt_of(wire, &key.encoded).await;
            left.push(((self.memory_weight_max > 0).then(|| self.gates.observe(key.hash)), key, doubt));
        }
        let stamp = self.nodes.as_ref().and_then(|nodes| nodes.mark().of(0));
        left.iter().for_each(|(_, key, _)| self.note_copy(&key.encoded));
        let (mut values, mut away) = (Vec::new(), false);
        for slot in &wire.slots {
            let (asked, mut next): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|(_, _, doubt)| self.dares(doubt, slot));
            let keys: Vec<EncodedKey> = asked.iter().map(|(_, key, _)| key.encoded.clone()).collect();
            let frames = slot.get_many(&keys).await;
            for ((observation, key, mut doubt), frame) in asked.into_iter().zip(frames) {
                let named = (&key.encoded, key.hash);
                let in_doubt = match &frame {
                    Ok(Some(bytes)) => self.is_doubted((wire, slot), named, bytes, &doubt).await,
                    _ => None,
                };
                let found = match frame {
                    Ok(Some(_)) if in_doubt.is_none() => None,
                    Ok(Some(bytes)) => {
                        let promotion = (&observation, stamp.filter(|_| in_doubt == Some(false)));
                        self.accept((wire, slot), bytes, named, &promotion).await
                    }
                    Ok(None) => None,
                    // A tier that fails counts as having none, and was counted.
                    Err(_) => {
                        away = true;
                        doubt.away_if(slot.is_among_nodes());
                        None
                    }
                };
                let found =
                    found.map(|found| if in_doubt == Some(true) { self.doubted(found) } else { found });
                match found {
                    Some(found) => values.extend(found.into_fresh().map(|value| (key.at, value))),
                    None => next.push((observation, key, doubt)),
                }
            }
            left = next;
        }
        let unconfirmed = left.iter().filter_map(|(_, key, _)| {
            let found = self.unconfirmed(wire, &key.encoded, away)?;
            Some((key.at, found.into_fresh()?))
        });
        values.extend(unconfirmed);
        values
    }
}

/// Batches of two nodes that overlap would wait for one another.
const BATCHED: Wish = Wish { absence: false, among_nodes: false };

/// What became of the keys of one round.
struct Round<K, V> {
    leads: Vec<(K, Lead<K, V>)>,
    joins: Vec<(K, Arc<Flight<V>>, Seat)>,
    /// Keys that are loaded without anybody waiting for them.
    alone: Vec<K>,
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// The values of `keys`, in their order; the missing ones from `loader`,
    /// which sees those that nobody else is loading, in their order, and may
    /// answer for some.
    ///
    /// This caller loads before it waits for others, so batches that overlap
    /// never wait for one another. Where another's load ends without a value
    /// the loader is called again, with what is left.
    ///
    /// # Errors
    /// That of the loader, shared with all who wait for one of its keys.
    pub async fn try_get_many_with<W: Wait, E, F, Fut>(
        self: &Arc<Self>,
        keys: Vec<K>,
        mut loader: F,
    ) -> Result<Vec<Option<V>>, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output: LoadsMany<K, V, E>>,
    {
        let mut values: HashMap<K, V> = HashMap::with_capacity(keys.len());
        let mut left: Vec<K> = self.look_up_many::<W>(&keys, &mut values).await;
        let mut asked = std::collections::HashSet::new();
        while !left.is_empty() {
            let round = self.round::<W>(left, &mut values).await;
            asked.extend(round.leads.iter().map(|(key, _)| key.clone()).chain(round.alone.iter().cloned()));
            self.load_round::<W, E, _, _>(round.leads, round.alone, &mut values, &mut loader).await?;
            left = self.wait_round::<W, E>(round.joins, &mut values).await?;
            // A key that the loader has no answer for is not asked for twice.
            left.retain(|key| !asked.contains(key));
        }
        Ok(keys.iter().map(|key| values.get(key).cloned()).collect())
    }

    /// Takes what is there; the keys that are left, each once.
    async fn look_up_many<W: Wait>(self: &Arc<Self>, keys: &[K], values: &mut HashMap<K, V>) -> Vec<K> {
        let found: Vec<Option<V>> = keys.iter().map(|key| self.hit(key)).collect();
        let missing = self.missing(keys, &found);
        let beyond = self.seek_many::<W>(missing).await;
        let found = found.into_iter().enumerate().filter_map(|(at, value)| Some((at, value?)));
        for (at, value) in found.chain(beyond) {
            values.insert(keys[at].clone(), value);
        }
        let mut seen = std::collections::HashSet::new();
        let left = keys.iter().filter(|key| !values.contains_key(*key) && seen.insert(*key));
        left.cloned().collect()
    }

    /// Finds for each key a value, a flight to wait for, or the lead.
    async fn round<W: Wait>(self: &Arc<Self>, keys: Vec<K>, values: &mut HashMap<K, V>) -> Round<K, V> {
        let mut round = Round { leads: Vec::new(), joins: Vec::new(), alone: Vec::new() };
        for key in keys {
            match self.approach::<W>(key.clone(), BATCHED).await {
                Approach::Have(Some(value)) => drop(values.insert(key, value)),
                Approach::Have(None) | Approach::Alone => round.alone.push(key),
                Approach::Lead(lead) => round.leads.push((key, lead)),
                Approach::Join(flight, seat, key) => round.joins.push((key, flight, seat)),
            }
        }
        round
    }

    /// Loads the keys of this caller in one call of its loader.
    async fn load_round<W: Wait, E, F, Fut>(
        self: &Arc<Self>,
        leads: Vec<(K, Lead<K, V>)>,
        alone: Vec<K>,
        values: &mut HashMap<K, V>,
        loader: &mut F,
    ) -> Result<(), Arc<E>>
    where
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output: LoadsMany<K, V, E>>,
    {
        let asked: Vec<K> = leads.iter().map(|(key, _)| key).chain(&alone).cloned().collect();
        if asked.is_empty() {
            return Ok(());
        }
        let flights = leads.iter().map(|(_, lead)| lead.leader.flight.id()).collect();
        let watch = Watch::start(self);
        let loaded = Running::within(flights, async { loader(asked).await }.instrument(watch.span())).await;
        let mut options = match loaded.sort_into(values) {
            Ok(options) => options,
            Err(error) => {
                let error = Arc::new(error);
                for (_, lead) in leads {
                    lead.leader.end(Outcome::Failed(Arc::clone(&error) as Arc<dyn Any + Send + Sync>));
                }
                return Err(error);
            }
        };
        let cost = watch.succeeded();
        for (key, lead) in leads {
            // A flight without an answer is abandoned: who waits for it leads next.
            let Some(value) = values.get(&key).cloned() else { continue };
            let options = options.remove(&key).unwrap_or_default();
            let said = Said { value: Some(value), load_cost: Some(cost), options };
            Box::pin(self.publish::<W>(lead, said)).await;
        }
        Ok(())
    }

    /// Waits for the loads of others; the keys that they left without a value.
    async fn wait_round<W: Wait, E>(
        &self,
        joins: Vec<(K, Arc<Flight<V>>, Seat)>,
        values: &mut HashMap<K, V>,
    ) -> Result<Vec<K>, Arc<E>>
    where
        E: Send + Sync + 'static,
    {
        let mut left = Vec::new();
        for (key, flight, seat) in joins {
            match self.outcome::<W>(&flight).await {
                Outcome::Value(value) => drop(values.insert(key, value)),
                Outcome::Failed(error) => match error.downcast() {
                    Ok(error) => return Err(error),
                    Err(_) => left.push(key),
                },
                _ => left.push(key),
            }
            drop(seat);
        }
        Ok(left)
    }
}
