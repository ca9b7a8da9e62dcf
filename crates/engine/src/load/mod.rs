//! Loading with a loader that the caller runs: one flight per key, shared by all callers.

pub(crate) mod at_once;
pub(crate) mod backoff;
pub(crate) mod detached;
pub(crate) mod flight_wait;
pub(crate) mod load_span;
pub(crate) mod outcome;
#[cfg_attr(not(feature = "async"), allow(unreachable_pub, reason = "exported for tasks alone"))]
pub(crate) mod poll_watch;
pub(crate) mod refresh;

use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, EntryOptions, Freshness};
use larder_core::erased::{AnyError, Key, Value};
use larder_core::events::Writer;
use larder_core::key::EncodedKey;
use larder_core::stats::HotCount;
use tracing::Instrument;

use crate::coherence::load_lease::{LeaseGuard, LeaseOutcome};
use crate::engine::Engine;
use crate::key_lock::flight::{Flight, Outcome, Purpose, Start};
use crate::key_lock::{Admission, FlightLeader, TryLock, WriteGuard};
use crate::load::flight_wait::Asks;
use crate::write::precondition::Precondition;
use crate::write::prepared_entry::{NewValue, PreparedEntry};

use crate::key_lock::reentrancy;
use crate::key_lock::wait_graph::{Entered, WaitEdge};
use crate::load::load_span::LoadSpan;
use crate::load::poll_watch::PollWatch;
use crate::load::refresh::Due;
use crate::read::Found;
use larder_exec::runtime::Runtime;

/// The role of a caller with a missing key.
pub(crate) enum LoadRole<L = Leader> {
    /// It leads a flight.
    Leader(L),
    /// There is a value already. `None`: it is known that there is none.
    Have(Option<Value>),
    /// A tier beyond memory has a value whose refresh is due. Only for the loader of a `load` call.
    Due(Box<Due>),
    /// It may wait for this flight.
    Join(Arc<Flight>, WaitEdge, Key),
    /// It may not wait, or nothing can be stored: it loads without a flight.
    Alone,
}

impl<L> LoadRole<L> {
    /// Returns the leader, or the other role for callers that expect another type of leader.
    pub(crate) fn lead<M>(self) -> Result<L, LoadRole<M>> {
        Err(match self {
            Self::Leader(lead) => return Ok(lead),
            Self::Have(have) => LoadRole::Have(have),
            Self::Due(due) => LoadRole::Due(due),
            Self::Join(flight, edge, key) => LoadRole::Join(flight, edge, key),
            Self::Alone => LoadRole::Alone,
        })
    }
}

/// A leader that has not yet checked whether the entry has come meanwhile.
pub(crate) struct UncheckedLeader {
    pub(crate) leader: FlightLeader,
    /// Boxed: a load is moved several times, and most have none.
    pub(crate) encoded: Option<Box<EncodedKey>>,
    /// What storing the loaded value requires.
    pub(crate) precondition: Precondition,
}

/// A leader that is about to run its loader.
pub(crate) struct Leader {
    pub(crate) leader: FlightLeader,
    /// Boxed: a load is moved several times, and most have none.
    pub(crate) encoded: Option<Box<EncodedKey>>,
    /// What storing the loaded value requires.
    pub(crate) precondition: Precondition,
    /// Sequence number of the latest invalidation before the load. Later ones apply to the loaded
    /// value.
    pub(crate) stamp: u64,
    /// The entry past its deadline, if it is within its stale window.
    pub(crate) stale: Option<Box<Stale>>,
}

impl Leader {
    /// Returns the key, if a waiter took it over before the loader began.
    ///
    /// # Errors
    /// Returns the leader if its flight goes on.
    pub(crate) fn give_way(self) -> Result<Key, Self> {
        let Self { leader, encoded, precondition, stamp, stale } = self;
        leader.give_way().map_err(|leader| Self { leader, encoded, precondition, stamp, stale })
    }
}

/// An entry past its deadline and within its stale window.
pub(crate) struct Stale {
    pub(crate) value: Value,
    /// The end of the stale window.
    pub(crate) until: Time,
    /// The options to store it with again, if the loader answers that it still holds.
    pub(crate) options: EntryOptions,
}

