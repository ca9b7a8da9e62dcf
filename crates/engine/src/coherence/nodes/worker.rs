//! The worker thread: applies the notices of other nodes, and reconciles pending writes.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use larder_core::key::EncodedKey;

use super::NodeCoherence;
use crate::engine::Engine;
use larder_exec::runtime::block_on;

/// How much had arrived from other nodes when the worker took its next work.
#[derive(Clone, Copy)]
struct Received {
    contact: Option<Instant>,
    invalidations: u64,
}

/// Work for one round of the worker.
struct Work {
    keys: VecDeque<EncodedKey>,
    invalidated: bool,
    repair: bool,
}

/// Applies notices and reconciles until the cache ends.
pub(super) fn work(engine: &Weak<Engine>, nodes: &Arc<NodeCoherence>) {
    while !nodes.ended.load(Ordering::Acquire) {
        // Notices received up to here are in the queue that `next` takes.
        let received = nodes.received();
        let Some(work) = nodes.next() else { return };
        let Some(engine) = engine.upgrade() else { return };
        let repair = work.repair;
        nodes.apply(&engine, work, received);
        if repair {
            engine.reconcile_key(|| nodes.apply_received(&engine));
        }
        if engine.has_repairs() {
            nodes.reconcile_later();
        }
    }
}

impl NodeCoherence {
    /// Waits for work and returns it; `None` once the cache ends.
    fn next(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        loop {
            if self.ended.load(Ordering::Acquire) {
                return None;
            }
            let repair = queue.repair_at.is_some_and(|at| at <= Instant::now());
            if repair || queue.invalidated || !queue.keys.is_empty() {
                queue.repair_at = queue.repair_at.filter(|_| !repair);
                let invalidated = std::mem::take(&mut queue.invalidated);
                return Some(Work { keys: std::mem::take(&mut queue.keys), invalidated, repair });
            }
            match queue.repair_at {
                Some(at) => drop(self.wake.wait_until(&mut queue, at)),
                None => self.wake.wait(&mut queue),
            }
        }
    }

    /// Returns the last contact, and how many announcements of invalidations arrived by
    /// then.
    fn received(&self) -> Received {
        Received { contact: self.plan.bus.last_contact(), invalidations: self.replica.announcements() }
    }

    /// Applies the notices that arrived meanwhile. Only the worker thread calls this.
    fn apply_received(&self, engine: &Arc<Engine>) {
        let received = self.received();
        let mut queue = self.queue.lock();
        let keys = std::mem::take(&mut queue.keys);
        let work = Work { keys, invalidated: std::mem::take(&mut queue.invalidated), repair: false };
        drop(queue);
        if work.invalidated || !work.keys.is_empty() {
            self.apply(engine, work, received);
        }
    }

    fn apply(&self, engine: &Arc<Engine>, work: Work, received: Received) {
        let Work { keys, invalidated, repair } = work;
        let applied = std::panic::AssertUnwindSafe(|| keys.iter().for_each(|key| engine.outdate(self, key)));
        if std::panic::catch_unwind(applied).is_err() {
            tracing::error!(target: "larder", "code of a key or value panicked while a notice of another node was handled");
            self.miss_window();
        }
        if invalidated || repair {
            block_on(engine.sync_invalidations(self));
        }
        self.applied_up_to(
            received.contact.filter(|_| self.replica.covers(received.invalidations)),
            keys.len(),
        );
    }

    fn applied_up_to(&self, contact: Option<Instant>, count: usize) {
        contact.iter().for_each(|contact| self.applied.raise(*contact));
        self.pending.fetch_sub(count, Ordering::AcqRel);
        self.changed.notify(usize::MAX);
    }
}
