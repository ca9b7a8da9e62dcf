//! Loading many keys in one call.
//!
//! Round after round: what is there is taken, what others load is waited for,
//! and the rest is loaded in one call of the loader. In each round the tier that
//! nodes share is asked three times at most, whatever the number of keys: for
//! entries, for the right to load them, and to store them.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use larder_core::memory::MemoryStore;
use larder_core::terms::Freshness;
use larder_core::tier::Stamp;
use tracing::Instrument;

use crate::among::{NodeLease, Turn};
use crate::batch::Missing;
use crate::draft::Said;
use crate::engine::Engine;
use crate::flight::{Flight, Outcome};
use crate::load::{Ahead, Approach, Lead};
use crate::load_wait::Asks;
use crate::loaded::LoadsMany;
use crate::poll_watch::{PollWatch, watched};
use crate::read::Found;
use crate::reentrancy::{Running, Seat};
use crate::wait::Wait;
use crate::watch::Watch;

/// What became of the keys of one round.
struct Round<K, V> {
    leads: Vec<(K, Lead<K, V>)>,
    joins: Vec<(K, Arc<Flight<V>>, Seat)>,
    /// Keys that are loaded without anybody waiting for them.
    alone: Vec<K>,
    /// Keys that another node loads.
    elsewhere: Vec<K>,
}

impl<K, V> Round<K, V> {
    const EMPTY: Self =
        Self { leads: Vec::new(), joins: Vec::new(), alone: Vec::new(), elsewhere: Vec::new() };

    /// Whether there is nothing to do but to wait for other nodes.
    fn is_idle(&self) -> bool {
        self.leads.is_empty() && self.joins.is_empty() && self.alone.is_empty()
    }

    /// The keys that waiters took over while this caller was not polled.
    fn give_way(&mut self) -> Vec<K> {
        let (taken_over, leads) = std::mem::take(&mut self.leads)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, lead)| lead.leader.flight.is_abandoned());
        self.leads = leads;
        taken_over.into_iter().map(|(key, _)| key).collect()
    }

    fn file(&mut self, key: K, approach: Approach<K, V>, values: &mut HashMap<K, V>)
    where
        K: Hash + Eq,
    {
        match approach {
            Approach::Have(Some(value)) => drop(values.insert(key, value)),
            Approach::Have(None) | Approach::Alone => self.alone.push(key),
            Approach::Lead(lead) => self.leads.push((key, lead)),
            Approach::Join(flight, seat, key) => self.joins.push((key, flight, seat)),
        }
    }
}

/// A key whose leader looks once more.
struct Look<K, V> {
    key: K,
    ahead: Ahead<K, V>,
    found: Option<Found<V>>,
    lease: NodeLease,
}

impl<K, V> Look<K, V> {
    fn is_missing(&self) -> bool {
        self.found.as_ref().is_none_or(|found| found.freshness != Freshness::Fresh)
    }
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
    /// This caller loads before it waits for others, here or on other nodes, so
    /// batches that overlap never wait for one another. Where another's load
    /// ends without a value the loader is called again, with what is left.
    ///
    /// # Errors
    /// That of the loader, shared with all who wait for one of its keys.
    pub async fn try_get_many_with<W: Wait, E, F, Fut>(
        self: &Arc<Self>,
        keys: Vec<K>,
        loader: F,
    ) -> Result<Vec<Option<V>>, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output: LoadsMany<K, V, E>>,
    {
        let watch = self.watch::<W>();
        watched(watch.clone(), Box::pin(self.find_or_load_many::<W, E, F, Fut>(keys, watch, loader))).await
    }

    async fn find_or_load_many<W: Wait, E, F, Fut>(
        self: &Arc<Self>,
        keys: Vec<K>,
        watch: Option<Arc<PollWatch>>,
        mut loader: F,
    ) -> Result<Vec<Option<V>>, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output: LoadsMany<K, V, E>>,
    {
        let mut values: HashMap<K, V> = HashMap::with_capacity(keys.len());
        let mut left: Vec<K> = self.look_up_many::<W>(&keys, &mut values).await;
        let patience = self.patience_with_nodes(false);
        let mut asked = HashSet::new();
        while !left.is_empty() {
            // Before the look at the leases: their end is heard from here on.
            let until = patience.filter(|until| Instant::now() < *until);
            let done = until.and_then(|until| Some((self.nodes.as_ref()?.changed.listen(), until)));
            let mut round = self.round::<W>((left, &watch), done.is_some(), &mut values).await;
            let taken_over = round.give_way();
            if let Some((done, until)) = done.filter(|_| round.is_idle() && !round.elsewhere.is_empty()) {
                self.until_done::<W>(done, until).await;
            }
            asked.extend(round.leads.iter().map(|(key, _)| key.clone()).chain(round.alone.iter().cloned()));
            self.load_round::<W, E, _, _>(round.leads, round.alone, &mut values, &mut loader).await?;
            left = self.wait_round::<W, E>(round.joins, &mut values).await?;
            left.extend(round.elsewhere.into_iter().chain(taken_over));
            // A key that the loader has no answer for is not asked for twice.
            left.retain(|key| !asked.contains(key));
        }
        Ok(keys.iter().map(|key| values.get(key).cloned()).collect())
    }