impl Stale {
    pub(crate) fn new(value: Value, terms: &EntryMeta) -> Self {
        let mut options = EntryOptions::new().tags(terms.tags.iter().cloned());
        options.validator = terms.validator.clone();
        options.hints = terms.hints;
        options.ttl = Some(terms.ttl.unwrap_or(Duration::MAX));
        options.stale = Some(terms.stale);
        Self { value, until: terms.stale_until(), options }
    }
}

/// What a caller that missed in memory has to do.
pub enum Begun {
    /// Use this value: it was stored, or loaded by another call.
    Value(Value),
    /// Return this error: the load of another call failed with it.
    Failed(AnyError),
    /// Run the loader.
    Load(Load),
}

/// A load that its caller runs. Dropping it abandons the load, and one of the waiters loads next.
pub struct Load {
    /// `None` for a load that has no waiters and stores nothing.
    pub(crate) lead: Option<Leader>,
    pub(crate) watch: LoadSpan,
}

impl Load {
    pub(crate) fn new(engine: &Arc<Engine>, lead: Option<Leader>) -> Self {
        let watch = LoadSpan::start(engine);
        let watch = match &lead {
            Some(lead) => watch.of(lead),
            None => watch,
        };
        Self { lead, watch }
    }

    /// As [`new`](Self::new), for a flight that has begun just now. Counts the miss as well.
    pub(crate) fn at_once(engine: &Arc<Engine>, lead: Leader) -> Self {
        engine.counters.hot.add([(HotCount::Misses, 1), (HotCount::Loads, 1)]);
        let watch = LoadSpan::counted(engine, lead.leader.flight.began()).of(&lead);
        Self { lead: Some(lead), watch }
    }

    /// Runs the loader of a thread. Its calls of the cache are recognized as part of it.
    pub fn call<T>(&self, loader: impl FnOnce() -> T) -> T {
        let _within = self.enter();
        loader()
    }

    fn enter(&self) -> (Option<Entered>, tracing::span::EnteredSpan) {
        let flight = self.lead.as_ref().map(|lead| lead.leader.flight.id());
        (flight.map(Entered::one), self.watch.span().entered())
    }

    /// Runs the loader of a task. Its calls of the cache are recognized on whatever thread polls
    /// it.
    pub async fn run<F: Future>(&self, loader: F) -> F::Output {
        let loader = loader.instrument(self.watch.span());
        match &self.lead {
            Some(lead) => lead.leader.flight.run(loader).await,
            None => loader.await,
        }
    }

    /// Ends the load with an error. The waiters get it too.
    pub fn fail(self, error: AnyError) {
        if let Some(lead) = self.lead {
            lead.leader.end(Outcome::Failed(error));
        }
    }

    /// Stores the loaded value, and hands it to the waiters.
    pub(crate) async fn store<W: Runtime>(self, value: Value, options: EntryOptions) {
        let engine = Arc::clone(self.watch.engine());
        let load_cost = Some(self.watch.succeeded());
        if let Some(lead) = self.lead {
            let said = NewValue { value: Some(value), load_cost, options };
            // On the heap: nested loaders make the stack deep enough without it.
            Box::pin(engine.publish::<W>(lead, said)).await;
        }
    }
}

