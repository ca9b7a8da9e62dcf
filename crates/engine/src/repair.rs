//! Repairs: what the tier that other nodes share did not get while it was away.
//!
//! The key of every change that did not reach it is owed to it
//! ([`Distrust`](crate::distrust)); what was written lies in another tier of
//! this node meanwhile, so a later write takes the place of an earlier one. Once
//! the tier answers, what it has is compared with what the change was based on.
//! If others have changed the entry since, theirs stays and the change is
//! counted as lost; where that cannot be told, neither stays.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use larder_core::events::Event;
use larder_core::frame::{self, Frame};
use larder_core::key::EncodedKey;
use larder_core::memory::MemoryStore;
use larder_core::terms::Freshness;
use larder_core::tier::{REMOVAL_LIFE, Stamp, TierKind};
use larder_core::{Bytes, ErrorKind, Result};

use crate::distrust::Owed;
use crate::engine::Engine;
use crate::nodes::{Mark, identity};
use crate::slot::Slot;
use crate::wire::{Label, Wire};

/// What the tier remembers of removals for longer is not relied upon.
const MARGIN: Duration = Duration::from_secs(5);

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

/// What is known of an entry when its change is made up for.
struct Case {
    /// Which entry the change replaced, where that is known.
    base: Option<u64>,
    /// Which entry is there.
    present: Option<u64>,
    /// Which entry was to be there: its write may have arrived, unanswered.
    ours: Option<u64>,
    /// Whether a removal by somebody is remembered.
    removed: bool,
    /// Whether the tier was cleared, or lost what it had.
    cleared: bool,
    /// Whether all removals since the change are remembered.
    recent: bool,
}

impl Case {
    fn verdict(&self) -> Verdict {
        match (self.present, self.base) {
            _ if self.cleared => Verdict::Yield,
            (Some(present), _) if Some(present) == self.ours => Verdict::Made,
            (Some(present), Some(base)) if present == base => Verdict::Make,
            (Some(_), Some(_)) => Verdict::Yield,
            (Some(_), None) => Verdict::Drop,
            (None, _) if self.removed => Verdict::Yield,
            (None, _) if self.recent => Verdict::Make,
            (None, _) => Verdict::Drop,
        }
    }
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// Which entry of the shared tier a change is going to replace: this node's
    /// copy, unless the tier lacks an earlier change already. Then the copy is
    /// this node's own, and what is in the tier under it was never seen.
    pub(crate) fn base_of(
        &self,
        wire: &Wire<K, V>,
        key: &EncodedKey,
        former: Option<Stamp>,
    ) -> Option<Stamp> {
        former.filter(|_| wire.among_nodes().is_some() && !wire.is_owed(key))
    }

    /// Says of a change that may be owed which entry it replaced.
    pub(crate) fn note_base(&self, wire: &Wire<K, V>, key: &EncodedKey, base: Option<Stamp>) {
        let Some(base) = base else { return };
        if let Some(slot) = wire.among_nodes().filter(|slot| slot.distrust().is_any()) {
            slot.distrust().note_base(key, Mark::identity(base));
        }
    }

