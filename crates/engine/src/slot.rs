//! A tier in its place: seen through its layers, with what is not trusted in it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::place::TierFacts;
use larder_core::stats::{TierCounters, TierStats};
use larder_core::tier::{Tier, TierKind};
use larder_core::{Bytes, Result};
use parking_lot::Mutex;

use crate::layers::Observe;
use crate::wait::block_on;

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

    /// Makes a tier that was just opened empty, where it holds anything.
    ///
    /// # Errors
    /// That of the tier.
    pub fn empty(&self) -> Result<()> {
        match self.tier.usage().entries {
            0 => Ok(()),
            _ => block_on(self.clear()),
        }
    }

    /// Whether its tier is of this kind.
    pub fn has_kind(&self, kind: TierKind) -> bool {
        self.kind == kind
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
        let healthy = !self.given_up.load(Ordering::Relaxed) && self.tier.healthy();
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

    /// The head of the frame of `key`, and perhaps more of it, unless what
    /// lies there is not trusted.
    pub(crate) async fn head(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        if !self.trusts(key) {
            return Ok(None);
        }
        self.tier.head(key).await
    }

    pub(crate) async fn put(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        match self.tier.put(key, frame).await {
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
