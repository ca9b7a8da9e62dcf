//! Reconciliation: applies writes that the shared tier did not get while it was
//! unavailable.
//!
//! Each key whose write or removal did not reach the tier is pending
//! ([`Quarantine`](crate::tier_stack::quarantine)). The written value lies in a local
//! tier meanwhile, so a later write replaces an earlier one. Once the tier answers, its
//! entry is compared with the version that the write was based on. If another node
//! changed the entry since, that change stays and the write counts as lost. If this
//! cannot be determined, both are removed.

use std::sync::Arc;

use larder_core::entry_meta::{EntryMeta, Freshness, read_offset};
use larder_core::erased::Key;
use larder_core::events::Event;
use larder_core::frame::{self, Frame, Head};
use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, LastRemoval, PutOptions, RemovalCause, TierKind, VersionedFrame};
use larder_core::{Bytes, ErrorKind, Result};

use crate::coherence::copy_tag::REMOVAL;
use crate::coherence::nodes::MARGIN;
use crate::coherence::{CopyTag, identity};
use crate::engine::Engine;
use crate::tier_stack::quarantine::PendingWrites;
use crate::tier_stack::tier_handle::TierHandle;
use crate::tier_stack::{FrameLabel, TierStack};

/// How to resolve a pending write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// No other node changed the entry: apply the write.
    Make,
    /// The write arrived already.
    Made,
    /// Another node changed the entry: its change stays.
    Yield,
    /// It cannot be determined: remove both.
    Drop,
}

/// The result of reconciling a pending write.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The shared tier has the write.
    Made,
    /// The replaced entry is removed from the shared tier. The new one is not shared, and
    /// stays on this node.
    LocalOnly,
    /// The write is given up.
    Lost,
}

/// Attempts at a conditional write while other nodes change the same entry.
const ATTEMPTS: u32 = 10;

/// What is known of an entry when its pending write is reconciled.
struct Case {
    /// Identity of the entry that the write replaced, if known.
    base: Option<u64>,
    /// Identity of the entry in the shared tier.
    present: Option<u64>,
    /// Identity of the pending entry. Its write may have arrived without an answer.
    ours: Option<u64>,
    /// Whether the shared tier has an earlier write of this node.
    is_own: bool,
    /// Whether the version is the one from the time of the write; `None` if that is
    /// unknown.
    is_same: Option<bool>,
    /// The origin of the last removal that the tier remembers.
    removal: LastRemoval,
    /// Whether the tier was cleared or lost its data since the write.
    cleared: bool,
    /// Whether the tier still remembers every removal since the write.
    recent: bool,
}

impl Case {
    /// Decides how to resolve the pending write. An own entry in the tier is older than
    /// the pending write, which is this node's last one, so the write replaces it.
    fn verdict(&self) -> Verdict {
        match (self.present, self.base) {
            _ if self.cleared => Verdict::Yield,
            (Some(present), _) if Some(present) == self.ours => Verdict::Made,
            (Some(_), _) if self.is_own => Verdict::Make,
            (Some(_), _) if self.is_same == Some(true) => Verdict::Make,
            (None, _) if self.is_same == Some(true) && self.recent => Verdict::Make,
            (Some(present), Some(base)) if present == base => Verdict::Make,
            (Some(_), Some(_)) => Verdict::Yield,
            (Some(_), None) if self.is_same == Some(false) => Verdict::Yield,
            (Some(_), None) => Verdict::Drop,
            (None, _) => match self.removal {
                LastRemoval::Other | LastRemoval::Outdated(_) => Verdict::Yield,
                LastRemoval::Own => Verdict::Make,
                LastRemoval::None if self.recent => Verdict::Make,
                LastRemoval::None => Verdict::Drop,
            },
        }
    }
}

/// What this node holds of an entry whose write is pending.
enum Here {
    /// No entry: it was removed.
    Nothing,
    /// An entry that was invalidated since it was written.
    Invalidated,
    /// The pending entry, and its identity.
    Written(Frame, u64),
    /// An entry that is too large to be shared.
    LocalOnly,
}

