//! Loading with a borrowed loader: one flight a key, whoever asks.

pub(crate) mod backoff;
pub(crate) mod detached;
pub(crate) mod flight_wait;
pub(crate) mod load_span;
pub(crate) mod outcome;
pub(crate) mod poll_watch;

use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, EntryOptions, Freshness};
use larder_core::erased::{AnyError, Key, Value};
use larder_core::events::Writer;
use larder_core::key::EncodedKey;
use tracing::Instrument;

use crate::coherence::load_lease::{LeaseGuard, LeaseOutcome};
use crate::engine::Engine;
use crate::key_lock::flight::{Flight, Outcome, Purpose, Start};
use crate::key_lock::{Admission, FlightLeader, TryLock, WriteGuard};
use crate::load::flight_wait::Asks;
use crate::write::prepared_entry::{NewValue, PreparedEntry};

use crate::key_lock::reentrancy;
use crate::key_lock::wait_graph::{Entered, WaitEdge};
use crate::load::load_span::LoadSpan;
use crate::load::poll_watch::PollWatch;
use crate::read::Found;
use larder_exec::runtime::Runtime;

/// What a caller with a missing key came to.
pub(crate) enum LoadRole<L = Leader> {
    /// It leads a flight.
    Leader(L),
    /// A value is there; `None` says that there is none to be had.
    Have(Option<Value>),
    /// It may wait for this flight.
    Join(Arc<Flight>, WaitEdge, Key),
    /// It may not wait, or there is nothing to store into: it loads alone.
    Alone,
}

impl<L> LoadRole<L> {
    /// The lead, or what came of it without one, whatever leads there.
    pub(crate) fn lead<M>(self) -> Result<L, LoadRole<M>> {
        Err(match self {
            Self::Leader(lead) => return Ok(lead),
            Self::Have(have) => LoadRole::Have(have),
            Self::Join(flight, edge, key) => LoadRole::Join(flight, edge, key),
            Self::Alone => LoadRole::Alone,
        })
    }
}

/// A flight whose leader has not looked once more yet.
pub(crate) struct UncheckedLeader {
    pub(crate) leader: FlightLeader,
    pub(crate) encoded: Option<EncodedKey>,
}

/// A flight that is about to take off.
pub(crate) struct Leader {
    pub(crate) leader: FlightLeader,
    pub(crate) encoded: Option<EncodedKey>,
    /// Taken before anything was loaded: later invalidations mean what is loaded.
    pub(crate) stamp: u64,
    /// What is left of the entry, past its deadline.
    pub(crate) stale: Option<Stale>,
}

impl Leader {
    /// The key, where a waiter took it over before its loader began.
    ///
    /// # Errors
    /// The lead, where it still holds.
    #[expect(clippy::result_large_err, reason = "the lead is handed back by value, once a load")]
    pub(crate) fn give_way(self) -> Result<Key, Self> {
        let Self { leader, encoded, stamp, stale } = self;
        leader.give_way().map_err(|leader| Self { leader, encoded, stamp, stale })
    }
}

/// An entry past its deadline and within its stale window.
pub(crate) struct Stale {
    pub(crate) value: Value,
    /// From when on it may not even serve as stale.
    pub(crate) until: Time,
    /// What it is stored with again, should it still hold.
    pub(crate) options: EntryOptions,
}

impl Stale {
    pub(crate) fn new(value: Value, terms: &EntryMeta) -> Self {
        let mut options = EntryOptions::new().tags(terms.tags.iter().cloned());
        options.validator = terms.validator.clone();
        options.ttl = Some(terms.ttl.unwrap_or(Duration::MAX));
        options.stale = Some(terms.stale);
        Self { value, until: terms.stale_until(), options }
    }
}

/// What a caller that missed in memory is to do.
pub enum Begun {
    /// Take this value: it was stored, or loaded by another call.
    Value(Value),
    /// The load of another call failed with this error.
    Failed(AnyError),
    /// Run the loader.
    Load(Load),
}

/// A loader that its caller is to run. Dropping it abandons the load: one of those who
/// wait for it loads next.
pub struct Load {
    engine: Arc<Engine>,
    /// `None` for a load that nobody waits for, and that stores nothing.
    lead: Option<Leader>,
    watch: LoadSpan,
}

