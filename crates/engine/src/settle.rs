//! Settling: removals that failed are tried again.

use std::sync::Arc;

use larder_core::events::Event;
use larder_core::key::EncodedKey;
use larder_core::{ErrorKind, Result};
use tracing::{Instrument, Span};

use crate::engine::Engine;
use crate::section;
use crate::slot::Slot;
use crate::wait::block_on;
use crate::wire::Wire;

/// Removals that one caller makes up for on its way.
const BATCH: usize = 64;

impl Engine {
    /// Makes up for some of the removals that failed, in the tiers that take
    /// removals again. Costs a load a tier while nothing is distrusted.
    ///
    /// For callers that hold no ticket: a tier that is distrusted as a whole
    /// is cleared, which waits for all tickets.
    pub(crate) async fn settle_due(self: &Arc<Self>) {
        // What other nodes share is settled by the thread that hears them.
        let own = self.slots().iter().filter(|slot| !slot.is_among_nodes());
        for slot in own {
            if slot.is_settling_due() {
                Box::pin(self.settle(slot, BATCH).instrument(self.repair_span(slot))).await;
            }
        }
    }

    /// As [`settle_due`](Self::settle_due), all of them, due or not.
    pub(crate) async fn settle_all(self: &Arc<Self>) {
        for slot in self.slots().iter().filter(|slot| slot.distrust().is_any()) {
            self.settle(slot, usize::MAX).instrument(self.repair_span(slot)).await;
        }
    }

    /// A span for making up for what `slot` missed.
    pub(crate) fn repair_span(&self, slot: &Slot) -> Span {
        tracing::debug_span!(target: "larder", "larder.repair", cache = self.life.name(), tier = %slot.kind())
    }

    /// As [`settle_all`](Self::settle_all), in the tier that other nodes share;
    /// for the thread that hears them, which does between any two entries what
    /// must not wait for them all.
    pub(crate) fn settle_shared(self: &Arc<Self>, mut between: impl FnMut()) {
        let Some(wire) = &self.wire else { return };
        let is_due = |slot: &&Slot| slot.tier().healthy() && slot.distrust().is_any();
        let Some(slot) = wire.among_nodes().filter(is_due) else { return };
        let span = self.repair_span(slot);
        if slot.distrust().is_whole() {
            return block_on(self.settle(slot, usize::MAX).instrument(span));
        }
        for owed in slot.distrust().some(usize::MAX) {
            if is_away(&block_on(self.repair(wire, slot, &owed).instrument(span.clone()))) {
                return;
            }
            between();
        }
    }

    /// Counts what the tier that other nodes share will never get from this one,
    /// which ends.
    pub(crate) fn give_up_owed(&self) {
        let lost = self.among_nodes().map_or(0, |slot| slot.distrust().give_up());
        self.counters.repairs_lost.add(lost);
        if lost > 0 {
            tracing::warn!(target: "larder", cache = self.life.name(), lost, "changes are lost to other nodes: the shared tier is away");
        }
    }

    async fn settle(self: &Arc<Self>, slot: &Slot, max: usize) {
        let Some(wire) = &self.wire else { return };
        // Rare, and long: nothing for an executor.
        section::on_a_thread().await;
        if slot.distrust().is_whole() {
            let Ok(_closed) = self.gates.close().await else { return };
            // Somebody else may have settled it while this waited.
            if !slot.distrust().is_whole() {
                return;
            }
            // A failure is counted by the layer, and the distrust stays.
            if slot.clear().await.is_ok() {
                self.events.tell(|| Event::Repaired { key: None, tier: slot.kind() });
                self.counters.repairs_lost.add(slot.distrust().take_given_up());
            }
            return;
        }
        for owed in slot.distrust().some(max) {
            let settled = match slot.is_among_nodes() {
                true => self.repair(wire, slot, &owed).await,
                false => self.settle_key(wire, slot, &owed.key).await,
            };
            if is_away(&settled) {
                return;
            }
        }
    }

    /// Removes one entry, unless it is being stored now: then whoever stores
    /// it settles it. What was written meanwhile is trusted, and stays.
    async fn settle_key(self: &Arc<Self>, wire: &Wire, slot: &Slot, encoded: &EncodedKey) -> Result<()> {
        let Ok(key) = wire.keys.decode(encoded.as_bytes()) else { return Ok(()) };
        let observation = self.gates.observe(self.gates.hash(&key));
        let Some(_ticket) = observation.claim() else { return Ok(()) };
        if slot.distrust().covers(encoded) {
            slot.remove(encoded).await?;
            self.tell_repaired(encoded, slot.kind());
        }
        Ok(())
    }
}

/// Whether the tier is away or full, not this one key bad.
fn is_away(settled: &Result<()>) -> bool {
    settled.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Full))
}
