//! Loading: one flight a key, whoever asks.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use larder_core::key::EncodedKey;
use larder_core::memory::MemoryStore;
use thiserror::Error;

use crate::engine::Engine;
use crate::flight::{Flight, Outcome};
use crate::gate::{Claim, Entrance, Leader};
use crate::wait::{Inline, Wait};

/// Why `load` has no value.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed; all who waited for it share the error.
    #[error("the loader failed")]
    Loader(Arc<E>),
    /// The loader panicked. The panic was caught.
    #[error("the loader panicked")]
    Panicked,
    /// The cache or its runtime ended before the load did.
    #[error("the cache was closed while the load was in progress")]
    Closed,
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Loader(error) => Self::Loader(Arc::clone(error)),
            Self::Panicked => Self::Panicked,
            Self::Closed => Self::Closed,
        }
    }
}

/// What a caller with a missing key came to.
enum Approach<K, V> {
    /// It leads the flight, with the key as tiers see it.
    Lead(Leader<K, V>, Option<EncodedKey>),
    /// The value is there.
    Have(V),
    /// Another flight ended for it.
    Ended(Outcome<V>, K),
    /// It may not wait, or there is nothing to store into: it loads alone.
    Alone,
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
    /// When the leader is cancelled or panics, or fails with an error of
    /// another type, one of those who wait leads next, with its own loader.
    pub async fn try_get_with<W: Wait, E, F, Fut>(self: &Arc<Self>, key: K, loader: F) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        let mut key = key;
        loop {
            match self.approach::<W>(key).await {
                Approach::Have(value) => return Ok(value),
                Approach::Alone => return loader().await.map_err(Arc::new),
                Approach::Lead(leader, encoded) => {
                    return self.lead::<W, _, _>(leader, encoded, loader).await;
                }
                Approach::Ended(Outcome::Value(value), _) => return Ok(value),
                Approach::Ended(Outcome::Failed(error), key_back) => match error.downcast() {
                    Ok(error) => return Err(error),
                    Err(_) => key = key_back,
                },
                Approach::Ended(Outcome::Panicked | Outcome::Abandoned, key_back) => key = key_back,
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

    /// The value of `key`; where it is missing, from `loader`. A panic of the
    /// loader is caught, and all who wait get its outcome, whatever it is.
    ///
    /// The flight belongs to this future: whoever wants it to survive its
    /// first caller spawns it.
    pub async fn load<W: Wait, E, F, Fut>(self: &Arc<Self>, key: K, loader: F) -> Result<V, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        let mut key = key;
        loop {
            match self.approach::<W>(key).await {
                Approach::Have(value) => return Ok(value),
                Approach::Alone => return caught(loader).await.map_err(LoadError::from),
                Approach::Lead(leader, encoded) => {
                    return self.lead_caught::<W, _, _>(leader, encoded, loader).await;
                }
                Approach::Ended(Outcome::Value(value), _) => return Ok(value),
                Approach::Ended(Outcome::Panicked, _) => return Err(LoadError::Panicked),
                Approach::Ended(Outcome::Failed(error), key_back) => match error.downcast() {
                    Ok(error) => return Err(LoadError::Loader(error)),
                    Err(_) => key = key_back,
                },
                Approach::Ended(Outcome::Abandoned, key_back) => key = key_back,
            }
        }
    }

    /// One turn of a caller: finds the value, a flight to wait for, or the lead.
    async fn approach<W: Wait>(self: &Arc<Self>, mut key: K) -> Approach<K, V> {
        if self.is_closed() {
            return Approach::Alone;
        }
        let hash = self.gates.hash(&key);
        let Ok(encoded) = self.encode_key(&key) else { return Approach::Alone };
        loop {
            if let Some(value) = self.hit(&key) {
                return Approach::Have(value);
            }
            match self.gates.enter(hash, key, W::IS_TASK) {
                Entrance::Wait(key_back, listener) => {
                    key = key_back;
                    W::event(listener).await;
                }
                Entrance::Join(key, flight) => return self.join::<W>(&flight, key).await,
                Entrance::Lead(leader) => return self.look_again::<W>(leader, encoded, hash).await,
            }
        }
    }

    async fn join<W: Wait>(&self, flight: &Flight<V>, key: K) -> Approach<K, V> {
        if !flight.may_be_joined::<W>() {
            return Approach::Alone;
        }
        let outcome = flight.outcome::<W>().await.clone();
        if !matches!(outcome, Outcome::Abandoned) {
            self.counters.joins.increment();
        }
        Approach::Ended(outcome, key)
    }

    /// A leader looks once more: the entry may have come between its miss and
    /// its lead, or lie beyond memory.
    async fn look_again<W: Wait>(
        self: &Arc<Self>,
        leader: Leader<K, V>,
        encoded: Option<EncodedKey>,
        hash: u64,
    ) -> Approach<K, V> {
        if let Some(value) = leader.key().and_then(|key| self.hit(key)) {
            leader.end(Outcome::Value(value.clone()));
            return Approach::Have(value);
        }
        let encoded = encoded.map(|encoded| self.based_on_now(encoded));
        if let Some(encoded) = &encoded {
            // A tier that fails is as good as empty here, and was counted.
            if let Ok(Some(found)) = self.seek::<W>(encoded.clone(), hash).await {
                let value = found.decoded.value;
                leader.end(Outcome::Value(value.clone()));
                return Approach::Have(value);
            }
        }
        self.counters.misses.increment();
        Approach::Lead(leader, encoded)
    }

    async fn lead<W: Wait, E, Fut>(
        self: &Arc<Self>,
        leader: Leader<K, V>,
        encoded: Option<EncodedKey>,
        loader: impl FnOnce() -> Fut,
    ) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>>,
    {
        let flight = Arc::clone(&leader.flight);
        let watch = Watch::start(self);
        match flight.run(async { loader().await }).await {
            Ok(value) => {
                let cost = watch.succeeded();
                self.publish::<W>(leader, encoded, value.clone(), cost).await;
                Ok(value)
            }
            Err(error) => {
                let error = Arc::new(error);
                leader.end(Outcome::Failed(Arc::clone(&error) as Arc<dyn Any + Send + Sync>));
                Err(error)
            }
        }
    }

    async fn lead_caught<W: Wait, E, Fut>(
        self: &Arc<Self>,
        leader: Leader<K, V>,
        encoded: Option<EncodedKey>,
        loader: impl FnOnce() -> Fut,
    ) -> Result<V, LoadError<E>>
    where
        E: Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>>,
    {
        let flight = Arc::clone(&leader.flight);
        let watch = Watch::start(self);
        match flight.run(caught(loader)).await {
            Ok(value) => {
                let cost = watch.succeeded();
                self.publish::<W>(leader, encoded, value.clone(), cost).await;
                Ok(value)
            }
            Err(Trouble::Failed(error)) => {
                let error = Arc::new(error);
                leader.end(Outcome::Failed(Arc::clone(&error) as Arc<dyn Any + Send + Sync>));
                Err(LoadError::Loader(error))
            }
            Err(Trouble::Panicked) => {
                leader.end(Outcome::Panicked);
                Err(LoadError::Panicked)
            }
        }
    }

    /// Stores a loaded value unless its entry changed since the flight began,
    /// and ends the flight with it in either case.
    async fn publish<W: Wait>(
        self: &Arc<Self>,
        mut leader: Leader<K, V>,
        encoded: Option<EncodedKey>,
        value: V,
        cost: Duration,
    ) {
        let engine = Arc::clone(self);
        let section = async move {
            if let Some((ticket, key)) = engine.ticket(&mut leader).await {
                // What no tier took was counted there; the caller has its value.
                let _counted = engine.store(key, encoded, value.clone(), Some(cost)).await;
                engine.counters.published.increment();
                drop(ticket);
            } else {
                engine.counters.superseded.increment();
            }
            leader.end(Outcome::Value(value));
        };
        // A runtime that shuts down drops the section, and the flight with it.
        let _ended = W::section(self.has_tiers(), section).await;
    }

    async fn ticket(&self, leader: &mut Leader<K, V>) -> Option<(crate::gate::Ticket<K, V>, K)> {
        if self.is_closed() {
            return None;
        }
        loop {
            match leader.claim() {
                Claim::Granted(granted) => return Some(granted),
                Claim::Superseded => return None,
                Claim::Wait(listener) => Inline::event(listener).await,
            }
        }
    }
}

/// Times a loader, and counts it as failed unless it is told otherwise.
struct Watch<'a> {
    counters: &'a larder_core::stats::CacheCounters,
    started: Instant,
    failed: bool,
}

