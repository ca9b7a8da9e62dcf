//! A server, the connection to it, and what was learnt of it.

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
    /// Where it is, of a node of a cluster.
    pub(in crate::redis) address: Option<Address>,
    supervisor: Mutex<Option<AbortHandle>>,
    counted: Mutex<Counted>,
}

/// What was learnt of a server and of what we have there.
#[derive(Default)]
pub(in crate::redis) struct Counted {
    pub(in crate::redis) usage: Usage,
    pub(in crate::redis) server: Option<ServerFacts>,
    pub(in crate::redis) at: Option<Instant>,
    /// Entries were written since.
    pub(in crate::redis) changed: bool,
    /// Entries of former generations were seen.
    pub(in crate::redis) orphans: bool,
    /// Keys of an earlier build were seen before.
    pub(in crate::redis) former: bool,
}

impl Shard {
    pub(in crate::redis) fn new(link: Link, address: Option<Address>) -> Self {
        Self { link: Arc::new(link), address, supervisor: Mutex::new(None), counted: Mutex::default() }
    }

    /// Takes the task that keeps the link.
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
