//! Local fallback: stores an entry on this node alone when the shared tier does not take
//! it. A change by another node before that wins, and the write of a shared entry stays
//! pending.

use larder_core::Result;
use larder_core::key::EncodedKey;
use larder_core::place::Facts;
use larder_core::tier::{EntryVersion, RemovalCause, TierKind, VersionedFrame};

use crate::coherence::copy_tag::REMOVAL;
use crate::coherence::nodes::NodeCoherence;
use crate::coherence::port::CoherencePort;
use crate::engine::Engine;
use crate::tier_stack::TierStack;
use crate::tier_stack::quarantine::VersionThen;
use crate::tier_stack::tier_handle::TierHandle;
use crate::write::precondition::Precondition;

/// An entry that is about to be stored on this node alone.
#[derive(Clone, Copy)]
pub(crate) struct LocalWrite<'a> {
    pub(crate) stack: &'a TierStack,
    pub(crate) key: &'a EncodedKey,
    pub(crate) facts: &'a Facts,
    /// Where on this node it would be stored.
    pub(crate) home: TierKind,
    pub(crate) precondition: Precondition,
}

/// Whether an entry may be stored on this node alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// No: another node changed the entry.
    Superseded,
    /// Yes: the entry is not meant to be shared.
    Local,
    /// Yes: the entry is meant to be shared, and its write is pending.
    Pending,
}

/// The state of an entry in the shared tier.
enum Standing {
    /// Unchanged since the load or write began.
    Same {
        /// Its version, if the tier could tell it.
        version: Option<EntryVersion>,
        /// Whether there is an entry.
        is_present: bool,
    },
    /// Another node wrote it right after this node had removed it. The write of this node counts as
    /// earlier.
    Overtaken,
    /// Another node changed it since the load began.
    Changed,
}

impl Engine {
    /// Returns the shared tier, if entries with these facts belong there once it accepts
    /// them.
    pub(crate) fn belongs_to_all<'a>(&self, stack: &'a TierStack, facts: &Facts) -> Option<&'a TierHandle> {
        let handle = stack.among_nodes()?;
        (self.place_with(stack, facts, Some(handle.kind())).home == handle.kind()).then_some(handle)
    }

    /// Decides whether an entry may be stored on this node alone, beside the shared tier
    /// `handle`. The write of an entry that belongs in that tier is pending from here on.
    pub(super) async fn stay(
        &self,
        nodes: &NodeCoherence,
        handle: &TierHandle,
        LocalWrite { stack, key, facts, home, precondition }: LocalWrite<'_>,
    ) -> Stay {
        let belongs = self.belongs_to_all(stack, facts).is_some();
        let stay = if belongs { Stay::Pending } else { Stay::Local };
        if belongs {
            nodes.reconcile_later();
        }
        if !precondition.is_some() && handle.quarantine().covers(key) {
            // The removal is pending already. If the tier can still be read, for example
            // while it refuses only changes, the write replaces the version that is there
            // now.
            if let Ok(VersionedFrame { version: Some(version), .. }) = handle.look_up(key).await {
                handle.quarantine().note_version(key, version);
            }
            if belongs && handle.quarantine().is_whole() {
                // The tier is cleared before it takes writes, and this one is not remembered until then.
                self.counters.repairs_lost.increment();
            }
            return stay;
        }
        // Notices reach memory, so a copy there is dropped on every change.
        if !precondition.is_some() && !belongs && home == TierKind::Memory {
            return stay;
        }
        let standing = standing(handle, key, precondition, facts).await;
        if matches!(standing, Ok(Standing::Changed)) {
            return Stay::Superseded;
        }
        if belongs {
            self.add_pending(handle, key, &standing);
        } else if !note_local(nodes, handle, key, precondition, &standing).await {
            return Stay::Superseded;
        }
        stay
    }

    /// Records that the shared tier lacks the write.
    fn add_pending(&self, handle: &TierHandle, key: &EncodedKey, standing: &Result<Standing>) {
        let version = match standing {
            Ok(Standing::Same { version: Some(version), .. }) => VersionThen::Known(*version),
            Ok(Standing::Same { version: None, .. }) => VersionThen::Unknown,
            Ok(Standing::Overtaken | Standing::Changed) => VersionThen::Overtaken,
            Err(_) if handle.quarantine().is_whole() => return self.counters.repairs_lost.increment(),
            Err(_) => return handle.quarantine().add(key, handle.epoch(key)),
        };
        if !handle.quarantine().add_pending(key, version, handle.epoch(key)) {
            self.counters.repairs_lost.increment();
        }
    }
}

/// Records that an entry is on this node alone on purpose. Removes the shared entry that it
/// replaces. Returns `false` if another node changed that entry meanwhile.
async fn note_local(
    nodes: &NodeCoherence,
    handle: &TierHandle,
    key: &EncodedKey,
    precondition: Precondition,
    standing: &Result<Standing>,
) -> bool {
    match standing {
        Ok(Standing::Same { is_present: true, version: Some(version) }) if precondition.is_some() => {
            nodes.expect_own_write(key, REMOVAL);
            let removed = handle.compare_and_remove(key, *version, RemovalCause::Requested).await;
            // The layer counts a failure, and the removal is pending.
            return removed.unwrap_or_else(|_| {
                handle.quarantine().add(key, handle.epoch(key));
                true
            });
        }
        Ok(Standing::Same { version, .. }) => nodes.note_local(key, *version),
        Ok(Standing::Overtaken) => nodes.note_local(key, None),
        Ok(Standing::Changed) | Err(_) => {}
    }
    true
}

/// Reads the state of the entry in the shared tier. An unconditional write has removed
/// the entry before this call. So it counts as made now, and replaces what other nodes
/// did up to now.
async fn standing(
    handle: &TierHandle,
    key: &EncodedKey,
    precondition: Precondition,
    facts: &Facts,
) -> Result<Standing> {
    let found = handle.look_up(key).await?;
    let is_same = match precondition {
        Precondition::None if found.frame.is_some() => return Ok(Standing::Overtaken),
        Precondition::None => true,
        Precondition::Unknown => handle.is_untouched(&found, facts.load_cost),
        Precondition::Version(version) => Some(version) == found.version,
    };
    Ok(match is_same {
        true => Standing::Same { version: found.version, is_present: found.frame.is_some() },
        false => Standing::Changed,
    })
}
