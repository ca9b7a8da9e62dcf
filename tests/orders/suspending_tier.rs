//! An asynchronous tier: it does not block, and its operations suspend.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Result};
use larder_testkit::HashMapTier;

use crate::director::turn;

/// A tier that suspends in every operation, and asserts that only one caller at a time changes an
/// entry. It holds no lock across a suspension.
pub(crate) struct SuspendingTier {
    inner: HashMapTier,
    blocking: bool,
    changing: Mutex<HashSet<Vec<u8>>>,
    /// Returns torn frames while set.
    pub(crate) tears: AtomicBool,
    pub(crate) closes: AtomicUsize,
    pub(crate) puts_after_close: AtomicUsize,
}

impl SuspendingTier {
    pub(crate) fn new() -> Arc<Self> {
        Self::of(false)
    }

    /// A tier that reports itself as blocking.
    pub(crate) fn blocking() -> Arc<Self> {
        Self::of(true)
    }

    fn of(blocking: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: HashMapTier::new(),
            blocking,
            changing: Mutex::default(),
            tears: AtomicBool::new(false),
            closes: AtomicUsize::new(0),
            puts_after_close: AtomicUsize::new(0),
        })
    }

    /// Suspends once, as a request or an answer does.
    async fn way(&self) {
        if !self.blocking {
            turn().await;
        }
    }

    fn change(&self, key: &EncodedKey) -> Changing<'_> {
        let key = key.as_bytes().to_vec();
        let alone = self.changing.lock().unwrap().insert(key.clone());
        assert!(alone, "two change an entry at a time");
        Changing { tier: self, key }
    }
}

struct Changing<'a> {
    tier: &'a SuspendingTier,
    key: Vec<u8>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.tier.changing.lock().unwrap().remove(&self.key);
    }
}

impl Tier for SuspendingTier {
    fn kind(&self) -> TierKind {
        self.inner.kind()
    }

    fn capability(&self) -> Capability {
        Capability { blocking: self.blocking, ..self.inner.capability() }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            self.way().await;
            let found = self.inner.get(key).await?;
            self.way().await;
            let torn = |bytes: Bytes| bytes.slice(..bytes.len() - 1);
            Ok(if self.tears.load(Ordering::Relaxed) { found.map(torn) } else { found })
        })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let _changing = self.change(key);
            let is_late = self.closes.load(Ordering::Relaxed) > 0;
            self.puts_after_close.fetch_add(usize::from(is_late), Ordering::Relaxed);
            self.way().await;
            self.inner.put(key, frame).await?;
            self.tears.store(false, Ordering::Relaxed);
            self.way().await;
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let _changing = self.change(key);
            self.way().await;
            let removed = self.inner.remove(key).await;
            self.way().await;
            removed
        })
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.way().await;
            self.inner.contains(key).await
        })
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let changing = self.changing.lock().unwrap().len();
            assert_eq!(changing, 0, "cleared while an entry was being changed");
            self.way().await;
            self.inner.clear().await
        })
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        self.inner.scan(visit)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.way().await;
            self.inner.flush().await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.closes.fetch_add(1, Ordering::Relaxed);
            if !self.blocking {
                turn().await;
            }
            self.inner.close().await
        })
    }
}
