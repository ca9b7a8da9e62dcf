//! Loading with a borrowed loader: one flight a key, whoever asks.

use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::erased::{AnyError, Key, Value};
use larder_core::events::Writer;
use larder_core::key::EncodedKey;
use larder_core::terms::{EntryOptions, Freshness, Terms};
use tracing::Instrument;

use crate::among::{NodeLease, Turn};
use crate::draft::{Draft, Said};
use crate::engine::Engine;
use crate::flight::{Flight, Outcome, Purpose, Start};
use crate::gate::{Claim, Entrance, Leader, Ticket};
use crate::load_wait::Asks;

use crate::poll_watch::PollWatch;
use crate::read::Found;
use crate::reentrancy::{Entered, Seat};
use crate::shield;
use crate::wait::Wait;
use crate::watch::Watch;

/// What a caller with a missing key came to.
pub(crate) enum Approach<L = Lead> {
    /// It leads a flight.
    Lead(L),
    /// A value is there; `None` says that there is none to be had.
    Have(Option<Value>),
    /// It may wait for this flight.
    Join(Arc<Flight>, Seat, Key),
    /// It may not wait, or there is nothing to store into: it loads alone.
    Alone,
}

impl<L> Approach<L> {
    /// The lead, or what came of it without one, whatever leads there.
    pub(crate) fn lead<M>(self) -> Result<L, Approach<M>> {
        Err(match self {
            Self::Lead(lead) => return Ok(lead),
            Self::Have(have) => Approach::Have(have),
            Self::Join(flight, seat, key) => Approach::Join(flight, seat, key),
            Self::Alone => Approach::Alone,
        })
    }
}

/// A flight whose leader has not looked once more yet.
pub(crate) struct Ahead {
    pub(crate) leader: Leader,
    pub(crate) encoded: Option<EncodedKey>,
}

/// A flight that is about to take off.
pub(crate) struct Lead {
    pub(crate) leader: Leader,
    pub(crate) encoded: Option<EncodedKey>,
    /// Taken before anything was loaded: later invalidations mean what is loaded.
    pub(crate) stamp: u64,
    /// What is left of the entry, past its deadline.
    pub(crate) stale: Option<Stale>,
}

impl Lead {
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
    pub(crate) fn new(value: Value, terms: &Terms) -> Self {
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
    lead: Option<Lead>,
    watch: Watch,
}

impl Load {
    fn new(engine: &Arc<Engine>, lead: Option<Lead>) -> Self {
        let watch = Watch::start(engine);
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
    pub(crate) async fn store<W: Wait>(self, value: Value, options: EntryOptions) {
        let load_cost = Some(self.watch.succeeded());
        if let Some(lead) = self.lead {
            let said = Said { value: Some(value), load_cost, options };
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
    pub(crate) async fn begin_load<W: Wait>(
        self: &Arc<Self>,
        mut key: Key,
        error: TypeId,
        watch: Option<Arc<PollWatch>>,
    ) -> Begun {
        loop {
            let hash = self.gates.hash(&key);
            // That there was no value the last time is no answer for a loader that has one.
            match Box::pin(self.approach::<W>(key, Asks::VALUE, watch.clone())).await {
                Approach::Have(Some(value)) => return Begun::Value(value),
                Approach::Have(None) | Approach::Alone => return Begun::Load(Load::new(self, None)),
                Approach::Lead(lead) => match lead.give_way() {
                    Ok(key_back) => key = key_back,
                    Err(lead) => return Begun::Load(Load::new(self, Some(lead))),
                },
                Approach::Join(flight, _seat, key_back) => match self.join::<W>(&flight, hash).await {
                    Outcome::Value(value) => return Begun::Value(value),
                    Outcome::Failed(failed) if failed.is(error) => return Begun::Failed(failed),
                    _ => key = key_back,
                },
            }
        }
    }

    /// One turn of a caller: finds the value, a flight to wait for, or the lead.
    pub(crate) async fn approach<W: Wait>(
        self: &Arc<Self>,
        key: Key,
        asks: Asks,
        watch: Option<Arc<PollWatch>>,
    ) -> Approach {
        match self.enter::<W>(key, asks, watch).await.lead() {
            Ok(ahead) => self.look_again::<W>(ahead, asks.absence).await,
            Err(other) => other,
        }
    }

    /// As [`approach`](Self::approach), without looking beyond memory.
    pub(crate) async fn enter<W: Wait>(
        self: &Arc<Self>,
        mut key: Key,
        asks: Asks,
        watch: Option<Arc<PollWatch>>,
    ) -> Approach<Ahead> {
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
    fn have(&self, key: &Key, absence: bool) -> Option<Option<Value>> {
        let record = self.recall(key)?;
        if record.value.is_none() && !absence {
            return None;
        }
        self.memory_hits.increment();
        Some(record.value)
    }

    /// The outcome of the flight of another call, for a caller of `get_with`.
    pub(crate) async fn join<W: Wait>(&self, flight: &Arc<Flight>, hash: u64) -> Outcome {
        let outcome = self.outcome::<W>(flight, hash, Purpose::Borrowed).await;
        if !matches!(outcome, Outcome::Abandoned) {
            self.counters.joins.increment();
        }
        outcome
    }

    /// A leader looks once more: the entry may have come between its miss and
    /// its lead.
    fn look_near(&self, ahead: Ahead, absence: bool) -> Approach<Ahead> {
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
        Ahead { leader, encoded }: Ahead,
        absence: bool,
    ) -> Approach {
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
        Ahead { leader, encoded }: Ahead,
        found: Option<Found>,
        lease: NodeLease,
        absence: bool,
    ) -> Approach {
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
    ) -> (EncodedKey, NodeLease, Option<Found>) {
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

    fn stale_in_memory(&self, key: &Key) -> Option<Stale> {
        let record = self.near(key)?;
        if self.freshness(&record) != Freshness::Stale {
            return None;
        }
        Some(Stale::new(record.value?, &record.terms.as_ref()?.current()))
    }

    /// Stores what was loaded unless its entry changed since the flight began,
    /// and ends the flight with it in either case.
    pub(crate) async fn publish<W: Wait>(self: &Arc<Self>, lead: Lead, said: Said) {
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
        leader: &mut Leader,
        encoded: Option<EncodedKey>,
        stamp: u64,
        said: Said,
    ) -> bool {
        match self.draft_loaded((leader, encoded), stamp, said).await {
            Some(draft) => self.settle_draft(leader, draft).await,
            None => true,
        }
    }

    /// Stores what was loaded once its ticket can be had; false where the entry
    /// changed since.
    pub(crate) async fn settle_draft(&self, leader: &mut Leader, draft: Draft) -> bool {
        let Some(_ticket) = self.ticket(leader).await else { return false };
        self.store_loaded(leader, draft).await
    }

    /// Ends a flight with what it loaded, `stored` or not.
    pub(crate) fn land(&self, leader: Leader, outcome: Outcome, stored: bool) {
        if !stored {
            self.counters.superseded.increment();
        }
        leader.end(outcome);
    }

    /// What was loaded, ready to be stored; `None` where it is not to be.
    pub(crate) async fn draft_loaded(
        &self,
        (leader, encoded): (&Leader, Option<EncodedKey>),
        stamp: u64,
        said: Said,
    ) -> Option<Draft> {
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
    pub(crate) async fn store_loaded(&self, leader: &mut Leader, draft: Draft) -> bool {
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
    async fn ticket(&self, leader: &mut Leader) -> Option<Ticket> {
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
