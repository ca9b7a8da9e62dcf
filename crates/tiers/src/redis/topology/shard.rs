//! One server, its connection, and the results of its last survey.

use std::sync::Arc;
use std::time::Instant;

use larder_core::stats::ServerFacts;
use larder_core::tier::Usage;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::redis::connection::address::Address;
use crate::redis::connection::supervisor::Supervisor;

/// One server. `close` closes its connection and ends the task of its supervisor.
pub(in crate::redis) struct Shard {
    pub(in crate::redis) supervisor: Arc<Supervisor>,
    /// Its address, for a node of a cluster.
    pub(in crate::redis) address: Option<Address>,
    task: Mutex<Option<AbortHandle>>,
    survey: Mutex<Survey>,
}

/// Survey results: the server's facts and the usage of this cache there.
#[derive(Default)]
pub(in crate::redis) struct Survey {
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
    pub(in crate::redis) fn new(supervisor: Supervisor, address: Option<Address>) -> Self {
        Self { supervisor: Arc::new(supervisor), address, task: Mutex::new(None), survey: Mutex::default() }
    }

    /// Sets the task that runs the supervisor.
    pub(in crate::redis) fn set_task(&self, task: AbortHandle) {
        *self.task.lock() = Some(task);
        if self.supervisor.is_closed() {
            self.close();
        }
    }

    pub(in crate::redis) fn is_at(&self, address: &Address) -> bool {
        self.address.as_ref().is_some_and(|known| known.is_at(address))
    }

    pub(in crate::redis) fn close(&self) {
        self.supervisor.close();
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    pub(in crate::redis) fn with_survey<T>(&self, read: impl FnOnce(&mut Survey) -> T) -> T {
        read(&mut self.survey.lock())
    }
}
