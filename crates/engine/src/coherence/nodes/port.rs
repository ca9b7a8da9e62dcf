//! The answers of this node to the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use larder_core::Result;
use larder_core::bus::Coherence;
use larder_core::invalidation::Invalidation;
use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, TierKind};

use super::notices::BusListener;
use super::{NodeCoherence, worker};
use crate::coherence::copy_tag::CopyTag;
use crate::coherence::local_copies::{Confirmation, LocalCopy, SharedView};
use crate::coherence::local_fallback::{LocalWrite, Stay};
use crate::coherence::port::{CoherencePort, PortReply};
use crate::engine::Engine;
use crate::key_lock::flight::Flight;
use crate::tier_stack::tier_handle::TierHandle;
use crate::write::precondition::Precondition;
use larder_exec::runtime::block_on;

impl CoherencePort for NodeCoherence {
    /// Starts the worker thread that applies the notices of other nodes.
    fn start(self: Arc<Self>, engine: &Arc<Engine>) {
        self.plan.bus.listen(Arc::new(BusListener(Arc::downgrade(&self))));
        // Synchronize first: otherwise every existing invalidation would apply to an entry stamped
        // earlier. Without contact this fails at once, and the worker retries.
        let _later = block_on(self.replica.sync());
        let (engine, nodes) = (Arc::downgrade(engine), Arc::clone(&self));
        let worker = move || worker::work(&engine, &nodes);
        match std::thread::Builder::new().name("larder-nodes".into()).spawn(worker) {
            Ok(worker) => *self.worker.lock() = Some(worker),
            // Without the thread no notice is applied, and no copy answers by itself.
            Err(error) => tracing::error!(target: "larder", %error, "cannot start the coherence thread"),
        }
    }

    /// Waits for the worker thread, unless the caller is that thread.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        drop(self.queue.lock());
        self.wake.notify_all();
        let worker = self.worker.lock().take();
        if let Some(worker) = worker.filter(|worker| worker.thread().id() != std::thread::current().id()) {
            // Panics of user code were caught in the worker.
            let _ended = worker.join();
        }
    }

    fn confirms_copies(&self) -> bool {
        true
    }

    fn contact(&self) -> Option<bool> {
        Some(self.is_up_to_date())
    }

    fn is_current(&self, version: Option<EntryVersion>) -> bool {
        version.is_some_and(|copy_tag| CopyTag::is_of(copy_tag, self.epoch.load(Ordering::Acquire)))
    }

    fn begin_copy(&self, _: &Engine, _: &EncodedKey) -> Option<EntryVersion> {
        self.copy_tag()?.of(0)
    }

    fn finish_copy(&self, begun: EntryVersion, identity: u64) -> Option<EntryVersion> {
        CopyTag::from(begun).of(identity)
    }

    fn copy_tag(&self) -> Option<CopyTag> {
        Some(CopyTag::at(self.epoch.load(Ordering::Acquire)))
    }

    fn note_copy(&self, key: &EncodedKey) {
        if !self.long_keys.note(key, self.plan.bus.digest_in_notices(key)) {
            self.miss_window();
        }
    }

    /// The entry in its tier was replaced, so the copy cannot be confirmed any more.
    fn touched_copy(&self, version: Option<EntryVersion>, home: TierKind) -> Option<EntryVersion> {
        version.filter(|_| home == TierKind::Memory)
    }

    fn serves_unconfirmed(&self) -> bool {
        self.plan.coherence == Coherence::Available
    }

    fn confirm_local<'a>(
        &'a self,
        engine: &'a Engine,
        copy: LocalCopy<'a>,
        view: &SharedView,
    ) -> PortReply<'a, Confirmation> {
        engine.confirm_local(self, copy, view)
    }

    fn confirms_heads(&self, handle: &TierHandle) -> bool {
        !handle.is_among_nodes()
    }

    /// Until the version was read from the shared tier, nothing can be required of it.
    fn precondition_now(&self, _: &Engine, _: &EncodedKey) -> Precondition {
        Precondition::Unknown
    }

    fn precondition_at_read(&self, _: Option<EntryVersion>) -> Precondition {
        Precondition::Unknown
    }

    /// The shared tier forgets removals. So the version from before a load that took longer than half
    /// of that time says nothing any more.
    fn precondition_after(&self, load: Precondition, flight: &Flight) -> Precondition {
        let is_over = |moment: Instant| moment < Instant::now();
        match flight.lasted(self.removals_remembered / 2).is_some_and(is_over) {
            true => Precondition::Unknown,
            false => load,
        }
    }

    fn lease_changes(&self) -> Option<&event_listener::Event> {
        Some(&self.changed)
    }

    fn stay<'a>(&'a self, engine: &'a Engine, write: LocalWrite<'a>) -> PortReply<'a, Stay> {
        match write.stack.among_nodes() {
            None => PortReply::Now(Stay::Local),
            Some(handle) => PortReply::Later(Box::pin(engine.stay(self, handle, write))),
        }
    }

    fn note_local(&self, key: &EncodedKey, version: Option<EntryVersion>) {
        match version {
            Some(version) => self.local_keys.note(key, version),
            None => self.local_keys.forget(key),
        }
    }

    fn expect_own_write(&self, key: &EncodedKey, identity: u64) {
        self.expected.expect(key, identity);
    }

    fn invalidate<'a>(
        &'a self,
        engine: &'a Engine,
        invalidations: Vec<Invalidation>,
    ) -> PortReply<'a, Result<()>> {
        PortReply::Later(Box::pin(async move {
            let made = self.replica.make(invalidations, engine.timeline.now()).await;
            if made.is_err() {
                self.reconcile_later();
            }
            made
        }))
    }

    fn send_pending<'a>(&'a self, engine: &'a Engine) -> PortReply<'a, ()> {
        PortReply::Later(Box::pin(engine.send_pending_invalidations(self)))
    }
}
