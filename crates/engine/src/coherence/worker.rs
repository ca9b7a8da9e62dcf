//! The thread that applies what other nodes emit, and makes up for what they are owed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use larder_core::key::EncodedKey;

use super::Nodes;
use crate::engine::Engine;
use larder_exec::runtime::block_on;

/// How far the others were heard when what there is to do was taken.
#[derive(Clone, Copy)]
struct Heard {
    contact: Option<Instant>,
    invalidations: u64,
}

/// What there is to do.
struct Work {
    keys: VecDeque<EncodedKey>,
    marked: bool,
    repair: bool,
}

/// Applies notices and repairs until the cache ends.
pub(super) fn work(engine: &Weak<Engine>, nodes: &Arc<Nodes>) {
    while !nodes.ended.load(Ordering::Acquire) {
        // What is told up to here is in the queue that is taken next.
        let heard = nodes.heard();
        let Some(work) = nodes.next() else { return };
        let Some(engine) = engine.upgrade() else { return };
        let repair = work.repair;
        nodes.apply(&engine, work, heard);
        if repair {
            engine.reconcile_key(|| nodes.apply_told(&engine));
        }
        if engine.has_repairs() {
            nodes.reconcile_later();
        }
    }
}

impl Nodes {
    /// What there is to do, once there is something; `None` at the end.
    fn next(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        loop {
            if self.ended.load(Ordering::Acquire) {
                return None;
            }
            let repair = queue.repair_at.is_some_and(|at| at <= Instant::now());
            if repair || queue.marked || !queue.keys.is_empty() {
                queue.repair_at = queue.repair_at.filter(|_| !repair);
                let marked = std::mem::take(&mut queue.marked);
                return Some(Work { keys: std::mem::take(&mut queue.keys), marked, repair });
            }
            match queue.repair_at {
                Some(at) => drop(self.wake.wait_until(&mut queue, at)),
                None => self.wake.wait(&mut queue),
            }
        }
    }

    /// When there was contact last, and what was told of invalidations by then.
    fn heard(&self) -> Heard {
        Heard { contact: self.plan.bus.last_contact(), invalidations: self.replica.told() }
    }

    /// Applies what was told meanwhile. For the one thread that applies.
    fn apply_told(&self, engine: &Arc<Engine>) {
        let heard = self.heard();
        let mut queue = self.queue.lock();
        let keys = std::mem::take(&mut queue.keys);
        let work = Work { keys, marked: std::mem::take(&mut queue.marked), repair: false };
        drop(queue);
        if work.marked || !work.keys.is_empty() {
            self.apply(engine, work, heard);
        }
    }

    fn apply(&self, engine: &Arc<Engine>, work: Work, heard: Heard) {
        let Work { keys, marked, repair } = work;
        let applied = std::panic::AssertUnwindSafe(|| keys.iter().for_each(|key| engine.outdate(key)));
        if std::panic::catch_unwind(applied).is_err() {
            tracing::error!(target: "larder", "a key or a value panicked when another node changed it");
            self.gap();
        }
        if marked || repair {
            block_on(engine.compare_epochs(self));
        }
        self.applied_up_to(heard.contact.filter(|_| self.replica.has(heard.invalidations)), keys.len());
    }

    fn applied_up_to(&self, contact: Option<Instant>, count: usize) {
        contact.iter().for_each(|contact| self.applied.raise(*contact));
        self.pending.fetch_sub(count, Ordering::AcqRel);
        self.changed.notify(usize::MAX);
    }
}
