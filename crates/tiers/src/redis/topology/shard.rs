//! One server, its connection, and the results of its last survey.

use std::sync::Arc;
use std::time::Instant;

use larder_core::stats::ServerFacts;
use larder_core::tier::Usage;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::redis::connection::address::Address;
use crate::redis::connection::supervisor::Link;

/// One server. Its link is closed, and its task ended, with the last handle.
pub(in crate::redis) struct Shard {
    pub(in crate::redis) link: Arc<Link>,
    /// Its address, for a node of a cluster.
    pub(in crate::redis) address: Option<Address>,
    supervisor: Mutex<Option<AbortHandle>>,
    counted: Mutex<Counted>,
}

/// Survey results: the server's facts and the usage of this cache there.
#[derive(Default)]
pub(in crate::redis) struct Counted {
    pub(in crate::redis) usage: Usage,
    pub(in crate::redis) server: Option<ServerFacts>,
    pub(in crate::redis) at: Option<Instant>,
    /// Whether entries were written since the survey.
    pub(in crate::redis) changed: bool,
    /// Whether entries of former epochs were seen.
    pub(in crate::redis) orphans: bool,
    /// Whether keys of an earlier build were seen before.
    pub(in crate::redis) former: bool,
}

impl Shard {
    pub(in crate::redis) fn new(link: Link, address: Option<Address>) -> Self {
        Self { link: Arc::new(link), address, supervisor: Mutex::new(None), counted: Mutex::default() }
    }

    /// Sets the task that keeps the link.
    pub(in crate::redis) fn keep(&self, supervisor: AbortHandle) {
        *self.supervisor.lock() = Some(supervisor);
        if self.link.is_closed() {
            self.close();
        }
    }

    pub(in crate::redis) fn is_at(&self, address: &Address) -> bool {
        self.address.as_ref().is_some_and(|known| known.is_at(address))
    }

    pub(in crate::redis) fn close(&self) {
        self.link.close();
        if let Some(supervisor) = self.supervisor.lock().take() {
            supervisor.abort();
        }
    }

    pub(in crate::redis) fn with_counted<T>(&self, read: impl FnOnce(&mut Counted) -> T) -> T {
        read(&mut self.counted.lock())
    }
}
