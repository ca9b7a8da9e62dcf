//! What an observed cache remembers for those who look at it: samples of its keys, and its last events.
//!
//! An engine has an [`Observer`] only if its cache is observed. The counter of hits tells which of them is a sample
//! (`hits.rs`), so the other hits of an observed cache take the path of one that is not.

mod hits;
mod hot_keys;
mod recent_events;
mod state;

use std::any::Any;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::erased::{AnyForm, Key};
use larder_core::events::{Cause, Event};
use larder_core::memory::{Departure, DepartureCause, OnDeparture};
use larder_core::tier::TierKind;

use crate::key_lock::reentrancy;

pub use hot_keys::{HotKey, HotKeys};
pub use recent_events::{RecentEvent, RecentEvents};
pub use state::{CacheState, TierState};

/// The longest name of a key that is kept, in bytes. Longer keys are named by a digest.
const NAME_MAX: usize = 1024;

/// A key without its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyName {
    /// Its encoding, which names it in tiers.
    Encoded(Box<[u8]>),
    /// Text for people, of a key that is not encoded.
    Text(Box<str>),
    /// The digest of a key whose name is too long, and the length of that name.
    Long(u128, usize),
}

impl KeyName {
    /// The name of a key with this encoding.
    pub fn encoded(bytes: &[u8]) -> Self {
        match bytes.len() > NAME_MAX {
            true => Self::Long(digest(bytes), bytes.len()),
            false => Self::Encoded(bytes.into()),
        }
    }

    /// The name of a key that this text describes.
    pub fn text(text: &str) -> Self {
        match text.len() > NAME_MAX {
            true => Self::Long(digest(text.as_bytes()), text.len()),
            false => Self::Text(text.into()),
        }
    }
}

fn digest(bytes: &[u8]) -> u128 {
    larder_core::key::EncodedKey::new(bytes).digest()
}

/// Names a key of any type.
pub type NameKey = dyn Fn(&(dyn Any + Send + Sync)) -> KeyName + Send + Sync;

/// Where the look-ups of a cache are recorded.
pub trait LookupTrace: Send + Sync + 'static {
    /// Records a look-up of the key with this hash. Does not block for long.
    fn record(&self, hash: u64);
}

/// What a cache remembers for those who look at it.
pub struct Observer {
    name: Box<NameKey>,
    requests: HotKeys,
    loads: HotKeys,
    events: RecentEvents,
    /// The trace, and a hash that only this process knows.
    trace: Option<(Box<dyn LookupTrace>, RandomState)>,
}

impl Observer {
    /// Creates an observer of a cache whose keys `name` names. `name` may run code of the user; no lock is held
    /// while it runs.
    pub fn new(name: Box<NameKey>) -> Self {
        let (requests, loads, events) = (HotKeys::default(), HotKeys::default(), RecentEvents::default());
        Self { name, requests, loads, events, trace: None }
    }

    /// Records every look-up in `trace`.
    #[must_use]
    pub fn with_trace(self, trace: Option<Box<dyn LookupTrace>>) -> Self {
        Self { trace: trace.map(|trace| (trace, RandomState::new())), ..self }
    }

    /// Records a look-up in the trace, if there is one. Returns whether there is.
    #[inline]
    pub(crate) fn trace(&self, key: &dyn AnyForm) -> bool {
        let Some((trace, hash)) = &self.trace else { return false };
        trace.record(hashed(hash, key));
        true
    }

    /// Samples of the keys that were looked up.
    pub fn requests(&self) -> &HotKeys {
        &self.requests
    }

    /// Samples of the keys that were loaded, weighed by the nanoseconds of their loads.
    pub fn loads(&self) -> &HotKeys {
        &self.loads
    }

    /// The last events.
    pub fn events(&self) -> &RecentEvents {
        &self.events
    }

    /// Names a key.
    pub fn name(&self, key: &(dyn Any + Send + Sync)) -> KeyName {
        reentrancy::within(|| (self.name)(key))
    }

    /// Records a look-up that was picked as a sample.
    #[cold]
    pub(crate) fn requested(&self, key: &(dyn Any + Send + Sync)) {
        self.requests.add(self.name(key), 1);
    }

    /// Records a load.
    pub(crate) fn loaded(&self, key: &Key, time: Duration) {
        if self.loads.picks_next() {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            self.loads.add(self.name(key.as_any()), nanos);
        }
    }

    /// Whether events that name a key are kept.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.events.is_watched()
    }

    /// A key for an event that only this observer hears of.
    pub(crate) fn name_for_event(&self, key: &(dyn Any + Send + Sync)) -> Arc<Key> {
        Arc::new(Key::cloneable(self.name(key)))
    }

    /// Keeps an event.
    pub(crate) fn note(&self, event: &Event<Key>) {
        if event.key().is_some() && !self.is_watched() {
            return;
        }
        let name = |key: Arc<Key>| {
            let named = key.downcast_ref::<KeyName>().cloned();
            Some(Arc::new(named.unwrap_or_else(|| self.name(key.as_any()))))
        };
        if let Some(event) = event.clone().map_key(name) {
            self.events.push(event);
        }
    }

    /// Returns a function that reports what memory drops by itself, to this observer and to `listener`.
    pub fn on_departure(self: &Arc<Self>, listener: Option<OnDeparture>) -> OnDeparture {
        let observer = Arc::clone(self);
        Box::new(move |key, departure| {
            if observer.is_watched() {
                let name = Arc::new(observer.name(key.as_any()));
                observer.events.push(departed(name, departure));
            }
            if let Some(listener) = &listener {
                listener(key, departure);
            }
        })
    }
}

/// The hash of a key, which is that of its borrowed forms.
#[cold]
fn hashed(hash: &RandomState, key: &dyn AnyForm) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = hash.build_hasher();
    key.feed(&mut hasher);
    hasher.finish()
}

fn departed(key: Arc<KeyName>, departure: Departure) -> Event<KeyName> {
    let (tier, Departure { cause, home, bytes }) = (TierKind::Memory, departure);
    match cause {
        DepartureCause::Expired => Event::Expired { key, tier },
        DepartureCause::Evicted => {
            Event::Evicted { key: Some(key), count: 1, tier, home, bytes, cause: Cause::Capacity }
        }
    }
}

/// The time of an event, by the wall clock.
pub(crate) fn wall_time() -> Time {
    use larder_core::clock::{Clock, SystemClock};
    SystemClock.now()
}