impl<'a> Watch<'a> {
    fn start<K, V, M>(engine: &'a Engine<K, V, M>) -> Self {
        engine.counters.loads.increment();
        Self { counters: &engine.counters, started: Instant::now(), failed: true }
    }

    fn succeeded(mut self) -> Duration {
        self.failed = false;
        self.started.elapsed()
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.failed {
            self.counters.load_failures.increment();
        }
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.load_nanos.add(nanos);
    }
}

/// Why a loader whose panics are caught has no value.
enum Trouble<E> {
    Failed(E),
    Panicked,
}

impl<E> From<Trouble<E>> for LoadError<E> {
    fn from(trouble: Trouble<E>) -> Self {
        match trouble {
            Trouble::Failed(error) => Self::Loader(Arc::new(error)),
            Trouble::Panicked => Self::Panicked,
        }
    }
}

/// Runs a loader and catches its panic, when it is called and when it is polled.
async fn caught<V, E, Fut>(loader: impl FnOnce() -> Fut) -> Result<V, Trouble<E>>
where
    Fut: Future<Output = Result<V, E>>,
{
    let Ok(future) = catch_unwind(AssertUnwindSafe(loader)) else { return Err(Trouble::Panicked) };
    match (Caught { future: Box::pin(future) }).await {
        Some(result) => result.map_err(Trouble::Failed),
        None => Err(Trouble::Panicked),
    }
}

/// A future that yields `None` where its inner one panics.
struct Caught<F> {
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Caught<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    }
}
