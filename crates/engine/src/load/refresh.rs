//! Refreshes ahead of the deadline: the first `load` that hits an entry whose refresh is due starts a
//! load in the background and returns the current value.
//!
//! The record in memory knows when its refresh is due and when the last one was tried. An entry that
//! memory does not hold has no record: its metadata is read with it, and [`RefreshPauses`] remembers the
//! attempts.

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, Freshness, LiveEntryMeta};
use larder_core::erased::{Key, Value};
use larder_core::memory::Record;
use larder_exec::runtime::{Launch, Runtime};
use parking_lot::Mutex;

use crate::engine::Engine;
use crate::key_lock::flight::{Purpose, Start};
use crate::key_lock::{Admission, FlightLeader};
use crate::load::backoff::make_room;
use crate::load::detached::Loader;
use crate::load::{Leader, Stale};
use crate::write::precondition::Precondition;

/// A refresh that did not finish is tried again after this time.
const REFRESH_AGAIN: Duration = Duration::from_secs(10);
/// Maximum number of refreshes of one cache at once. Half of the threads that run loads: if
/// refreshes hang, the other half is left for loads that callers wait for.
const REFRESHES_MAX: usize = larder_exec::background::THREADS_MAX / 2;

/// A hit beyond memory on an entry whose refresh is due.
pub(crate) struct Due {
    pub(crate) key: Key,
    pub(crate) value: Value,
    pub(crate) terms: EntryMeta,
}

/// The entries beyond memory whose refresh was tried, by the hash of their key.
#[derive(Default)]
pub(crate) struct RefreshPauses {
    pauses: Mutex<HashMap<u64, Pause, FixedState>>,
}

/// The pause after an attempt to refresh one entry.
struct Pause {
    /// The deadline of the entry. A later entry of the key has another one, and no pause.
    deadline: Time,
    until: Time,
}

impl RefreshPauses {
    /// Returns whether the refresh of an entry may be tried now. If so, starts its pause.
    fn takes_turn(&self, hash: u64, deadline: Time, now: Time) -> bool {
        let mut pauses = self.pauses.lock();
        if pauses.get(&hash).is_some_and(|pause| pause.deadline == deadline && now < pause.until) {
            return false;
        }
        make_room(&mut pauses, now, |pause| pause.until);
        pauses.insert(hash, Pause { deadline, until: now.after(REFRESH_AGAIN) });
        true
    }
}

impl Engine {
    /// Returns whether a hit of `load` on an entry with this metadata has to start a refresh.
    #[inline]
    pub fn is_refresh_due(&self, terms: Option<&LiveEntryMeta>) -> bool {
        terms.is_some_and(|terms| terms.is_refresh_due(self.timeline.now()))
    }