    /// Takes what is there; the keys that are left, each once.
    async fn look_up_many<W: Wait>(self: &Arc<Self>, keys: &[K], values: &mut HashMap<K, V>) -> Vec<K> {
        let found: Vec<Option<V>> = keys.iter().map(|key| self.hit(key)).collect();
        let missing = self.missing(keys, &found);
        let beyond = self.seek_fresh::<W>(missing).await;
        let found = found.into_iter().enumerate().filter_map(|(at, value)| Some((at, value?)));
        for (at, value) in found.chain(beyond) {
            values.insert(keys[at].clone(), value);
        }
        let mut seen = HashSet::new();
        let left = keys.iter().filter(|key| !values.contains_key(*key) && seen.insert(*key));
        left.cloned().collect()
    }

    /// Finds for each key a value, a flight to wait for, or the lead; with
    /// `leases`, only where no other node loads it.
    async fn round<W: Wait>(
        self: &Arc<Self>,
        (keys, watch): (Vec<K>, &Option<Arc<PollWatch>>),
        leases: bool,
        values: &mut HashMap<K, V>,
    ) -> Round<K, V> {
        let (mut round, mut looks) = (Round::EMPTY, Vec::new());
        for key in keys {
            match self.enter::<W>(key.clone(), Asks::VALUE, watch.clone()).await.lead() {
                Ok(ahead) => looks.push(self.look(key, ahead)),
                Err(other) => round.file(key, other, values),
            }
        }
        self.look_beyond_many::<W>(&mut looks, Look::is_missing).await;
        if leases {
            looks = self.take_turns::<W>(looks, &mut round).await;
        }
        for Look { key, ahead, found, lease } in looks {
            let approach = self.after_look(ahead, found, lease, false);
            round.file(key, approach, values);
        }
        round
    }

    /// Until it was looked for, nothing is stored where others may have been.
    fn look(&self, key: K, Ahead { leader, encoded }: Ahead<K, V>) -> Look<K, V> {
        let encoded = encoded.map(|encoded| match &self.nodes {
            Some(_) => encoded.based_on(Stamp::NONE),
            None => self.based_on_now(encoded),
        });
        Look { key, ahead: Ahead { leader, encoded }, found: None, lease: NodeLease::NONE }
    }

    /// Looks beyond memory for some of what leaders look for.
    async fn look_beyond_many<W: Wait>(
        self: &Arc<Self>,
        looks: &mut [Look<K, V>],
        which: impl Fn(&Look<K, V>) -> bool,
    ) {
        if self.slots().is_empty() {
            return;
        }
        let missing = looks.iter().enumerate().filter(|(_, look)| which(look)).filter_map(|(at, look)| {
            Some(Missing { at, encoded: look.ahead.encoded.clone()?, hash: look.ahead.leader.hash() })
        });
        let missing = missing.collect();
        for sought in self.seek_many::<W>(missing, self.checks).await {
            let look = &mut looks[sought.at];
            look.ahead.encoded = Some(sought.encoded);
            look.found = sought.found;
        }
    }

    /// Takes the leases of what is missing; those that other nodes have are left
    /// to these.
    async fn take_turns<W: Wait>(
        self: &Arc<Self>,
        looks: Vec<Look<K, V>>,
        round: &mut Round<K, V>,
    ) -> Vec<Look<K, V>> {
        let wanted = looks.iter().filter(|look| look.is_missing());
        let wanted: Vec<_> = wanted.filter_map(|look| look.ahead.encoded.clone()).collect();
        if wanted.is_empty() {
            return looks;
        }
        let mut turns = self.turns::<W>(wanted).await.into_iter();
        let (mut kept, mut came) = (Vec::with_capacity(looks.len()), HashSet::new());
        for mut look in looks {
            let wants = look.is_missing() && look.ahead.encoded.is_some();
            match if wants { turns.next() } else { None } {
                Some(Turn::Look) => {
                    round.elsewhere.push(look.key);
                    continue;
                }
                Some(Turn::LookAndLoad(lease)) => {
                    look.lease = lease;
                    // What was there before is no news.
                    if look.found.is_none() {
                        came.insert(look.key.clone());
                    }
                }
                Some(Turn::Load(lease)) => look.lease = lease,
                None => {}
            }
            kept.push(look);
        }
        if !came.is_empty() {
            self.look_beyond_many::<W>(&mut kept, |look| came.contains(&look.key)).await;
        }
        kept
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
        let flights: Vec<u64> = leads.iter().map(|(_, lead)| lead.leader.flight.id()).collect();
        let watch = Watch::start(self);
        let loaded = Running::call(flights, async { loader(asked).await }.instrument(watch.span())).await;
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
        let mut loaded = Vec::with_capacity(leads.len());
        for (key, lead) in leads {
            // A flight without an answer is abandoned: who waits for it leads next.
            let Some(value) = values.get(&key).cloned() else { continue };
            let options = options.remove(&key).unwrap_or_default();
            loaded.push((lead, Said { value: Some(value), load_cost: Some(cost), options }));
        }
        Box::pin(self.publish_many::<W>(loaded)).await;
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
            match self.join::<W>(&flight, self.gates.hash(&key)).await {
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