impl Engine {
    /// Returns which entry of the shared tier a write replaces: the one that this node's
    /// copy is of. `None` while an earlier write of the key is pending: then the copy is
    /// this node's own, and the entry in the tier was never seen.
    pub(crate) fn base_of(
        &self,
        stack: &TierStack,
        key: &EncodedKey,
        former: Option<EntryVersion>,
    ) -> Option<EntryVersion> {
        former.filter(|_| stack.among_nodes().is_some() && !stack.is_pending(key))
    }

    /// Records, for a write that may be pending, which entry it replaced.
    pub(crate) fn note_base(&self, stack: &TierStack, key: &EncodedKey, base: Option<EntryVersion>) {
        let Some(base) = base else { return };
        if let Some(handle) = stack.among_nodes().filter(|handle| handle.quarantine().is_any()) {
            handle.quarantine().note_base(key, CopyTag::identity(base));
        }
    }

    /// Reconciles one pending write, unless a writer holds the key: that writer then
    /// resolves it.
    pub(crate) async fn repair(
        self: &Arc<Self>,
        stack: &TierStack,
        handle: &TierHandle,
        pending: &PendingWrites,
    ) -> Result<()> {
        let encoded = &pending.key;
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return Ok(()) };
        let observation = self.key_locks.observe(self.key_locks.hash(&key));
        let Some(_guard) = observation.claim() else { return Ok(()) };
        if !handle.quarantine().covers(encoded) {
            return Ok(());
        }
        let here = self.written_here(stack, &key, encoded).await;
        let Some(outcome) = self.carry_out(handle, pending, &here).await? else { return Ok(()) };
        self.discard(&key);
        for other in stack.local().filter(|_| outcome != Outcome::LocalOnly) {
            // The layer counts a failure, and the handle quarantines the key.
            let _counted = other.remove(encoded).await;
        }
        handle.quarantine().forget(encoded);
        if outcome != Outcome::Lost {
            self.counters.repaired.increment();
            self.emit_repaired(encoded, handle.kind());
        } else if !matches!(here, Here::Nothing) {
            self.counters.repairs_lost.increment();
            self.emit_of(encoded, |key| Event::Dropped { key, why: ErrorKind::Unavailable });
        }
        Ok(())
    }

    /// Brings the shared tier up to date with `here`, unless another node changed the
    /// entry. Returns `None` if the entry changes during every attempt: then the write
    /// stays pending.
    async fn carry_out(
        &self,
        handle: &TierHandle,
        pending: &PendingWrites,
        here: &Here,
    ) -> Result<Option<Outcome>> {
        let encoded = &pending.key;
        for _ in 0..ATTEMPTS {
            let found = handle.look_up(encoded).await?;
            let verdict = case(handle, pending, &found, here).verdict();
            tracing::debug!(target: "larder", key = ?encoded, ?verdict, "a pending write was reconciled with the shared tier");
            return Ok(Some(match (verdict, here) {
                (Verdict::Made, _) => Outcome::Made,
                (Verdict::Make, Here::Written(frame, stored)) => {
                    let Some(if_version) = found.version else { continue };
                    self.coherence.expect_own_write(encoded, *stored);
                    let options = PutOptions { if_version, all_program_versions: true };
                    if !handle.compare_and_set(encoded, frame, options).await? {
                        // It changed since it was read: look again.
                        continue;
                    }
                    Outcome::Made
                }
                (Verdict::Make | Verdict::Drop, here) => {
                    let Some(version) = found.version else { continue };
                    self.coherence.expect_own_write(encoded, REMOVAL);
                    if !handle.compare_and_remove(encoded, version, RemovalCause::Requested).await? {
                        continue;
                    }
                    match (verdict, here) {
                        (_, Here::Nothing) => Outcome::Made,
                        (Verdict::Make, Here::LocalOnly) => {
                            self.note_removed(handle, encoded).await;
                            Outcome::LocalOnly
                        }
                        _ => Outcome::Lost,
                    }
                }
                (Verdict::Yield, _) => Outcome::Lost,
            }));
        }
        Ok(None)
    }

    /// Returns the entry that this node wrote while the shared tier did not take it.
    async fn written_here(&self, stack: &TierStack, key: &Key, encoded: &EncodedKey) -> Here {
        for handle in stack.local() {
            if self.is_local_only(stack, handle, encoded).await {
                return Here::LocalOnly;
            }
            let Ok(Some(bytes)) = handle.get(encoded).await else { continue };
            let Ok(found) = self.judge(stack, handle, bytes.clone(), encoded) else { continue };
            if found.freshness == Freshness::Fresh {
                return for_all(stack, &bytes, encoded).map_or(Here::Nothing, |frame| {
                    let identity = identity(frame.head());
                    Here::Written(frame, identity)
                });
            }
            if found.decoded.terms.freshness(self.timeline.now()) == Freshness::Fresh {
                return Here::Invalidated;
            }
        }
        self.remembered(stack, key, encoded).unwrap_or(Here::Nothing)
    }

    /// Notes the removal of the shared entry that a local-only entry replaces.
    async fn note_removed(&self, handle: &TierHandle, key: &EncodedKey) {
        if let Ok(VersionedFrame { frame: None, version: Some(version), .. }) = handle.look_up(key).await {
            self.coherence.note_local(key, Some(version));
        }
    }

    /// Whether `handle` has a fresh entry that is not meant to be shared. Reads only its
    /// head.
    async fn is_local_only(&self, stack: &TierStack, handle: &TierHandle, key: &EncodedKey) -> bool {
        let Ok(Some(bytes)) = handle.head(key).await else { return false };
        let Ok(head) = Head::parse(&bytes) else { return false };
        let fresh =
            self.head_freshness(handle, &bytes, key).is_some_and(|(fresh, _)| fresh == Freshness::Fresh);
        fresh && self.belongs_to_all(stack, &self.facts_of(&head)).is_none()
    }

    /// Returns the entry if memory is its home.
    fn remembered(&self, stack: &TierStack, key: &Key, encoded: &EncodedKey) -> Option<Here> {
        let record = self.memory.get(key).filter(|record| record.home == TierKind::Memory)?;
        if self.freshness(&record) != Freshness::Fresh {
            return None;
        }
        let terms = record.terms.as_ref().map_or(EntryMeta::PLAIN, |terms| terms.current());
        let facts = self.facts(u64::from(record.weight), None, &terms);
        let payload = stack.payload(record.value.as_ref(), facts.kind).ok()?;
        let label = FrameLabel { facts: &facts, terms: &terms, stamp: record.stamp, created: record.created };
        Some(Here::Written(
            stack.frame(encoded, payload, &label),
            record.checked.map_or(0, CopyTag::identity),
        ))
    }
}

