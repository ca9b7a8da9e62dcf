//! A tier in its place: seen through its layers, with what is not trusted in it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::place::TierFacts;
use larder_core::stats::{TierCounters, TierStats};
use larder_core::stream::Stored;
use larder_core::tier::{Draft, Tier, TierKind};
use larder_core::{Bytes, Result};
use parking_lot::Mutex;

use crate::layers::Observe;

/// Entries of one tier that may be distrusted before the whole tier is.
const DISTRUSTED_MAX: usize = 10_000;

/// A tier of bytes as the engine uses it.
///
/// Where a former copy could not be removed, it must never be served: its key
/// is distrusted until a removal or a write succeeds. Beyond
/// `DISTRUSTED_MAX` keys the tier is left alone until the cache is built anew.
pub struct Slot {
    tier: Observe<Arc<dyn Tier>>,
    kind: TierKind,
    counters: Arc<TierCounters>,
    distrusted: Mutex<HashSet<u128>>,
    distrusted_len: AtomicUsize,
    given_up: AtomicBool,
}

impl Slot {
    /// Puts `tier` in its place.
    pub fn new(tier: Arc<dyn Tier>) -> Self {
        let counters = Arc::new(TierCounters::default());
        Self {
            kind: tier.kind(),
            tier: Observe::new(tier, Arc::clone(&counters)),
            counters,
            distrusted: Mutex::default(),
            distrusted_len: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
        }
    }

    pub(crate) fn kind(&self) -> TierKind {
        self.kind
    }

    pub(crate) fn tier(&self) -> &dyn Tier {
        &self.tier
    }

    pub(crate) fn counters(&self) -> &TierCounters {
        &self.counters
    }

    pub(crate) fn facts(&self) -> TierFacts {
        let healthy = !self.given_up.load(Ordering::Relaxed);
        TierFacts { kind: self.kind, capability: self.tier.capability(), healthy }
    }

    pub(crate) fn stats(&self) -> TierStats {
        TierStats::new(self.kind, self.counters.snapshot(), self.tier.usage())
    }

    /// The frame of `key`, unless what lies there is not trusted.
    pub(crate) async fn get(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        if !self.trusts(key) {
            return Ok(None);
        }
        self.tier.get(key).await
    }

    pub(crate) async fn contains(&self, key: &EncodedKey) -> Result<bool> {
        if !self.trusts(key) {
            return Ok(false);
        }
        self.tier.contains(key).await
    }

    /// The frame of `key`, to be read in parts, unless it is not trusted.
    pub(crate) async fn open(&self, key: &EncodedKey) -> Result<Option<Stored>> {
        if !self.trusts(key) {
            return Ok(None);
        }
        self.tier.open(key).await
    }

    pub(crate) async fn put(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let put = self.tier.put(key, frame).await;
        self.settle(key, put).await
    }

    /// Makes a draft the entry.
    pub(crate) async fn publish(&self, key: &EncodedKey, draft: Draft, head: &[u8]) -> Result<()> {
        let published = self.tier.publish(key, draft, head).await;
        self.settle(key, published).await
    }

    async fn settle(&self, key: &EncodedKey, written: Result<()>) -> Result<()> {
        match written {
            Ok(()) => {
                self.trust(key);
                Ok(())
            }
            Err(error) => {
                // The former copy is outdated, whatever became of the new one.
                let _counted = self.remove(key).await;
                Err(error)
            }
        }
    }

    /// Removes the entry; on failure it is distrusted from now on.
    pub(crate) async fn remove(&self, key: &EncodedKey) -> Result<bool> {
        match self.tier.remove(key).await {
            Ok(removed) => {
                self.trust(key);
                Ok(removed)
            }
            Err(error) => {
                self.distrust(key);
                Err(error)
            }
        }
    }

    pub(crate) async fn clear(&self) -> Result<()> {
        let cleared = self.tier.clear().await;
        match &cleared {
            Ok(()) => {
                self.distrusted.lock().clear();
                self.distrusted_len.store(0, Ordering::Release);
                self.given_up.store(false, Ordering::Release);
            }
            Err(_) => self.given_up.store(true, Ordering::Release),
        }
        cleared
    }

    fn trusts(&self, key: &EncodedKey) -> bool {
        if self.given_up.load(Ordering::Acquire) {
            return false;
        }
        self.distrusted_len.load(Ordering::Acquire) == 0 || !self.distrusted.lock().contains(&key.digest())
    }

    fn trust(&self, key: &EncodedKey) {
        if self.distrusted_len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut distrusted = self.distrusted.lock();
        distrusted.remove(&key.digest());
        self.distrusted_len.store(distrusted.len(), Ordering::Release);
    }

    fn distrust(&self, key: &EncodedKey) {
        let mut distrusted = self.distrusted.lock();
        distrusted.insert(key.digest());
        self.distrusted_len.store(distrusted.len(), Ordering::Release);
        if distrusted.len() > DISTRUSTED_MAX && !self.given_up.swap(true, Ordering::AcqRel) {
            tracing::error!(target: "larder", tier = %self.kind, "too many removals failed: the tier is left alone");
        }
    }
}
