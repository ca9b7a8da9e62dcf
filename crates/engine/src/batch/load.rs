//! Loading many keys in one call.
//!
//! The call works in rounds. Each round takes the values that exist, waits for the keys that other
//! callers load, and loads the rest with one call of the loader. A round asks the shared tier at
//! most three times, whatever the number of keys: for entries, for load leases, and to store the
//! loaded values.

use std::any::TypeId;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use larder_core::entry_meta::EntryOptions;
use larder_core::entry_meta::Freshness;
use larder_core::erased::{AnyError, AnyLookup, Key, Value};
use tracing::Instrument;

use crate::batch::read::Missing;
use crate::coherence::load_lease::{LeaseGuard, LeaseOutcome};
use crate::engine::Engine;
use crate::key_lock::flight::{Flight, Outcome};
use crate::key_lock::wait_graph::{Entered, Running, WaitEdge};
use crate::load::flight_wait::Asks;
use crate::load::load_span::LoadSpan;
use crate::load::poll_watch::PollWatch;
use crate::load::{Leader, LoadRole, UncheckedLeader};
use crate::read::Found;
use crate::write::precondition::Precondition;
use crate::write::prepared_entry::NewValue;
use larder_exec::runtime::Runtime;

/// The roles that the keys of one round got.
struct BatchRound {
    leads: Vec<(Key, Leader)>,
    joins: Vec<(Key, Arc<Flight>, WaitEdge)>,
    /// Keys that are loaded without a flight.
    alone: Vec<Key>,
    /// Keys that another node loads.
    elsewhere: Vec<Key>,
}

impl BatchRound {
    const EMPTY: Self =
        Self { leads: Vec::new(), joins: Vec::new(), alone: Vec::new(), elsewhere: Vec::new() };

    /// Returns whether there is nothing to do except to wait for other nodes.
    fn is_idle(&self) -> bool {
        self.leads.is_empty() && self.joins.is_empty() && self.alone.is_empty()
    }

    /// Removes and returns the keys that waiters took over while this caller was not polled.
    fn give_way(&mut self) -> Vec<Key> {
        let (taken_over, leads) = std::mem::take(&mut self.leads)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, lead)| lead.leader.flight.is_abandoned());
        self.leads = leads;
        taken_over.into_iter().map(|(key, _)| key).collect()
    }

    fn file(&mut self, key: Key, take_role: LoadRole, values: &mut HashMap<Key, Value>) {
        match take_role {
            LoadRole::Have(Some(value)) => drop(values.insert(key, value)),
            LoadRole::Due(due) => drop(values.insert(key, due.value)),
            LoadRole::Have(None) | LoadRole::Alone => self.alone.push(key),
            LoadRole::Leader(lead) => self.leads.push((key, lead)),
            LoadRole::Join(flight, edge, key) => self.joins.push((key, flight, edge)),
        }
    }
}

/// A key whose leader checks the tiers once more.
struct Look {
    key: Key,
    ahead: UncheckedLeader,
    found: Option<Found>,
    lease: LeaseGuard,
}

impl Look {
    fn is_missing(&self) -> bool {
        self.found.as_ref().is_none_or(|found| found.freshness != Freshness::Fresh)
    }
}

/// A `get_many_with` call: the values that it has, and the keys that it has to load next.
///
/// It loads its own keys before it waits for other callers or nodes, so batches that overlap never
/// wait for each other. If another caller's load ends without a value, this call loads the key.
pub struct Batch {
    engine: Arc<Engine>,
    keys: Vec<Key>,
    values: HashMap<Key, Value>,
    /// The type of the loader's errors.
    error: TypeId,
    /// Keys without a value that are not loaded yet.
    left: Vec<Key>,
    /// Keys that this call's loader was asked for.
    asked: HashSet<Key>,
    /// Until when the call waits for other nodes. `None` if it does not.
    patience: Option<Instant>,
    /// The flights to wait for after the load.
    joins: Vec<(Key, Arc<Flight>, WaitEdge)>,
}

/// The keys that one call of a batch loader has to load. Dropping it abandons their loads.
pub struct BatchLoad {
    asked: Vec<Key>,
    leads: Vec<(Key, Leader)>,
    watch: LoadSpan,
}

impl BatchLoad {
    /// Returns the keys, in the order of the request.
    pub fn keys(&self) -> &[Key] {
        &self.asked
    }

    fn flights(&self) -> Vec<u64> {
        self.leads.iter().map(|(_, lead)| lead.leader.flight.id()).collect()
    }

