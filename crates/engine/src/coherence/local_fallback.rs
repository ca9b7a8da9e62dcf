//! What this node stores for itself because the tier that all share does not
//! take it: what others did first wins over it, and the rest is owed to them.

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
    /// No: others changed it.
    Superseded,
    /// Yes, it is not for all.
    Apart,
    /// Yes, while the others are not told of it.
    Untold,
}

/// How an entry stands in the tier that all share.
enum Standing {
    /// As it was when what is to be stored began: its stamp, and whether there is an entry.
    Same(EntryVersion, bool),
    /// Others changed it since.
    Changed,
}

impl Engine {
    /// The tier that nodes share, where entries with these facts belong there
    /// once it takes them.
    pub(crate) fn belongs_to_all<'a>(&self, stack: &'a TierStack, facts: &Facts) -> Option<&'a TierHandle> {
        let handle = stack.among_nodes()?;
        (self.place_with(stack, facts, Some(handle.kind())).home == handle.kind()).then_some(handle)
    }

    /// Asked before an entry is stored in `home`, on this node alone. What belongs
    /// to all is owed to them from here on.
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
            // The removal is owed by now. Where the tier can be read all the same, as one
            // that refuses every change, what it replaces is what is there now.
            if let Ok((_, Some(stamp))) = handle.inner().get_versioned(key).await {
                handle.quarantine().note_stamp(key, stamp);
            }
            return stay;
        }
        // Memory hears of every change.
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
                // A failure is counted by the layer and the key distrusted by the handle.
                let _counted = handle.remove(key).await;
            }
            Ok(Standing::Same(stamp, _)) => nodes.note_apart(key, stamp),
            Err(_) if belongs => handle.quarantine().add(key, handle.inner().era(key)),
            Err(_) => {}
        }
        stay
    }
}

/// How the entry stands. A change that depends on nothing has removed it before,
/// and counts from now: what others did until now it replaces.
async fn standing(handle: &TierHandle, key: &EncodedKey, facts: &Facts) -> Result<Standing> {
    let (found, stamp) = handle.inner().get_versioned(key).await?;
    let now = stamp.unwrap_or(EntryVersion::NONE);
    let is_same = match key.base() {
        // Written by another right after the removal: that one stays.
        None if found.is_some() => return Ok(Standing::Same(EntryVersion::NONE, true)),
        None => true,
        Some(EntryVersion::NONE) => found.is_none() && handle.is_untouched(key, now, facts.load_cost),
        Some(base) => base == now,
    };
    Ok(if is_same { Standing::Same(now, found.is_some()) } else { Standing::Changed })
}