fn case(handle: &TierHandle, pending: &PendingWrites, found: &VersionedFrame, here: &Here) -> Case {
    // Read after the answer, so that it is the current partition epoch.
    let epoch = handle.epoch(&pending.key);
    let present = found.frame.as_ref().map(|frame| identity(frame));
    Case {
        base: pending.base,
        present,
        ours: if let Here::Written(_, identity) = here { Some(*identity) } else { None },
        is_own: present.is_some_and(|present| handle.is_own(&pending.key, present)),
        is_same: pending.version.is_same(found.version),
        removal: found.last_removal,
        cleared: epoch != pending.epoch,
        recent: pending.since.elapsed() + MARGIN < handle.removals_remembered(),
    }
}

/// Returns a frame from a local tier in the form that other nodes can judge. A frame
/// written before the shared clock was known gets its clock offset here.
fn for_all(stack: &TierStack, bytes: &Bytes, key: &EncodedKey) -> Option<Frame> {
    let (header, attributes, payload) = frame::open_with_attributes(bytes, key).ok()?;
    if read_offset(attributes).is_some() {
        return Some(Frame::new(&header, key, attributes, payload));
    }
    let terms = EntryMeta::read(&header, attributes)?;
    Some(Frame::new(&header, key, &stack.attributes(key, &terms), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A case that knows only which entry is pending, and of no removal.
    const QUIET: Case = Case {
        base: None,
        present: None,
        ours: Some(9),
        is_own: false,
        is_same: None,
        removal: LastRemoval::None,
        cleared: false,
        recent: true,
    };

    #[test]
    fn write_is_applied_only_if_no_other_node_can_have_changed_the_entry() {
        let of = |base, present, [removed, cleared, recent]: [bool; 3]| {
            let removal = if removed { LastRemoval::Other } else { LastRemoval::None };
            Case { base, present, removal, cleared, recent, ..QUIET }.verdict()
        };
        let quiet = [false, false, true];
        assert_eq!(of(Some(1), Some(1), quiet), Verdict::Make);
        assert_eq!(
            of(Some(1), Some(1), [true, false, false]),
            Verdict::Make,
            "removed before, and written again"
        );
        assert_eq!(of(Some(1), Some(2), quiet), Verdict::Yield, "written by another");
        assert_eq!(of(None, Some(2), quiet), Verdict::Drop, "written by another, before or after");
        assert_eq!(of(None, Some(9), quiet), Verdict::Made, "its answer was lost");
        assert_eq!(of(None, None, quiet), Verdict::Make);
        assert_eq!(of(Some(1), None, quiet), Verdict::Make, "it expired");
        assert_eq!(of(None, None, [true, false, true]), Verdict::Yield, "removed by another");
        assert_eq!(of(None, None, [false, false, false]), Verdict::Drop, "a removal may be forgotten by now");
        for base in [None, Some(1)] {
            assert_eq!(of(base, Some(1), [false, true, true]), Verdict::Yield, "cleared by another");
            assert_eq!(of(base, None, [false, true, true]), Verdict::Yield, "cleared by another");
        }
    }

    #[test]
    fn write_with_known_version_yields_to_every_other_change() {
        let of = |same, present, [removed, cleared, recent]: [bool; 3]| {
            let removal = if removed { LastRemoval::Other } else { LastRemoval::None };
            Case { present, is_same: Some(same), removal, cleared, recent, ..QUIET }.verdict()
        };
        let quiet = [false, false, true];
        assert_eq!(of(true, None, [true, false, true]), Verdict::Make, "its own removal");
        assert_eq!(of(true, Some(1), [true, false, false]), Verdict::Make, "what it was to replace is there");
        assert_eq!(of(true, None, [false, false, false]), Verdict::Drop, "a removal may be forgotten by now");
        assert_eq!(of(false, Some(1), quiet), Verdict::Yield, "written by another");
        assert_eq!(of(false, Some(9), quiet), Verdict::Made, "its answer was lost");
        assert_eq!(of(false, None, [true, false, true]), Verdict::Yield, "removed by another");
        assert_eq!(of(false, None, quiet), Verdict::Make, "what it was to replace expired");
        assert_eq!(of(true, None, [true, true, true]), Verdict::Yield, "cleared");
    }

    /// The fault: an earlier write of this node had been applied without an answer. It
    /// was taken for a write of another node, and the last write was given up.
    #[test]
    fn last_write_of_a_node_replaces_its_earlier_ones() {
        for (base, is_same) in [(None, None), (Some(1), None), (None, Some(false))] {
            let own_write = Case { base, is_same, present: Some(5), is_own: true, ..QUIET };
            assert_eq!(own_write.verdict(), Verdict::Make, "{base:?}, {is_same:?}");
            let own_removal = Case { base, is_same, removal: LastRemoval::Own, ..QUIET };
            assert_eq!(own_removal.verdict(), Verdict::Make, "{base:?}, {is_same:?}");
            assert_eq!(Case { recent: false, ..own_removal }.verdict(), Verdict::Make, "it is remembered");
        }
        let theirs = Case { base: Some(1), present: Some(5), removal: LastRemoval::Own, ..QUIET };
        assert_eq!(theirs.verdict(), Verdict::Yield, "written by another after the removal");
    }
}