    /// Returns the value of a hit. Starts a refresh if one is due, and never waits for it.
    pub(super) async fn refreshed<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        record: Record<Value>,
        loader: Loader,
    ) -> Option<Value> {
        let value = record.value;
        if let Some(terms) = record.terms.filter(|terms| self.is_due(terms)) {
            // On the heap: otherwise it would be part of the stack frame of every load.
            Box::pin(self.refresh::<W>(key, value.clone(), terms, loader)).await;
        }
        value
    }

    /// As [`refreshed`](Self::refreshed), for a hit beyond memory.
    pub(super) async fn refreshed_beyond<W: Runtime>(
        self: &Arc<Self>,
        due: Due,
        loader: Loader,
    ) -> Option<Value> {
        // The read has copied the entry into memory, unless that takes no copy of it.
        if let Some(record) = self.recall(&due.key) {
            return self.refreshed::<W>(due.key, record, loader).await;
        }
        let value = due.value.clone();
        // On the heap, for the same reason as there.
        Box::pin(self.refresh_beyond::<W>(due, loader)).await;
        Some(value)
    }

    /// Refreshes an entry ahead of its deadline, unless a refresh of it is running or too many
    /// others are.
    async fn refresh<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        value: Option<Value>,
        terms: Arc<LiveEntryMeta>,
        loader: Loader,
    ) {
        let Some(place) = RefreshPlace::take(self) else { return };
        let Some(mut lead) = self.lead_refresh::<W>(key) else { return };
        // The entry may have been removed or replaced since the hit.
        let same = lead.leader.key().and_then(|key| self.recall(key)?.terms);
        if !same.is_some_and(|same| Arc::ptr_eq(&same, &terms)) {
            return;
        }
        lead.fall_back_on(value.map(|value| Stale::new(value, &terms.current())));
        self.counters.refreshes.increment();
        let engine = Arc::clone(self);
        let flight = async move {
            if let Some(lead) = engine.refresh_among_nodes::<W>(lead).await {
                engine.run_load::<W>(lead, loader).await;
            }
            drop(place);
        };
        W::launch(&self.pool, Launch::Refresh, Box::pin(flight)).await;
    }

    /// As [`refresh`](Self::refresh), for an entry that memory does not hold.
    async fn refresh_beyond<W: Runtime>(self: &Arc<Self>, Due { key, terms, .. }: Due, loader: Loader) {
        let (hash, now) = (self.key_locks.hash(&key), self.timeline.now());
        let Some(place) = RefreshPlace::take(self) else { return };
        // If another caller is reading the entry, that one starts the refresh, or a later one.
        let Some(lead) = self.lead_refresh::<W>(key) else { return };
        if !self.refresh_pauses.takes_turn(hash, terms.deadline, now) {
            return;
        }
        self.counters.refreshes.increment();
        let engine = Arc::clone(self);
        let flight = async move {
            let lead = engine.refresh_among_nodes::<W>(lead).await;
            if let Some(lead) = engine.if_still_due::<W>(lead).await {
                engine.run_load::<W>(lead, loader).await;
            }
            drop(place);
        };
        W::launch(&self.pool, Launch::Refresh, Box::pin(flight)).await;
    }

    /// Returns the value that a tier beyond memory has, for a caller that memory has no answer for and
    /// that meets a refresh of the entry: until the deadline no caller waits for that.
    pub(super) async fn value_beyond<W: Runtime>(self: &Arc<Self>, key: &Key) -> Option<Value> {
        let encoded = self.encode_key(key).ok()??;
        self.seek::<W>(encoded, self.key_locks.hash(key)).await.ok()??.into_fresh()
    }

    fn is_due(&self, terms: &LiveEntryMeta) -> bool {
        let now = self.timeline.now();
        terms.takes_refresh(now, now.after(REFRESH_AGAIN))
    }

    /// Reads the entry of a refresh again, which may have been removed or replaced since the hit.
    /// `None` if there is nothing to refresh any more.
    async fn if_still_due<W: Runtime>(self: &Arc<Self>, lead: Option<Leader>) -> Option<Leader> {
        let mut lead = lead?;
        let key = lead.encoded.as_deref()?.clone();
        let (precondition, found) = self.seek_versioned::<W>(key, lead.leader.hash()).await;
        let (freshness, value, terms) = found.ok()??.into_parts();
        if freshness != Freshness::Fresh || !self.expiry.is_refresh_due(&terms, self.timeline.now()) {
            return None;
        }
        lead.fall_back_on(value.map(|value| Stale::new(value, &terms)));
        Some(Leader { precondition, ..lead })
    }

    fn lead_refresh<W: Runtime>(self: &Arc<Self>, key: Key) -> Option<Leader> {
        let hash = self.key_locks.hash(&key);
        let encoded = self.encode_key(&key).ok()?;
        let precondition =
            encoded.as_ref().map_or(Precondition::None, |key| self.coherence.precondition_now(self, key));
        if self.is_closed() || self.backoffs.holds(hash, self.timeline.now()) {
            return None;
        }
        let stamp = self.invalidations.stamp();
        let start = Start { purpose: Purpose::Refresh, watch: self.watch::<W>(), stamp };
        let leader: FlightLeader = match self.key_locks.enter(hash, key, start) {
            Admission::Leader(leader) => leader,
            Admission::Join(_, flight) => {
                // If that flight is overdue it ends here, and the next hit refreshes.
                self.end_if_overdue(&flight, hash, Purpose::Refresh);
                return None;
            }
            Admission::Locked(..) => return None,
        };
        // No waiter takes a refresh over. When it is overdue, a caller that misses loads itself.
        leader.flight.launch();
        Some(Leader { leader, encoded: encoded.map(Box::new), precondition, stamp, stale: None })
    }
}

impl Leader {
    /// Sets the value that the loader gets, and that callers get if it fails or takes long.
    fn fall_back_on(&mut self, stale: Option<Stale>) {
        if let Some(stale) = &stale {
            self.leader.flight.set_stale(stale.value.clone(), stale.until);
        }
        self.stale = stale.map(Box::new);
    }
}

/// The right to run one of the refreshes that may run at once.
struct RefreshPlace(Arc<Engine>);

impl RefreshPlace {
    fn take(engine: &Arc<Engine>) -> Option<Self> {
        use std::sync::atomic::Ordering::AcqRel;
        if engine.refreshing.fetch_add(1, AcqRel) < REFRESHES_MAX {
            return Some(Self(Arc::clone(engine)));
        }
        engine.refreshing.fetch_sub(1, AcqRel);
        None
    }
}

impl Drop for RefreshPlace {
    fn drop(&mut self) {
        self.0.refreshing.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::backoff::PAUSES_MAX;

    #[test]
    fn refresh_of_one_entry_is_tried_once_per_pause() {
        let pauses = RefreshPauses::default();
        let (start, end) = (Time::from_millis(0), Time::from_millis(90_000));
        assert!(pauses.takes_turn(7, end, start));
        assert!(!pauses.takes_turn(7, end, start.after(REFRESH_AGAIN / 2)));
        assert!(pauses.takes_turn(7, end, start.after(REFRESH_AGAIN)));
        assert!(pauses.takes_turn(7, end.after(REFRESH_AGAIN), start.after(REFRESH_AGAIN)), "a later entry");
        assert!(pauses.takes_turn(8, end, start), "another key");
    }

    #[test]
    fn number_of_remembered_attempts_is_bounded() {
        let pauses = RefreshPauses::default();
        let all =
            (0..3 * PAUSES_MAX as u64).all(|hash| pauses.takes_turn(hash, Time::NEVER, Time::from_millis(0)));
        assert!(all && pauses.pauses.lock().len() <= PAUSES_MAX);
    }
}
