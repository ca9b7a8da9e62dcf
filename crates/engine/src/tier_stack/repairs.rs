//! Retries failed removals, and reconciles pending writes.

use std::sync::Arc;

use larder_core::events::Event;
use larder_core::key::EncodedKey;
use larder_core::{ErrorKind, Result};
use tracing::{Instrument, Span};

use crate::engine::Engine;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;
use larder_exec::runtime::block_on;
use larder_exec::uncancellable;

/// Number of failed removals that one caller retries on its way.
const BATCH: usize = 64;

impl Engine {
    /// Retries some failed removals, in the local tiers that accept removals again. Costs
    /// one atomic load per tier while nothing is quarantined.
    ///
    /// The caller must hold no write guard: a tier that is quarantined as a whole is
    /// cleared, which waits for all guards.
    pub(crate) async fn retry_due(self: &Arc<Self>) {
        // The worker thread of the coherence module reconciles the shared tier.
        let own = self.tiers().iter().filter(|handle| !handle.is_among_nodes());
        for handle in own {
            if handle.is_retry_due() {
                Box::pin(self.settle(handle, BATCH).instrument(self.repair_span(handle))).await;
            }
        }
    }

    /// Retries every failed removal in every tier, due or not.
    pub(crate) async fn retry_all(self: &Arc<Self>) {
        for handle in
            self.tiers().iter().filter(|handle| handle.quarantine().is_any() && !handle.is_read_only())
        {
            self.settle(handle, usize::MAX).instrument(self.repair_span(handle)).await;
        }
    }

    /// Returns a span for retrying and reconciling in `handle`.
    pub(crate) fn repair_span(&self, handle: &TierHandle) -> Span {
        tracing::debug_span!(target: "larder", "larder.repair", cache = self.lifecycle.name(), tier = %handle.kind())
    }

    /// Reconciles every pending write of the shared tier. The worker thread calls this,
    /// and runs `between` after each entry, so that notices do not wait for all of them.
    pub(crate) fn reconcile_key(self: &Arc<Self>, mut between: impl FnMut()) {
        let Some(stack) = &self.stack else { return };
        let is_due = |handle: &&TierHandle| handle.inner().healthy() && handle.quarantine().is_any();
        let Some(handle) = stack.among_nodes().filter(is_due) else { return };
        let span = self.repair_span(handle);
        if handle.quarantine().is_whole() {
            return block_on(self.settle(handle, usize::MAX).instrument(span));
        }
        for pending in handle.quarantine().some(usize::MAX) {
            if is_away(&block_on(self.repair(stack, handle, &pending).instrument(span.clone()))) {
                return;
            }
            between();
        }
    }

    /// Counts the pending writes that the shared tier will never get, because this cache
    /// ends.
    pub(crate) fn give_up_owed(&self) {
        let lost = self.among_nodes().map_or(0, |handle| handle.quarantine().give_up());
        self.counters.repairs_lost.add(lost);
        if lost > 0 {
            tracing::warn!(target: "larder", cache = self.lifecycle.name(), lost, "pending changes were not sent to other nodes: the shared tier is unavailable");
        }
    }

    async fn settle(self: &Arc<Self>, handle: &TierHandle, max: usize) {
        let Some(stack) = &self.stack else { return };
        // Rare and slow, so it must not run on an executor.
        uncancellable::on_a_thread().await;
        if handle.quarantine().is_whole() {
            let Ok(_closed) = self.key_locks.close().await else { return };
            // Another caller may have cleared the tier while this one waited.
            if !handle.quarantine().is_whole() {
                return;
            }
            // The layer counts a failure, and the quarantine stays.
            if handle.clear().await.is_ok() {
                self.events.emit(|| Event::Repaired { key: None, tier: handle.kind() });
                self.counters.repairs_lost.add(handle.quarantine().take_given_up());
            }
            return;
        }
        for pending in handle.quarantine().some(max) {
            let settled = match handle.is_among_nodes() {
                true => self.repair(stack, handle, &pending).await,
                false => self.retry_key(stack, handle, &pending.key).await,
            };
            if is_away(&settled) {
                return;
            }
        }
    }

    /// Retries the removal of one entry, unless a writer holds the key: that writer then
    /// resolves it. Keeps an entry that was written since.
    async fn retry_key(
        self: &Arc<Self>,
        stack: &TierStack,
        handle: &TierHandle,
        encoded: &EncodedKey,
    ) -> Result<()> {
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return Ok(()) };
        let observation = self.key_locks.observe(self.key_locks.hash(&key));
        let Some(_guard) = observation.claim() else { return Ok(()) };
        if handle.quarantine().covers(encoded) {
            handle.remove(encoded).await?;
            self.emit_repaired(encoded, handle.kind());
        }
        Ok(())
    }
}

/// Whether the tier is unavailable or full, so that further keys would fail too.
fn is_away(settled: &Result<()>) -> bool {
    settled.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Full))
}
