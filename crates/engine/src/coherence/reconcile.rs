//! Repairs: what the tier that other nodes share did not get while it was away.
//!
//! The key of every change that did not reach it is owed to it
//! ([`Quarantine`](crate::tier_stack::quarantine)); what was written lies in another tier of
//! this node meanwhile, so a later write takes the place of an earlier one. Once
//! the tier answers, what it has is compared with what the change was based on.
//! If others have changed the entry since, theirs stays and the change is
//! counted as lost; where that cannot be told, neither stays.

use std::sync::Arc;

use larder_core::entry_meta::{EntryMeta, Freshness, read_offset};
use larder_core::erased::Key;
use larder_core::events::Event;
use larder_core::frame::{self, Frame, Head};
use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, LastRemoval, REMOVAL_LIFE, TierKind, VersionedFrame};
use larder_core::{Bytes, ErrorKind, Result};

use crate::coherence::{CopyTag, MARGIN, identity};
use crate::engine::Engine;
use crate::tier_stack::quarantine::PendingWrites;
use crate::tier_stack::tier_handle::TierHandle;
use crate::tier_stack::{FrameLabel, TierStack};

/// What to do about a change that is owed.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing else changed the entry: make the change.
    Make,
    /// It arrived.
    Made,
    /// Others did: theirs stays.
    Yield,
    /// It cannot be told: neither stays.
    Drop,
}

/// What became of a change that was owed.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The tier has it.
    Made,
    /// What it replaced is gone; the entry itself is not for all, and stays here.
    Apart,
    /// It is given up.
    Lost,
}

/// Attempts at a change of an entry that others change at the same time.
const ATTEMPTS: u32 = 10;

/// What is known of an entry when its change is made up for.
struct Case {
    /// Which entry the change replaced, where that is known.
    base: Option<u64>,
    /// Which entry is there.
    present: Option<u64>,
    /// Which entry was to be there: its write may have arrived, unanswered.
    ours: Option<u64>,
    /// Whether an earlier write of this node is there.
    is_own: bool,
    /// Whether it has the stamp that it had then, where that is known.
    is_same: Option<bool>,
    /// Whose the last removal is that is remembered.
    removal: LastRemoval,
    /// Whether the tier was cleared, or lost what it had.
    cleared: bool,
    /// Whether all removals since the change are remembered.
    recent: bool,
}

impl Case {
    /// What is there and is this node's own was there before the change that is
    /// owed, which is the last one of this node: it replaces that.
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
                LastRemoval::Other => Verdict::Yield,
                LastRemoval::Own => Verdict::Make,
                LastRemoval::None if self.recent => Verdict::Make,
                LastRemoval::None => Verdict::Drop,
            },
        }
    }
}

/// What this node has of an entry whose change is owed.
enum Here {
    /// Nothing: it was removed.
    Nothing,
    /// An entry that was invalidated since.
    Invalidated,
    /// The entry to be, and which one it is.
    Written(Frame, u64),
    /// An entry that is not for all, being too large for that.
    Apart,
}

impl Engine {
    /// Which entry of the shared tier a change is going to replace: this node's
    /// copy, unless the tier lacks an earlier change already. Then the copy is
    /// this node's own, and what is in the tier under it was never seen.
    pub(crate) fn base_of(
        &self,
        stack: &TierStack,
        key: &EncodedKey,
        former: Option<EntryVersion>,
    ) -> Option<EntryVersion> {
        former.filter(|_| stack.among_nodes().is_some() && !stack.is_pending(key))
    }

    /// Says of a change that may be owed which entry it replaced.
    pub(crate) fn note_base(&self, stack: &TierStack, key: &EncodedKey, base: Option<EntryVersion>) {
        let Some(base) = base else { return };
        if let Some(handle) = stack.among_nodes().filter(|handle| handle.quarantine().is_any()) {
            handle.quarantine().note_base(key, CopyTag::identity(base));
        }
    }

