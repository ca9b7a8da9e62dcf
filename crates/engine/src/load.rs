//! Loading with a borrowed loader: one flight a key, whoever asks.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::events::Writer;
use larder_core::key::EncodedKey;
use larder_core::memory::MemoryStore;
use larder_core::terms::{EntryOptions, Freshness, Terms};
use tracing::Instrument;

use crate::among::{NodeLease, Turn};
use crate::draft::{Draft, Said};
use crate::engine::Engine;
use crate::flight::{Flight, Outcome, Purpose, Start};
use crate::gate::{Claim, Entrance, Leader, Ticket};
use crate::load_wait::Asks;
use crate::loaded::Loads;
use crate::poll_watch::{PollWatch, watched};
use crate::read::Found;
use crate::reentrancy::Seat;
use crate::shield;
use crate::wait::Wait;
use crate::watch::Watch;

/// What a caller with a missing key came to.
pub(crate) enum Approach<K, V, L = Lead<K, V>> {
    /// It leads a flight.
    Lead(L),
    /// A value is there; `None` says that there is none to be had.
    Have(Option<V>),
    /// It may wait for this flight.
    Join(Arc<Flight<V>>, Seat, K),
    /// It may not wait, or there is nothing to store into: it loads alone.
    Alone,
}

impl<K, V, L> Approach<K, V, L> {
    /// The lead, or what came of it without one, whatever leads there.
    pub(crate) fn lead<M>(self) -> Result<L, Approach<K, V, M>> {
        Err(match self {
            Self::Lead(lead) => return Ok(lead),
            Self::Have(have) => Approach::Have(have),
            Self::Join(flight, seat, key) => Approach::Join(flight, seat, key),
            Self::Alone => Approach::Alone,
        })
    }
}

/// A flight whose leader has not looked once more yet.
pub(crate) struct Ahead<K, V> {
    pub(crate) leader: Leader<K, V>,
    pub(crate) encoded: Option<EncodedKey>,
}

/// A flight that is about to take off.
pub(crate) struct Lead<K, V> {
    pub(crate) leader: Leader<K, V>,
    pub(crate) encoded: Option<EncodedKey>,
    /// Taken before anything was loaded: later invalidations mean what is loaded.
    pub(crate) stamp: u64,
    /// What is left of the entry, past its deadline.
    pub(crate) stale: Option<Stale<V>>,
}

impl<K, V> Lead<K, V> {
    /// The key, where a waiter took it over before its loader began.
    ///
    /// # Errors
    /// The lead, where it still holds.
    #[expect(clippy::result_large_err, reason = "the lead is handed back by value, once a load")]
    pub(crate) fn give_way(self) -> Result<K, Self> {
        let Self { leader, encoded, stamp, stale } = self;
        leader.give_way().map_err(|leader| Self { leader, encoded, stamp, stale })
    }
}

/// An entry past its deadline and within its stale window.
pub(crate) struct Stale<V> {
    pub(crate) value: V,
    /// From when on it may not even serve as stale.
    pub(crate) until: Time,
    /// What it is stored with again, should it still hold.
    pub(crate) options: EntryOptions,
}

impl<V> Stale<V> {
    pub(crate) fn new(value: V, terms: &Terms) -> Self {
        let mut options = EntryOptions::new().tags(terms.tags.iter().cloned());
        options.validator = terms.validator.clone();
        options.ttl = Some(terms.ttl.unwrap_or(Duration::MAX));
        options.stale = Some(terms.stale);
        Self { value, until: terms.stale_until(), options }
    }
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// The value of `key`; where it is missing, from `loader`, which its caller
    /// runs while the others wait and share the outcome.
    ///
    /// When the leader is cancelled or panics, fails with an error of another type,
    /// or is a task's future that is no longer polled, one of those who wait leads
    /// next, with its own loader.
    pub async fn try_get_with<W: Wait, E, F, Fut>(self: &Arc<Self>, key: K, loader: F) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output: Loads<V, E>>,
    {
        let watch = self.watch::<W>();
        // On the heap: a loader that loads other keys has this in its frame.
        watched(watch.clone(), Box::pin(self.find_or_load::<W, E, F, Fut>(key, watch, loader))).await
    }

