//! Local fallback: stores an entry on this node alone when the shared tier does not take
//! it. A change by another node before that wins, and the write of a shared entry stays
//! pending.

use larder_core::Result;
use larder_core::key::EncodedKey;
use larder_core::place::Facts;
use larder_core::tier::{EntryVersion, TierKind};

use crate::engine::Engine;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// Whether an entry may be stored on this node alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// No: another node changed the entry.
    Superseded,
    /// Yes: the entry is not meant to be shared.
    Apart,
    /// Yes: the entry is meant to be shared, and its write is pending.
    Untold,
}

/// The state of an entry in the shared tier.
enum Standing {
    /// Unchanged since the load or write began: its version, and whether there is an
    /// entry.
    Same(EntryVersion, bool),
    /// Another node changed it since.
    Changed,
}

impl Engine {
    /// Returns the shared tier, if entries with these facts belong there once it accepts
    /// them.
    pub(crate) fn belongs_to_all<'a>(&self, stack: &'a TierStack, facts: &Facts) -> Option<&'a TierHandle> {
        let handle = stack.among_nodes()?;
        (self.place_with(stack, facts, Some(handle.kind())).home == handle.kind()).then_some(handle)
    }

    /// Decides whether an entry may be stored in `home`, on this node alone. The write of
    /// an entry that belongs in the shared tier is pending from here on.
    pub(crate) async fn stay(
        &self,
        (stack, key): (&TierStack, &EncodedKey),
        facts: &Facts,
        home: TierKind,
    ) -> Stay {
        let (Some(handle), Some(nodes)) = (stack.among_nodes(), &self.nodes) else { return Stay::Apart };
        let belongs = self.belongs_to_all(stack, facts).is_some();
        let stay = if belongs { Stay::Untold } else { Stay::Apart };
        if belongs {
            nodes.reconcile_later();
        }
        if key.base().is_none() && handle.quarantine().covers(key) {
            // The removal is pending already. If the tier can still be read, for example
            // while it refuses only changes, the write replaces the version that is there
            // now.
            if let Ok((_, Some(stamp))) = handle.inner().get_versioned(key).await {
                handle.quarantine().note_stamp(key, stamp);
            }
            return stay;
        }
        // Notices reach memory, so a copy there is dropped on every change.
        if key.base().is_none() && !belongs && home == TierKind::Memory {
            return stay;
        }
        match standing(handle, key, facts).await {
            Ok(Standing::Changed) => return Stay::Superseded,
            Ok(Standing::Same(stamp, _)) if belongs => {
                if !handle.quarantine().owe(key, stamp, handle.inner().era(key)) {
                    self.counters.repairs_lost.increment();
                }
            }
            Ok(Standing::Same(_, true)) if key.base().is_some() => {
                // The layer counts a failure, and the handle quarantines the key.
                let _counted = handle.remove(key).await;
            }
            Ok(Standing::Same(stamp, _)) => nodes.note_apart(key, stamp),
            Err(_) if belongs => handle.quarantine().add(key, handle.inner().era(key)),
            Err(_) => {}
        }
        stay
    }
}

/// Reads the state of the entry in the shared tier. An unconditional write has removed
/// the entry before this call. So it counts as made now, and replaces what other nodes
/// did up to now.
async fn standing(handle: &TierHandle, key: &EncodedKey, facts: &Facts) -> Result<Standing> {
    let (found, stamp) = handle.inner().get_versioned(key).await?;
    let now = stamp.unwrap_or(EntryVersion::NONE);
    let is_same = match key.base() {
        // Another node wrote it right after the removal: that entry stays.
        None if found.is_some() => return Ok(Standing::Same(EntryVersion::NONE, true)),
        None => true,
        Some(EntryVersion::NONE) => found.is_none() && handle.is_untouched(key, now, facts.load_cost),
        Some(base) => base == now,
    };
    Ok(if is_same { Standing::Same(now, found.is_some()) } else { Standing::Changed })
}