    /// Runs the loader of a thread. Its calls of the cache are recognized as part of it.
    pub fn call<T>(&self, loader: impl FnOnce() -> T) -> T {
        let _within = (Entered::call(self.flights()), self.watch.span().entered());
        loader()
    }

    /// Runs the loader of a task. Its calls of the cache are recognized on whatever thread polls
    /// it.
    pub async fn run<F: Future>(&self, loader: F) -> F::Output {
        Running::call(self.flights(), loader.instrument(self.watch.span())).await
    }

    /// Ends the loads with an error. The waiters get it too.
    pub fn fail(self, error: &AnyError) {
        for (_, lead) in self.leads {
            lead.leader.end(Outcome::Failed(error.clone()));
        }
    }
}

impl Batch {
    /// Begins a call for `keys`. `error` is the error type of its loader.
    pub(crate) async fn begin<W: Runtime>(engine: &Arc<Engine>, keys: Vec<Key>, error: TypeId) -> Self {
        let mut values = HashMap::with_capacity(keys.len());
        keys.iter().for_each(|key| engine.observe_request(key));
        let left = engine.look_up_many::<W>(&keys, &mut values).await;
        let patience = engine.patience_with_nodes(false);
        let (asked, joins) = (HashSet::new(), Vec::new());
        Self { engine: Arc::clone(engine), keys, values, error, left, asked, patience, joins }
    }

    /// Returns the keys to load next. `None` if nothing is left to load.
    ///
    /// # Errors
    /// The error of another call's load.
    pub(crate) async fn next<W: Runtime>(
        &mut self,
        watch: &Option<Arc<PollWatch>>,
    ) -> Result<Option<BatchLoad>, AnyError> {
        loop {
            self.wait_for_others::<W>().await?;
            if self.left.is_empty() {
                return Ok(None);
            }
            let engine = Arc::clone(&self.engine);
            // Listen before the leases are tried, so that the end of another node's lease is not
            // missed.
            let until = self.patience.filter(|until| Instant::now() < *until);
            let done = until.and_then(|until| Some((engine.coherence.lease_changes()?.listen(), until)));
            let left = std::mem::take(&mut self.left);
            let mut round = engine.round::<W>((left, watch), done.is_some(), &mut self.values).await;
            let taken_over = round.give_way();
            if let Some((done, until)) = done.filter(|_| round.is_idle() && !round.elsewhere.is_empty()) {
                engine.until_done::<W>(done, until).await;
            }
            let asked = round.leads.iter().map(|(key, _)| key).chain(&round.alone).cloned();
            let asked: Vec<Key> = asked.collect();
            self.asked.extend(asked.iter().cloned());
            self.joins = round.joins;
            self.left = round.elsewhere.into_iter().chain(taken_over).collect();
            if !asked.is_empty() {
                return Ok(Some(BatchLoad { asked, leads: round.leads, watch: LoadSpan::start(&engine) }));
            }
        }
    }

    /// Stores what the loader returned, and ends the loads of its keys.
    pub(crate) async fn store<W: Runtime>(
        &mut self,
        load: BatchLoad,
        answered: Vec<(Key, Value, EntryOptions)>,
    ) {
        let mut options = HashMap::with_capacity(answered.len());
        for (key, value, said) in answered {
            options.insert(key.clone(), said);
            self.values.insert(key, value);
        }
        let cost = load.watch.succeeded();
        let mut loaded = Vec::with_capacity(load.leads.len());
        for (key, lead) in load.leads {
            // A flight without an answer is abandoned: one of its waiters leads next.
            let Some(value) = self.values.get(&key).cloned() else { continue };
            let options = options.remove(&key).unwrap_or_default();
            loaded.push((lead, NewValue { value: Some(value), load_cost: Some(cost), options }));
        }
        Box::pin(self.engine.publish_many::<W>(loaded)).await;
    }

    /// Waits for the loads of other callers. A key that they left without a value is loaded next,
    /// unless this call's loader was asked for it before.
    async fn wait_for_others<W: Runtime>(&mut self) -> Result<(), AnyError> {
        for (key, flight, edge) in std::mem::take(&mut self.joins) {
            match self.engine.join::<W>(&flight, self.engine.key_locks.hash(&key)).await {
                Outcome::Value(value) => drop(self.values.insert(key, value)),
                Outcome::Failed(error) if error.is(self.error) => return Err(error),
                _ => self.left.push(key),
            }
            drop(edge);
        }
        self.left.retain(|key| !self.asked.contains(key));
        Ok(())
    }