    async fn find_or_load<W: Wait, E, F, Fut>(
        self: &Arc<Self>,
        mut key: K,
        watch: Option<Arc<PollWatch>>,
        loader: F,
    ) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output: Loads<V, E>>,
    {
        loop {
            let hash = self.gates.hash(&key);
            // That there was no value the last time is no answer for a loader that has one.
            match Box::pin(self.approach::<W>(key, Asks::VALUE, watch.clone())).await {
                Approach::Have(Some(value)) => return Ok(value),
                Approach::Have(None) | Approach::Alone => return self.alone(async { loader().await }).await,
                Approach::Lead(lead) => match lead.give_way() {
                    Ok(key_back) => key = key_back,
                    Err(lead) => return self.lead::<W, _, _>(lead, async { loader().await }).await,
                },
                Approach::Join(flight, _seat, key_back) => match self.join::<W>(&flight, hash).await {
                    Outcome::Value(value) => return Ok(value),
                    Outcome::Failed(error) => match error.downcast() {
                        Ok(error) => return Err(error),
                        Err(_) => key = key_back,
                    },
                    _ => key = key_back,
                },
            }
        }
    }

    /// As [`try_get_with`](Self::try_get_with), for a loader that cannot fail.
    pub async fn get_with<W: Wait, F, Fut>(self: &Arc<Self>, key: K, loader: F) -> V
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        let loader = || {
            let value = loader();
            async { Ok::<V, Infallible>(value.await) }
        };
        match self.try_get_with::<W, Infallible, _, _>(key, loader).await {
            Ok(value) => value,
            Err(never) => match *never {},
        }
    }

    /// One turn of a caller: finds the value, a flight to wait for, or the lead.
    pub(crate) async fn approach<W: Wait>(
        self: &Arc<Self>,
        key: K,
        asks: Asks,
        watch: Option<Arc<PollWatch>>,
    ) -> Approach<K, V> {
        match self.enter::<W>(key, asks, watch).await.lead() {
            Ok(ahead) => self.look_again::<W>(ahead, asks.absence).await,
            Err(other) => other,
        }
    }

    /// As [`approach`](Self::approach), without looking beyond memory.
    pub(crate) async fn enter<W: Wait>(
        self: &Arc<Self>,
        mut key: K,
        asks: Asks,
        watch: Option<Arc<PollWatch>>,
    ) -> Approach<K, V, Ahead<K, V>> {
        if self.is_closed() {
            return Approach::Alone;
        }
        let hash = self.gates.hash(&key);
        let Ok(encoded) = self.encode_key(&key) else { return Approach::Alone };
        loop {
            if let Some(have) = self.have(&key, asks.absence) {
                return Approach::Have(have);
            }
            // Taken first: an invalidation from here on means what is loaded.
            let stamp = self.marks.stamp();
            match self.gates.enter(hash, key, Start { purpose: asks.purpose, watch: watch.clone(), stamp }) {
                Entrance::Wait(..) if shield::is_up() => return Approach::Alone,
                Entrance::Wait(key_back, hold) => {
                    key = key_back;
                    hold.over().await;
                }
                // What began before an invalidation is no answer for who comes after it.
                Entrance::Join(key_back, flight) if flight.stamp() < stamp => {
                    self.gates.forget(hash, &flight);
                    key = key_back;
                }
                Entrance::Join(key_back, flight) if self.end_if_overdue(&flight, hash, asks.purpose) => {
                    key = key_back;
                }
                Entrance::Join(key, flight) => {
                    return match flight.seat::<W>() {
                        Some(seat) => Approach::Join(flight, seat, key),
                        None => Approach::Alone,
                    };
                }
                Entrance::Lead(leader) => return self.look_near(Ahead { leader, encoded }, asks.absence),
            }
        }
    }

    /// What memory answers, where that will do.
    fn have(&self, key: &K, absence: bool) -> Option<Option<V>> {
        let record = self.recall(key)?;
        if record.value.is_none() && !absence {
            return None;
        }
        self.memory_hits.increment();
        Some(record.value)
    }

    /// The outcome of the flight of another call, for a caller of `get_with`.
    pub(crate) async fn join<W: Wait>(&self, flight: &Arc<Flight<V>>, hash: u64) -> Outcome<V> {
        let outcome = self.outcome::<W>(flight, hash, Purpose::Borrowed).await;
        if !matches!(outcome, Outcome::Abandoned) {
            self.counters.joins.increment();
        }
        outcome
    }

    /// A leader looks once more: the entry may have come between its miss and
    /// its lead.
    fn look_near(&self, ahead: Ahead<K, V>, absence: bool) -> Approach<K, V, Ahead<K, V>> {
        match ahead.leader.key().and_then(|key| self.have(key, absence)) {
            Some(have) => {
                ahead.leader.end(have.clone().map_or(Outcome::Absent, Outcome::Value));
                Approach::Have(have)
            }
            None => Approach::Lead(ahead),
        }
    }

    /// A leader looks beyond memory.
    async fn look_again<W: Wait>(
        self: &Arc<Self>,
        Ahead { leader, encoded }: Ahead<K, V>,
        absence: bool,
    ) -> Approach<K, V> {
        let Some(key) = encoded else {
            return self.after_look(Ahead { leader, encoded: None }, None, NodeLease::NONE, absence);
        };
        // On the heap: see `store`.
        let looked = Box::pin(self.look_beyond::<W>(key, leader.hash()));
        let (based, lease, found) = looked.await;
        self.after_look(Ahead { leader, encoded: Some(based) }, found, lease, absence)
    }

    /// What a leader came to with what was found beyond memory.
    pub(crate) fn after_look(
        &self,
        Ahead { leader, encoded }: Ahead<K, V>,
        found: Option<Found<V>>,
        lease: NodeLease,
        absence: bool,
    ) -> Approach<K, V> {
        let mut stale = leader.key().and_then(|key| self.stale_in_memory(key));
        match found.map(Found::into_parts) {
            Some((Freshness::Fresh, Some(value), _)) => {
                leader.end(Outcome::Value(value.clone()));
                return Approach::Have(Some(value));
            }
            Some((Freshness::Fresh, None, _)) if absence => {
                leader.end(Outcome::Absent);
                return Approach::Have(None);
            }
            Some((Freshness::Stale, Some(value), terms)) => stale = Some(Stale::new(value, &terms)),
            _ => {}
        }
        if let Some(stale) = &stale {
            leader.flight.set_stale(stale.value.clone(), stale.until);
        }
        self.counters.misses.increment();
        let stamp = leader.flight.stamp();
        leader.flight.hold(lease);
        Approach::Lead(Lead { leader, encoded, stamp, stale })
    }

    /// Looks beyond memory; where there is no value and other nodes may be
    /// loading it, waits for that or takes their lease. A tier that fails is as
    /// good as empty here, and was counted.
    async fn look_beyond<W: Wait>(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> (EncodedKey, NodeLease, Option<Found<V>>) {
        let (mut lease, mut until, mut may_wait) = (NodeLease::NONE, None, true);
        loop {
            let (based, found) = self.seek_based::<W>(key.clone(), hash).await;
            let found = found.ok().flatten();
            if !may_wait || found.as_ref().is_some_and(|found| found.freshness == Freshness::Fresh) {
                return (based, lease, found);
            }
            let Some(moment) = until.or_else(|| self.patience_with_nodes(found.is_some())) else {
                return (based, lease, found);
            };
            until = Some(moment);
            match self.turn::<W>(&key, moment).await {
                Turn::Load(taken) => return (based, taken, found),
                Turn::LookAndLoad(taken) => (lease, may_wait) = (taken, false),
                Turn::Look => {}
            }
        }
    }

    fn stale_in_memory(&self, key: &K) -> Option<Stale<V>> {
        let record = self.near(key)?;
        if self.freshness(&record) != Freshness::Stale {
            return None;
        }
        Some(Stale::new(record.value?, &record.terms.as_ref()?.current()))
    }

    /// Runs the loader of the flight that this caller leads.
    async fn lead<W: Wait, E, L>(
        self: &Arc<Self>,
        lead: Lead<K, V>,
        loader: impl Future<Output = L>,
    ) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        L: Loads<V, E>,
    {
        let flight = Arc::clone(&lead.leader.flight);
        let watch = Watch::start(&**self).of(&lead);
        match flight.run(loader.instrument(watch.span())).await.parts() {
            Ok((value, options)) => {
                let said = Said { value: Some(value.clone()), load_cost: Some(watch.succeeded()), options };
                // On the heap: a loader that loads other keys is deep enough without it.
                Box::pin(self.publish::<W>(lead, said)).await;
                Ok(value)
            }
            Err(error) => {
                let error = Arc::new(error);
                lead.leader.end(Outcome::Failed(Arc::clone(&error) as Arc<dyn Any + Send + Sync>));
                Err(error)
            }
        }
    }

    /// Runs a loader that nobody waits for, and stores nothing.
    async fn alone<E>(&self, loader: impl Future<Output: Loads<V, E>>) -> Result<V, Arc<E>> {
        let watch = Watch::start(self);
        let (value, _) = loader.instrument(watch.span()).await.parts().map_err(Arc::new)?;
        watch.succeeded();
        Ok(value)
    }

    /// Stores what was loaded unless its entry changed since the flight began,
    /// and ends the flight with it in either case.
    pub(crate) async fn publish<W: Wait>(self: &Arc<Self>, lead: Lead<K, V>, said: Said<V>) {
        let engine = Arc::clone(self);
        // On the heap: a loader that loads other keys has this in its frame.
        let section = Box::pin(async move {
            let Lead { mut leader, encoded, stamp, .. } = lead;
            let outcome = said.value.clone().map_or(Outcome::Absent, Outcome::Value);
            let encoded = encoded.map(|key| engine.still_based(key, &leader.flight));
            let stored = engine.settle_loaded(&mut leader, encoded, stamp, said).await;
            engine.land(leader, outcome, stored);
        });
        if self.drive::<W, _>(false, section).await.is_err() {
            // A runtime that shuts down drops the section, and the flight with it.
            self.counters.dropped.increment();
        }
    }

    /// Stores what was loaded; false where the entry changed since.
    async fn settle_loaded(
        &self,
        leader: &mut Leader<K, V>,
        encoded: Option<EncodedKey>,
        stamp: u64,
        said: Said<V>,
    ) -> bool {
        match self.draft_loaded((leader, encoded), stamp, said).await {
            Some(draft) => self.settle_draft(leader, draft).await,
            None => true,
        }
    }

    /// Stores what was loaded once its ticket can be had; false where the entry
    /// changed since.
    pub(crate) async fn settle_draft(&self, leader: &mut Leader<K, V>, draft: Draft<V>) -> bool {
        let Some(_ticket) = self.ticket(leader).await else { return false };
        self.store_loaded(leader, draft).await
    }

    /// Ends a flight with what it loaded, `stored` or not.
    pub(crate) fn land(&self, leader: Leader<K, V>, outcome: Outcome<V>, stored: bool) {
        if !stored {
            self.counters.superseded.increment();
        }
        leader.end(outcome);
    }

    /// What was loaded, ready to be stored; `None` where it is not to be.
    pub(crate) async fn draft_loaded(
        &self,
        (leader, encoded): (&Leader<K, V>, Option<EncodedKey>),
        stamp: u64,
        said: Said<V>,
    ) -> Option<Draft<V>> {
        let key = leader.key()?;
        if let Err(error) = said.options.check() {
            tracing::warn!(target: "larder", cache = self.life.name(), error = %error, "a loaded value was not stored");
            self.note_dropped(key, &error);
            return None;
        }
        if let Some(value) = &said.value {
            self.leave_if_large(value).await;
        }
        Some(self.draft((key, encoded), said).stamped(stamp))
    }

    /// Stores what was loaded, for who holds the ticket; false where another
    /// node changed the entry since.
    pub(crate) async fn store_loaded(&self, leader: &mut Leader<K, V>, draft: Draft<V>) -> bool {
        let Some(key) = leader.take_key() else { return false };
        self.pauses.end(leader.hash());
        // What no tier took was counted there; the caller has its value.
        match self.store(key, draft, Writer::Load).await {
            Ok(Some(_)) => self.counters.published.increment(),
            Ok(None) => return false,
            Err(_) => {}
        }
        true
    }

    /// The ticket, once it can be had; `None` where the entry changed since.
    async fn ticket(&self, leader: &mut Leader<K, V>) -> Option<Ticket<K, V>> {
        loop {
            match leader.claim() {
                // Closed while this waited: nothing is stored after `close`.
                Claim::Granted(ticket) => return Some(ticket).filter(|_| !self.is_closed()),
                Claim::Superseded => return None,
                Claim::Wait(_) if shield::is_up() => return None,
                Claim::Wait(hold) => hold.over().await,
            }
        }
    }
}