impl Load {
    fn new(engine: &Arc<Engine>, lead: Option<Leader>) -> Self {
        let watch = LoadSpan::start(engine);
        let watch = match &lead {
            Some(lead) => watch.of(lead),
            None => watch,
        };
        Self { engine: Arc::clone(engine), lead, watch }
    }

    /// Runs the loader of a thread, known as running meanwhile.
    pub fn call<T>(&self, loader: impl FnOnce() -> T) -> T {
        let _within = self.enter();
        loader()
    }

    fn enter(&self) -> (Option<Entered>, tracing::span::EnteredSpan) {
        let flight = self.lead.as_ref().map(|lead| lead.leader.flight.id());
        (flight.map(|flight| Entered::call([flight])), self.watch.span().entered())
    }

    /// The loader of a task, known as running wherever it is polled.
    pub async fn run<F: Future>(&self, loader: F) -> F::Output {
        let loader = loader.instrument(self.watch.span());
        match &self.lead {
            Some(lead) => lead.leader.flight.run(loader).await,
            None => loader.await,
        }
    }

    /// Ends the load with an error, which those who wait get as well.
    pub fn fail(self, error: AnyError) {
        if let Some(lead) = self.lead {
            lead.leader.end(Outcome::Failed(error));
        }
    }

    /// Stores what was loaded, and hands it to those who wait.
    pub(crate) async fn store<W: Runtime>(self, value: Value, options: EntryOptions) {
        let load_cost = Some(self.watch.succeeded());
        if let Some(lead) = self.lead {
            let said = NewValue { value: Some(value), load_cost, options };
            // On the heap: a loader that loads other keys is deep enough without it.
            Box::pin(self.engine.publish::<W>(lead, said)).await;
        }
    }
}

impl Engine {
    /// What a caller that missed in memory is to do about `key`. Its loader fails with
    /// errors of the type `error`. Waits for the load of another call, if there is one.
    ///
    /// When a leader is cancelled or panics, fails with an error of another type,
    /// or is a task's future that is no longer polled, one of those who wait leads
    /// next, with its own loader.
    pub(crate) async fn begin_load<W: Runtime>(
        self: &Arc<Self>,
        mut key: Key,
        error: TypeId,
        watch: Option<Arc<PollWatch>>,
    ) -> Begun {
        loop {
            let hash = self.key_locks.hash(&key);
            // That there was no value the last time is no answer for a loader that has one.
            match Box::pin(self.take_role::<W>(key, Asks::VALUE, watch.clone())).await {
                LoadRole::Have(Some(value)) => return Begun::Value(value),
                LoadRole::Have(None) | LoadRole::Alone => return Begun::Load(Load::new(self, None)),
                LoadRole::Leader(lead) => match lead.give_way() {
                    Ok(key_back) => key = key_back,
                    Err(lead) => return Begun::Load(Load::new(self, Some(lead))),
                },
                LoadRole::Join(flight, _seat, key_back) => match self.join::<W>(&flight, hash).await {
                    Outcome::Value(value) => return Begun::Value(value),
                    Outcome::Failed(failed) if failed.is(error) => return Begun::Failed(failed),
                    _ => key = key_back,
                },
            }
        }
    }