    /// Makes up for one change, unless the entry is being stored now: then
    /// whoever stores it settles it.
    pub(crate) async fn repair(self: &Arc<Self>, wire: &Wire<K, V>, slot: &Slot, owed: &Owed) -> Result<()> {
        let encoded = &owed.key;
        let Ok(key) = wire.keys.decode(encoded.as_bytes()) else { return Ok(()) };
        let observation = self.gates.observe(self.gates.hash(&key));
        let Some(_ticket) = observation.claim() else { return Ok(()) };
        if !slot.distrust().covers(encoded) {
            return Ok(());
        }
        let written = self.written_here(wire, &key, encoded).await;
        let was_written = written.is_some();
        let ours = written.flatten();
        let (theirs, stamp) = slot.tier().get_stamped(encoded).await?;
        let case = Case {
            ours: ours.as_ref().map(|(_, identity)| *identity),
            ..case(slot, owed, theirs.as_ref(), stamp)
        };
        let verdict = case.verdict();
        tracing::debug!(target: "larder", key = ?encoded, ?verdict, "a change is made up for");
        let based = encoded.clone().based_on(stamp.unwrap_or(Stamp::NONE));
        let made = match (verdict, ours) {
            (Verdict::Made, _) => true,
            (Verdict::Make, Some((frame, stored))) => {
                self.nodes.iter().for_each(|nodes| nodes.expect_echo(encoded, stored));
                slot.put_if_unchanged(&based, &frame).await?
            }
            (Verdict::Make | Verdict::Drop, _) => slot.remove(encoded).await.map(|_| !was_written)?,
            (Verdict::Yield, _) => false,
        };
        self.discard(&key);
        for other in wire.slots.iter().filter(|other| other.kind() != slot.kind()) {
            // A failure is counted by the layer and the key distrusted by the slot.
            let _counted = other.remove(encoded).await;
        }
        slot.distrust().forget(encoded);
        if made {
            self.counters.repaired.increment();
            self.tell_repaired(encoded, slot.kind());
        } else if was_written {
            self.counters.repairs_lost.increment();
            self.tell_of(encoded, |key| Event::Dropped { key, why: ErrorKind::Unavailable });
        }
        Ok(())
    }

    /// The entry as this node wrote it while the shared tier was away, and which
    /// one it was when it was written; nothing of one that was invalidated since.
    async fn written_here(
        &self,
        wire: &Wire<K, V>,
        key: &K,
        encoded: &EncodedKey,
    ) -> Option<Option<(Frame, u64)>> {
        for slot in wire.local() {
            let Ok(Some(bytes)) = slot.get(encoded).await else { continue };
            match self.judge(wire, slot, bytes.clone(), encoded) {
                Ok(found) if found.freshness == Freshness::Fresh => {
                    return whole(&bytes, encoded).map(|frame| Some((frame, identity(&bytes))));
                }
                Ok(found) if found.decoded.terms.freshness(self.timeline.now()) == Freshness::Fresh => {
                    return Some(None);
                }
                _ => {}
            }
        }
        let record = self.memory.get(key).filter(|record| record.home == TierKind::Memory)?;
        if self.freshness(&record) != Freshness::Fresh {
            return None;
        }
        let terms = record.terms.as_ref().map_or(larder_core::terms::Terms::PLAIN, |terms| terms.current());
        let facts = self.facts(u64::from(record.weight), None, terms.ttl);
        let payload = wire.payload(record.value.as_ref(), facts.kind).ok()?;
        let label = Label { facts: &facts, terms: &terms, stamp: record.stamp, created: record.created };
        Some(Some((wire.frame(encoded, payload, &label), record.checked.map_or(0, Mark::identity))))
    }
}

fn case(slot: &Slot, owed: &Owed, theirs: Option<&Bytes>, stamp: Option<Stamp>) -> Case {
    // After the answer: it is of the present era.
    let era = slot.tier().era(&owed.key);
    let entry = theirs.and_then(|frame| frame.get(frame::FIXED_LEN - 8..)?.first_chunk().copied());
    let entry = entry.map_or(0, u64::from_le_bytes);
    Case {
        base: owed.base,
        present: theirs.map(|frame| identity(frame)),
        ours: None,
        removed: stamp.is_none_or(|stamp| stamp.get() ^ era ^ entry != 0),
        cleared: era != owed.era,
        recent: owed.since.elapsed() + MARGIN < REMOVAL_LIFE,
    }
}

/// A frame as it lies in a tier, in its two parts.
fn whole(bytes: &Bytes, key: &EncodedKey) -> Option<Frame> {
    let (header, attributes, payload) = frame::open_with_attributes(bytes, key).ok()?;
    Some(Frame::new(&header, key, attributes, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_made_only_where_nobody_else_can_have_changed_the_entry() {
        let of = |base, present, [removed, cleared, recent]: [bool; 3]| {
            Case { base, present, ours: Some(9), removed, cleared, recent }.verdict()
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
}
