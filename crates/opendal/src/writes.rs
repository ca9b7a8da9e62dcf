//! The order of the writes to each object.
//!
//! A caller that gives a call up (after the time limit of the engine, say) does not end it: the service may have
//! received it. A later write of the same object must not be overtaken by it. So a write holds the lock of its
//! object until the service has answered; and if the connection was lost instead, for a moment longer, since
//! the service may still be working on what it received.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use larder_core::tier::Usage;
use larder_core::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, RwLock, oneshot};

use crate::failure::{closed, failed, is_unanswered, timed_out};

/// Objects share this many locks.
const LOCKS: usize = 1024;
/// How long the service has to answer a call.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long the service may go on with a call whose connection was lost.
pub(crate) const SETTLES_WITHIN: Duration = Duration::from_secs(1);
/// Objects whose length is known, at most. Beyond them the usage is an estimate.
const LENS_MAX: usize = 1 << 20;

/// The locks of the objects, and how much they hold.
pub(crate) struct ObjectWrites {
    locks: Vec<Arc<tokio::sync::Mutex<()>>>,
    /// Held by each write; alone by a call that ends all of them.
    all: Arc<RwLock<()>>,
    lens: Mutex<KnownLens>,
}

#[derive(Default)]
struct KnownLens {
    of_objects: HashMap<u128, u64>,
    usage: Usage,
    /// Whether there may be objects that were not listed.
    is_unknown: bool,
}

/// How a call to the service ended.
pub(crate) enum Ended {
    Failed(opendal::Error),
    TimedOut,
}

impl Ended {
    fn is_unanswered(&self) -> bool {
        match self {
            Self::Failed(error) => is_unanswered(error),
            Self::TimedOut => true,
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Failed(error) => failed(error),
            Self::TimedOut => timed_out(),
        }
    }
}

/// The output of a call, unless the service takes too long.
pub(crate) async fn within<T>(
    call: impl Future<Output = std::result::Result<T, opendal::Error>>,
) -> std::result::Result<T, Ended> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => answer.map_err(Ended::Failed),
        Err(_) => Err(Ended::TimedOut),
    }
}

impl ObjectWrites {
    pub(crate) fn new() -> Self {
        let locks = (0..LOCKS).map(|_| Arc::default()).collect();
        Self { locks, all: Arc::default(), lens: Mutex::default() }
    }

    async fn lock(&self, digest: u128) -> OwnedMutexGuard<()> {
        let lock = &self.locks[(digest % LOCKS as u128) as usize];
        Arc::clone(lock).lock_owned().await
    }

    /// Makes a write of one object after the earlier ones.
    pub(crate) async fn write<T: Send + 'static>(
        self: Arc<Self>,
        digest: u128,
        call: impl Future<Output = std::result::Result<T, Ended>> + Send + 'static,
    ) -> Result<T> {
        let all = Arc::clone(&self.all).read_owned().await;
        let lock = self.lock(digest).await;
        let (give, take) = oneshot::channel();
        tokio::spawn(async move {
            let outcome = call.await;
            let is_unanswered = outcome.as_ref().is_err_and(Ended::is_unanswered);
            // The caller may have gone away.
            let _given = give.send(outcome);
            if is_unanswered {
                tokio::time::sleep(SETTLES_WITHIN).await;
            }
            drop((lock, all));
        });
        match take.await {
            Ok(outcome) => outcome.map_err(Ended::into_error),
            Err(_) => Err(closed()),
        }
    }

    /// Makes a call when no write is in progress, and keeps new ones waiting until its end.
    pub(crate) async fn alone<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let _alone = self.all.write().await;
        call.await
    }

    pub(crate) fn stored(&self, digest: u128, len: u64) {
        let lens = &mut *self.lens.lock();
        let former = lens.of_objects.get(&digest).copied();
        if former.is_some() || lens.of_objects.len() < LENS_MAX {
            lens.of_objects.insert(digest, len);
        }
        lens.usage.entries += u64::from(former.is_none());
        lens.usage.bytes = (lens.usage.bytes + len).saturating_sub(former.unwrap_or(0));
    }

    pub(crate) fn removed(&self, digest: u128) {
        let lens = &mut *self.lens.lock();
        let Some(len) = lens.of_objects.remove(&digest) else { return };
        lens.usage.entries = lens.usage.entries.saturating_sub(1);
        lens.usage.bytes = lens.usage.bytes.saturating_sub(len);
    }

    /// Nothing is left, or nothing is known of what is there.
    pub(crate) fn reset(&self, is_unknown: bool) {
        *self.lens.lock() = KnownLens { is_unknown, ..KnownLens::default() };
    }

    pub(crate) fn usage(&self) -> Usage {
        let lens = self.lens.lock();
        Usage { entries: lens.usage.entries.max(u64::from(lens.is_unknown)), ..lens.usage }
    }
}