    /// One turn of a caller: finds the value, a flight to wait for, or the lead.
    pub(crate) async fn take_role<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        asks: Asks,
        watch: Option<Arc<PollWatch>>,
    ) -> LoadRole {
        match self.enter::<W>(key, asks, watch).await.lead() {
            Ok(ahead) => self.look_again::<W>(ahead, asks.absence).await,
            Err(other) => other,
        }
    }

    /// As [`take_role`](Self::take_role), without looking beyond memory.
    pub(crate) async fn enter<W: Runtime>(
        self: &Arc<Self>,
        mut key: Key,
        asks: Asks,
        watch: Option<Arc<PollWatch>>,
    ) -> LoadRole<UncheckedLeader> {
        if self.is_closed() {
            return LoadRole::Alone;
        }
        let hash = self.key_locks.hash(&key);
        let Ok(encoded) = self.encode_key(&key) else { return LoadRole::Alone };
        loop {
            if let Some(have) = self.have(&key, asks.absence) {
                return LoadRole::Have(have);
            }
            // Taken first: an invalidation from here on means what is loaded.
            let stamp = self.invalidations.stamp();
            match self.key_locks.enter(
                hash,
                key,
                Start { purpose: asks.purpose, watch: watch.clone(), stamp },
            ) {
                Admission::Locked(..) if reentrancy::is_up() => return LoadRole::Alone,
                Admission::Locked(key_back, hold) => {
                    key = key_back;
                    hold.over().await;
                }
                // What began before an invalidation is no answer for who comes after it.
                // Nor is an abandoned flight, which its leader is about to take off the lock.
                Admission::Join(key_back, flight) if flight.stamp() < stamp || flight.is_abandoned() => {
                    self.key_locks.forget(hash, &flight);
                    key = key_back;
                }
                Admission::Join(key_back, flight) if self.end_if_overdue(&flight, hash, asks.purpose) => {
                    key = key_back;
                }
                Admission::Join(key, flight) => {
                    return match flight.edge::<W>() {
                        Some(edge) => LoadRole::Join(flight, edge, key),
                        None => LoadRole::Alone,
                    };
                }
                Admission::Leader(leader) => {
                    return self.look_near(UncheckedLeader { leader, encoded }, asks.absence);
                }
            }
        }
    }

    /// What memory answers, where that will do.
    fn have(&self, key: &Key, absence: bool) -> Option<Option<Value>> {
        let record = self.recall(key)?;
        if record.value.is_none() && !absence {
            return None;
        }
        self.memory_hits.increment();
        Some(record.value)
    }

    /// The outcome of the flight of another call, for a caller of `get_with`.
    pub(crate) async fn join<W: Runtime>(&self, flight: &Arc<Flight>, hash: u64) -> Outcome {
        let outcome = self.outcome::<W>(flight, hash, Purpose::Borrowed).await;
        if !matches!(outcome, Outcome::Abandoned) {
            self.counters.joins.increment();
        }
        outcome
    }

    /// A leader looks once more: the entry may have come between its miss and
    /// its lead.
    fn look_near(&self, ahead: UncheckedLeader, absence: bool) -> LoadRole<UncheckedLeader> {
        match ahead.leader.key().and_then(|key| self.have(key, absence)) {
            Some(have) => {
                ahead.leader.end(have.clone().map_or(Outcome::Absent, Outcome::Value));
                LoadRole::Have(have)
            }
            None => LoadRole::Leader(ahead),
        }
    }

    /// A leader looks beyond memory.
    async fn look_again<W: Runtime>(
        self: &Arc<Self>,
        UncheckedLeader { leader, encoded }: UncheckedLeader,
        absence: bool,
    ) -> LoadRole {
        let Some(key) = encoded else {
            return self.after_look(
                UncheckedLeader { leader, encoded: None },
                None,
                LeaseGuard::NONE,
                absence,
            );
        };
        // On the heap: see `store`.
        let looked = Box::pin(self.look_beyond::<W>(key, leader.hash()));
        let (based, lease, found) = looked.await;
        self.after_look(UncheckedLeader { leader, encoded: Some(based) }, found, lease, absence)
    }

    /// What a leader came to with what was found beyond memory.
    pub(crate) fn after_look(
        &self,
        UncheckedLeader { leader, encoded }: UncheckedLeader,
        found: Option<Found>,
        lease: LeaseGuard,
        absence: bool,
    ) -> LoadRole {
        let mut stale = leader.key().and_then(|key| self.stale_in_memory(key));
        match found.map(Found::into_parts) {
            Some((Freshness::Fresh, Some(value), _)) => {
                leader.end(Outcome::Value(value.clone()));
                return LoadRole::Have(Some(value));
            }
            Some((Freshness::Fresh, None, _)) if absence => {
                leader.end(Outcome::Absent);
                return LoadRole::Have(None);
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
        LoadRole::Leader(Leader { leader, encoded, stamp, stale })
    }

    /// Looks beyond memory; where there is no value and other nodes may be
    /// loading it, waits for that or takes their lease. A tier that fails is as
    /// good as empty here, and was counted.
    async fn look_beyond<W: Runtime>(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> (EncodedKey, LeaseGuard, Option<Found>) {
        let (mut lease, mut until, mut may_wait) = (LeaseGuard::NONE, None, true);
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
                LeaseOutcome::Load(taken) => return (based, taken, found),
                LeaseOutcome::LookAndLoad(taken) => (lease, may_wait) = (taken, false),
                LeaseOutcome::Look => {}
            }
        }
    }

    fn stale_in_memory(&self, key: &Key) -> Option<Stale> {
        let record = self.near(key)?;
        if self.freshness(&record) != Freshness::Stale {
            return None;
        }
        Some(Stale::new(record.value?, &record.terms.as_ref()?.current()))
    }

    /// Stores what was loaded unless its entry changed since the flight began,
    /// and ends the flight with it in either case.
    pub(crate) async fn publish<W: Runtime>(self: &Arc<Self>, lead: Leader, said: NewValue) {
        let engine = Arc::clone(self);
        // On the heap: a loader that loads other keys has this in its frame.
        let section = Box::pin(async move {
            let Leader { mut leader, encoded, stamp, .. } = lead;
            let outcome = said.value.clone().map_or(Outcome::Absent, Outcome::Value);
            let encoded = encoded.map(|key| engine.still_based(key, &leader.flight));
            let stored = engine.store_loaded_value(&mut leader, encoded, stamp, said).await;
            engine.finish_load(leader, outcome, stored);
        });
        if self.drive::<W, _>(false, section).await.is_err() {
            // A runtime that shuts down drops the section, and the flight with it.
            self.counters.dropped.increment();
        }
    }

    /// Stores what was loaded; false where the entry changed since.
    async fn store_loaded_value(
        &self,
        leader: &mut FlightLeader,
        encoded: Option<EncodedKey>,
        stamp: u64,
        said: NewValue,
    ) -> bool {
        match self.prepare_loaded((leader, encoded), stamp, said).await {
            Some(prepared) => self.store_prepared(leader, prepared).await,
            None => true,
        }
    }

    /// Stores what was loaded once its guard can be had; false where the entry
    /// changed since.
    pub(crate) async fn store_prepared(&self, leader: &mut FlightLeader, prepared: PreparedEntry) -> bool {
        let Some(_guard) = self.guard(leader).await else { return false };
        self.store_loaded(leader, prepared).await
    }

    /// Ends a flight with what it loaded, `stored` or not.
    pub(crate) fn finish_load(&self, leader: FlightLeader, outcome: Outcome, stored: bool) {
        if !stored {
            self.counters.superseded.increment();
        }
        leader.end(outcome);
    }

    /// What was loaded, ready to be stored; `None` where it is not to be.
    pub(crate) async fn prepare_loaded(
        &self,
        (leader, encoded): (&FlightLeader, Option<EncodedKey>),
        stamp: u64,
        said: NewValue,
    ) -> Option<PreparedEntry> {
        let key = leader.key()?;
        if let Err(error) = said.options.check() {
            tracing::warn!(target: "larder", cache = self.lifecycle.name(), error = %error, "a loaded value was not stored");
            self.note_dropped(key, &error);
            return None;
        }
        if let Some(value) = &said.value {
            self.leave_if_large(value).await;
        }
        Some(self.prepare((key, encoded), said).stamped(stamp))
    }

    /// Stores what was loaded, for who holds the guard; false where another
    /// node changed the entry since.
    pub(crate) async fn store_loaded(&self, leader: &mut FlightLeader, prepared: PreparedEntry) -> bool {
        let Some(key) = leader.take_key() else { return false };
        self.backoffs.end(leader.hash());
        // What no tier took was counted there; the caller has its value.
        match self.store(key, prepared, Writer::Load).await {
            Ok(Some(_)) => self.counters.published.increment(),
            Ok(None) => return false,
            Err(_) => {}
        }
        true
    }

    /// The guard, once it can be had; `None` where the entry changed since.
    async fn guard(&self, leader: &mut FlightLeader) -> Option<WriteGuard> {
        loop {
            match leader.claim() {
                // Closed while this waited: nothing is stored after `close`.
                TryLock::Granted(guard) => return Some(guard).filter(|_| !self.is_closed()),
                TryLock::Superseded => return None,
                TryLock::Locked(_) if reentrancy::is_up() => return None,
                TryLock::Locked(hold) => hold.over().await,
            }
        }
    }
}