    /// Makes up for one change, unless the entry is being stored now: then
    /// whoever stores it settles it.
    pub(crate) async fn repair(
        self: &Arc<Self>,
        stack: &TierStack,
        handle: &TierHandle,
        owed: &PendingWrites,
    ) -> Result<()> {
        let encoded = &owed.key;
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return Ok(()) };
        let observation = self.key_locks.observe(self.key_locks.hash(&key));
        let Some(_guard) = observation.claim() else { return Ok(()) };
        if !handle.quarantine().covers(encoded) {
            return Ok(());
        }
        let here = self.written_here(stack, &key, encoded).await;
        let Some(outcome) = self.carry_out(handle, owed, &here).await? else { return Ok(()) };
        self.discard(&key);
        for other in stack.local().filter(|_| outcome != Outcome::Apart) {
            // A failure is counted by the layer and the key distrusted by the handle.
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

    /// Brings the shared tier up to date with `here`, as far as others changed
    /// nothing; `None` where the entry changes all the time and it stays owed.
    async fn carry_out(
        &self,
        handle: &TierHandle,
        owed: &PendingWrites,
        here: &Here,
    ) -> Result<Option<Outcome>> {
        let encoded = &owed.key;
        for _ in 0..ATTEMPTS {
            let found = handle.inner().get_versioned(encoded).await?;
            let verdict = case(handle, owed, &found, here).verdict();
            tracing::debug!(target: "larder", key = ?encoded, ?verdict, "a change is made up for");
            return Ok(Some(match (verdict, here) {
                (Verdict::Made, _) => Outcome::Made,
                (Verdict::Make, Here::Written(frame, stored)) => {
                    self.expect_echo(encoded, *stored);
                    let based = encoded.clone().based_on(found.1.unwrap_or(EntryVersion::NONE)).replacing();
                    if !handle.put_if_unchanged(&based, frame).await? {
                        // It changed since it was looked at: by whom is to be seen.
                        continue;
                    }
                    Outcome::Made
                }
                (Verdict::Make, Here::Apart) => {
                    self.remove_there(handle, encoded).await?;
                    Outcome::Apart
                }
                (Verdict::Make | Verdict::Drop, Here::Nothing) => {
                    handle.remove(encoded).await?;
                    Outcome::Made
                }
                (Verdict::Make | Verdict::Drop, _) => {
                    handle.remove(encoded).await?;
                    Outcome::Lost
                }
                (Verdict::Yield, _) => Outcome::Lost,
            }));
        }
        Ok(None)
    }

    /// The entry as this node wrote it while the shared tier did not take it.
    async fn written_here(&self, stack: &TierStack, key: &Key, encoded: &EncodedKey) -> Here {
        for handle in stack.local() {
            if self.is_apart(stack, handle, encoded).await {
                return Here::Apart;
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

    /// Removes what an entry of this node alone has replaced.
    async fn remove_there(&self, handle: &TierHandle, key: &EncodedKey) -> Result<()> {
        handle.remove(key).await?;
        if let (Some(nodes), Ok((None, Some(stamp)))) = (&self.nodes, handle.inner().get_versioned(key).await)
        {
            nodes.note_apart(key, stamp);
        }
        Ok(())
    }

    /// Whether `handle` has a fresh entry that is not for all nodes. Reads its head alone.
    async fn is_apart(&self, stack: &TierStack, handle: &TierHandle, key: &EncodedKey) -> bool {
        let Ok(Some(bytes)) = handle.head(key).await else { return false };
        let Ok(head) = Head::parse(&bytes) else { return false };
        let fresh =
            self.head_freshness(handle, &bytes, key).is_some_and(|(fresh, _)| fresh == Freshness::Fresh);
        fresh && self.belongs_to_all(stack, &self.facts_of(&head)).is_none()
    }

    /// The entry of which memory is the home.
    fn remembered(&self, stack: &TierStack, key: &Key, encoded: &EncodedKey) -> Option<Here> {
        let record = self.memory.get(key).filter(|record| record.home == TierKind::Memory)?;
        if self.freshness(&record) != Freshness::Fresh {
            return None;
        }
        let terms = record.terms.as_ref().map_or(EntryMeta::PLAIN, |terms| terms.current());
        let facts = self.facts(u64::from(record.weight), None, terms.ttl);
        let payload = stack.payload(record.value.as_ref(), facts.kind).ok()?;
        let label = FrameLabel { facts: &facts, terms: &terms, stamp: record.stamp, created: record.created };
        Some(Here::Written(
            stack.frame(encoded, payload, &label),
            record.checked.map_or(0, CopyTag::identity),
        ))
    }
}

fn case(handle: &TierHandle, owed: &PendingWrites, found: &VersionedFrame, here: &Here) -> Case {
    let (theirs, stamp) = found;
    // After the answer: it is of the present era.
    let era = handle.inner().era(&owed.key);
    let present = theirs.as_ref().map(|frame| identity(frame));
    Case {
        base: owed.base,
        present,
        ours: if let Here::Written(_, identity) = here { Some(*identity) } else { None },
        is_own: present.is_some_and(|present| handle.is_own(&owed.key, present)),
        is_same: owed.stamp.map(|then| Some(then) == *stamp),
        removal: handle.inner().last_removal(&owed.key, found),
        cleared: era != owed.era,
        recent: owed.since.elapsed() + MARGIN < REMOVAL_LIFE,
    }
}

/// A frame that lies in a tier of this node, as others can judge it: one that was
/// written before the clock of all was known is given its offset.
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

    /// Nothing is known but which entry is there, and of removals nothing.
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
    fn a_change_is_made_only_where_nobody_else_can_have_changed_the_entry() {
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
    fn a_change_whose_stamp_is_known_yields_to_every_other() {
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

    /// The fault: an earlier change of this node, unanswered and applied, was taken
    /// for one of another node, and the last change was given up.
    #[test]
    fn last_change_of_a_node_replaces_its_earlier_ones() {
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