impl Engine {
    /// Decides what a caller that missed `key` in memory has to do. `error` is the error type of
    /// its loader. Waits for the load of another call, if there is one.
    ///
    /// One of the waiters leads next, with its own loader, if the leader fails. It fails when it is
    /// cancelled or panics, returns an error of another type, or is a task's future that is no
    /// longer polled.
    pub(crate) async fn begin_load<W: Runtime>(
        self: &Arc<Self>,
        mut key: Key,
        error: TypeId,
        watch: Option<Arc<PollWatch>>,
    ) -> Begun {
        self.observe_request(&key);
        loop {
            let hash = self.key_locks.hash(&key);
            // A remembered absence is no answer here: this loader may have a value.
            match Box::pin(self.take_role::<W>(key, Asks::VALUE, watch.clone())).await {
                LoadRole::Have(Some(value)) => return Begun::Value(value),
                LoadRole::Due(due) => return Begun::Value(due.value),
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

    /// Takes a role: finds a value, or a flight to wait for, or leads one.
    pub(crate) async fn take_role<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        asks: Asks,
        watch: Option<Arc<PollWatch>>,
    ) -> LoadRole {
        match self.enter::<W>(key, asks, watch).await.lead() {
            Ok(ahead) => self.look_again::<W>(ahead, asks.absence).await,
            Err(LoadRole::Join(flight, edge, key)) if flight.purpose() == Purpose::Refresh => {
                let value = Box::pin(self.value_beyond::<W>(&key)).await;
                value.map_or(LoadRole::Join(flight, edge, key), |value| LoadRole::Have(Some(value)))
            }
            Err(other) => other,
        }
    }

    /// As [`take_role`](Self::take_role), without asking the tiers beyond memory.
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
            // Taken first: an invalidation from here on applies to the loaded value.
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
                // A flight that began before an invalidation is no answer for a caller after it.
                // Nor is an abandoned flight, which its leader is about to remove from the key
                // lock.
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
                    let precondition = Precondition::None;
                    let encoded = encoded.map(Box::new);
                    return self.look_near(UncheckedLeader { leader, encoded, precondition }, asks.absence);
                }
            }
        }
    }

    /// Returns what memory has, if that is an answer for the caller.
    fn have(&self, key: &Key, absence: bool) -> Option<Option<Value>> {
        let record = self.recall(key)?;
        if record.value.is_none() && !absence {
            return None;
        }
        self.counters.hot.increment(HotCount::Hits);
        Some(record.value)
    }

    /// Waits for the flight of another call, on behalf of `get_with`.
    pub(crate) async fn join<W: Runtime>(&self, flight: &Arc<Flight>, hash: u64) -> Outcome {
        let outcome = self.outcome::<W>(flight, hash, Purpose::Borrowed).await;
        if !matches!(outcome, Outcome::Abandoned) {
            self.counters.joins.increment();
        }
        outcome
    }

    /// Checks memory once more: the entry may have come between the miss and the lead.
    pub(crate) fn look_near(&self, ahead: UncheckedLeader, absence: bool) -> LoadRole<UncheckedLeader> {
        match ahead.leader.key().and_then(|key| self.have(key, absence)) {
            Some(have) => {
                ahead.leader.end(have.clone().map_or(Outcome::Absent, Outcome::Value));
                LoadRole::Have(have)
            }
            None => LoadRole::Leader(ahead),
        }
    }

    /// Checks the tiers beyond memory.
    async fn look_again<W: Runtime>(self: &Arc<Self>, ahead: UncheckedLeader, absence: bool) -> LoadRole {
        let Some(key) = &ahead.encoded else {
            return self.after_look(ahead, None, LeaseGuard::NONE, absence);
        };
        // On the heap, for the same reason as in `Load::store`.
        let looked = Box::pin(self.look_beyond::<W>(key, ahead.leader.hash()));
        let (precondition, lease, found) = looked.await;
        self.after_look(UncheckedLeader { precondition, ..ahead }, found, lease, absence)
    }

    /// Decides the role of a leader by what it found beyond memory.
    pub(crate) fn after_look(
        &self,
        UncheckedLeader { mut leader, encoded, precondition }: UncheckedLeader,
        found: Option<Found>,
        lease: LeaseGuard,
        absence: bool,
    ) -> LoadRole {
        let mut stale = leader.key().and_then(|key| self.stale_in_memory(key));
        match found.map(Found::into_parts) {
            Some((Freshness::Fresh, Some(value), terms)) => {
                let key = self.is_to_be_refreshed(&leader, &terms).then(|| leader.take_key()).flatten();
                leader.end(Outcome::Value(value.clone()));
                return match key {
                    Some(key) => LoadRole::Due(Box::new(Due { key, value, terms })),
                    None => LoadRole::Have(Some(value)),
                };
            }
            Some((Freshness::Fresh, None, _)) if absence => {
                leader.end(Outcome::Absent);
                return LoadRole::Have(None);
            }
            Some((Freshness::Stale, Some(value), terms)) => stale = Some(Box::new(Stale::new(value, &terms))),
            _ => {}
        }
        if let Some(stale) = &stale {
            leader.flight.set_stale(stale.value.clone(), stale.until);
        }
        self.counters.misses.increment();
        let stamp = leader.flight.stamp();
        leader.flight.hold(lease);
        LoadRole::Leader(Leader { leader, encoded, precondition, stamp, stale })
    }

    /// Returns whether this hit beyond memory has to start a refresh.
    fn is_to_be_refreshed(&self, leader: &FlightLeader, terms: &EntryMeta) -> bool {
        leader.flight.purpose() == Purpose::Owned && self.expiry.is_refresh_due(terms, self.timeline.now())
    }

    /// Looks the key up beyond memory. If there is no value and another node may be loading it,
    /// waits for that load or takes the lease. A tier that fails counts as empty; its layer has
    /// counted the failure.
    async fn look_beyond<W: Runtime>(
        self: &Arc<Self>,
        key: &EncodedKey,
        hash: u64,
    ) -> (Precondition, LeaseGuard, Option<Found>) {
        let (mut lease, mut until, mut may_wait) = (LeaseGuard::NONE, None, true);
        loop {
            let (precondition, found) = self.seek_versioned::<W>(key.clone(), hash).await;
            let found = found.ok().flatten();
            if !may_wait || found.as_ref().is_some_and(|found| found.freshness == Freshness::Fresh) {
                return (precondition, lease, found);
            }
            let Some(moment) = until.or_else(|| self.patience_with_nodes(found.is_some())) else {
                return (precondition, lease, found);
            };
            until = Some(moment);
            match self.turn::<W>(key, moment).await {
                LeaseOutcome::Load(taken) => return (precondition, taken, found),
                LeaseOutcome::LookAndLoad(taken) => (lease, may_wait) = (taken, false),
                LeaseOutcome::Look => {}
            }
        }
    }

    fn stale_in_memory(&self, key: &Key) -> Option<Box<Stale>> {
        let record = self.near(key)?;
        if self.freshness(&record) != Freshness::Stale {
            return None;
        }
        Some(Box::new(Stale::new(record.value?, &record.terms.as_ref()?.current())))
    }

    /// Stores the loaded value unless the entry changed since the flight began. Ends the flight
    /// with the value in either case.
    pub(crate) async fn publish<W: Runtime>(self: &Arc<Self>, lead: Leader, said: NewValue) {
        let engine = Arc::clone(self);
        // On the heap: a nested loader would have this in its stack frame.
        let section = Box::pin(async move {
            let Leader { mut leader, encoded, precondition, stamp, .. } = lead;
            let outcome = said.value.clone().map_or(Outcome::Absent, Outcome::Value);
            let precondition = engine.coherence.precondition_after(precondition, &leader.flight);
            let stored = match engine.prepare_loaded(&leader, encoded.map(|key| *key), stamp, said).await {
                Some(prepared) => engine.store_prepared(&mut leader, prepared.requiring(precondition)).await,
                None => true,
            };
            engine.finish_load(leader, outcome, stored);
        });
        if self.drive::<W, _>(false, section).await.is_err() {
            // A runtime that shuts down drops the section, and the flight with it.
            self.counters.dropped.increment();
        }
    }

    /// Takes the guard and stores the loaded value. Returns `false` if the entry changed since the
    /// flight began.
    pub(crate) async fn store_prepared(&self, leader: &mut FlightLeader, prepared: PreparedEntry) -> bool {
        let Some(_guard) = self.guard(leader).await else { return false };
        self.store_loaded(leader, prepared).await
    }

    /// Ends a flight with its value, whether `stored` or not.
    pub(crate) fn finish_load(&self, leader: FlightLeader, outcome: Outcome, stored: bool) {
        if !stored {
            self.counters.superseded.increment();
        }
        leader.end(outcome);
    }

    /// Prepares the loaded value for storing. `None` if its options are invalid.
    pub(crate) async fn prepare_loaded(
        &self,
        leader: &FlightLeader,
        encoded: Option<EncodedKey>,
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
        Some(self.prepare(key, encoded, said).stamped(stamp))
    }

    /// Stores the loaded value. The caller holds the guard. Returns `false` if another node changed
    /// the entry since the load began.
    pub(crate) async fn store_loaded(&self, leader: &mut FlightLeader, prepared: PreparedEntry) -> bool {
        let Some(key) = leader.take_key() else { return false };
        self.backoffs.end(leader.hash());
        // If no tier accepted the entry, `store` has counted that. The caller still has its value.
        match self.store(key, prepared, Writer::Load).await {
            Ok(Some(_)) => self.counters.published.increment(),
            Ok(None) => return false,
            Err(_) => {}
        }
        true
    }

    /// Waits for the guard. `None` if the entry changed since the flight began.
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
