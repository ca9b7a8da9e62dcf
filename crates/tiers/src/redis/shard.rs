//! One server, its connection, and the results of its last survey.

use std::sync::Arc;
use std::time::Instant;

use larder_core::stats::ServerFacts;
use larder_core::tier::Usage;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::address::Address;
use super::supervisor::Link;

/// One server. Its link is closed, and its task ended, with the last handle.
pub(super) struct Shard {
    pub(super) link: Arc<Link>,
    /// Its address, for a node of a cluster.
    pub(super) address: Option<Address>,
    supervisor: Mutex<Option<AbortHandle>>,
    counted: Mutex<Counted>,
}

/// Survey results: the server's facts and the usage of this cache there.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) usage: Usage,
    pub(super) server: Option<ServerFacts>,
    pub(super) at: Option<Instant>,
    /// Whether entries were written since the survey.
    pub(super) changed: bool,
    /// Whether entries of former epochs were seen.
    pub(super) orphans: bool,
    /// Whether keys of an earlier build were seen before.
    pub(super) former: bool,
}

impl Shard {
    pub(super) fn new(link: Link, address: Option<Address>) -> Self {
        Self { link: Arc::new(link), address, supervisor: Mutex::new(None), counted: Mutex::default() }
    }

    /// Sets the task that keeps the link.
    pub(super) fn keep(&self, supervisor: AbortHandle) {
        *self.supervisor.lock() = Some(supervisor);
        if self.link.is_closed() {
            self.close();
        }
    }

    pub(super) fn is_at(&self, address: &Address) -> bool {
        self.address.as_ref().is_some_and(|known| known.is_at(address))
    }

    pub(super) fn close(&self) {
        self.link.close();
        if let Some(supervisor) = self.supervisor.lock().take() {
            supervisor.abort();
        }
    }

    pub(super) fn with_counted<T>(&self, read: impl FnOnce(&mut Counted) -> T) -> T {
        read(&mut self.counted.lock())
    }
}