    /// Returns the values, in the order of the keys.
    pub fn into_values(self) -> Vec<Option<Value>> {
        let Self { keys, values, .. } = self;
        keys.iter().map(|key| values.get(key).cloned()).collect()
    }
}

impl Engine {
    /// Takes the values that exist. Returns the keys without a value, each once.
    async fn look_up_many<W: Runtime>(
        self: &Arc<Self>,
        keys: &[Key],
        values: &mut HashMap<Key, Value>,
    ) -> Vec<Key> {
        let found: Vec<Option<Value>> = keys.iter().map(|key| self.find(key)).collect();
        let empty = keys.iter().enumerate().filter(|(at, _)| found[*at].is_none());
        let missing = self.missing(empty.map(|(at, key)| (at, key as &dyn AnyLookup)));
        let beyond = self.seek_fresh::<W>(missing).await;
        let found = found.into_iter().enumerate().filter_map(|(at, value)| Some((at, value?)));
        for (at, value) in found.chain(beyond) {
            values.insert(keys[at].clone(), value);
        }
        let mut seen = HashSet::new();
        let left = keys.iter().filter(|key| !values.contains_key(*key) && seen.insert(*key));
        left.cloned().collect()
    }

    /// Gives each key a role: a value, a flight to wait for, or a leader. With `leases`, a leader
    /// only where no other node loads the key.
    async fn round<W: Runtime>(
        self: &Arc<Self>,
        (keys, watch): (Vec<Key>, &Option<Arc<PollWatch>>),
        leases: bool,
        values: &mut HashMap<Key, Value>,
    ) -> BatchRound {
        let (mut round, mut looks) = (BatchRound::EMPTY, Vec::new());
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
            let take_role = self.after_look(ahead, found, lease, false);
            round.file(key, take_role, values);
        }
        round
    }

    /// Creates a look-up for a leader. Until it has read a version from the shared tier, the value
    /// is not stored if another node may have changed the entry.
    fn look(&self, key: Key, ahead: UncheckedLeader) -> Look {
        let encoded = ahead.encoded.as_ref();
        let precondition =
            encoded.map_or(Precondition::None, |key| self.coherence.precondition_now(self, key));
        let ahead = UncheckedLeader { precondition, ..ahead };
        Look { key, ahead, found: None, lease: LeaseGuard::NONE }
    }

    /// Looks up some of the leaders' keys beyond memory.
    async fn look_beyond_many<W: Runtime>(
        self: &Arc<Self>,
        looks: &mut [Look],
        which: impl Fn(&Look) -> bool,
    ) {
        if self.tiers().is_empty() {
            return;
        }
        let missing = looks.iter().enumerate().filter(|(_, look)| which(look)).filter_map(|(at, look)| {
            Some(Missing {
                at,
                encoded: look.ahead.encoded.as_deref().cloned()?,
                hash: look.ahead.leader.hash(),
            })
        });
        let missing = missing.collect();
        for sought in self.seek_many::<W>(missing, self.confirms_copies).await {
            let look = &mut looks[sought.at];
            look.ahead.precondition = sought.precondition;
            look.found = sought.found;
        }
    }

    /// Takes the load leases of missing keys. Leaves keys to the nodes that hold their leases.
    async fn take_turns<W: Runtime>(self: &Arc<Self>, looks: Vec<Look>, round: &mut BatchRound) -> Vec<Look> {
        let wanted = looks.iter().filter(|look| look.is_missing());
        let wanted: Vec<_> = wanted.filter_map(|look| look.ahead.encoded.as_deref().cloned()).collect();
        if wanted.is_empty() {
            return looks;
        }
        let mut turns = self.turns::<W>(wanted).await.into_iter();
        let (mut kept, mut came) = (Vec::with_capacity(looks.len()), HashSet::new());
        for mut look in looks {
            let wants = look.is_missing() && look.ahead.encoded.is_some();
            match if wants { turns.next() } else { None } {
                Some(LeaseOutcome::Look) => {
                    round.elsewhere.push(look.key);
                    continue;
                }
                Some(LeaseOutcome::LookAndLoad(lease)) => {
                    look.lease = lease;
                    // An entry that was found before needs no second look-up.
                    if look.found.is_none() {
                        came.insert(look.key.clone());
                    }
                }
                Some(LeaseOutcome::Load(lease)) => look.lease = lease,
                None => {}
            }
            kept.push(look);
        }
        if !came.is_empty() {
            self.look_beyond_many::<W>(&mut kept, |look| came.contains(&look.key)).await;
        }
        kept
    }
}
