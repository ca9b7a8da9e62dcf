//! Look-ups that end before a section begins.
//!
//! A section survives its caller, is driven by others that need its end, and moves to a thread where it
//! reaches work that blocks. A look-up needs none of that while it waits for a tier that does not block: it
//! holds no lock and changes nothing. So a first tier that does not block is asked without a section. If its
//! entry can be served as it is, the look-up ends there. Otherwise the walk goes on in a section, from that
//! answer.

use std::sync::Arc;

use larder_core::key::EncodedKey;
use larder_core::tier::{TierKind, VersionedFrame};
use larder_core::{Bytes, Result};
use larder_exec::runtime::Runtime;
use larder_exec::uncancellable;

use crate::engine::Engine;
use crate::read::refusal::Refusal;
use crate::read::walk::{Question, Walk};
use crate::read::{Found, Read, ReadFrom};
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// What the first tier said.
enum FirstAnswer {
    Got(Result<Option<Bytes>>),
    /// An entry that must not be served. It is counted.
    Refused(Refusal),
}

impl Engine {
    /// Returns the first tier if it can be asked without a section: it does not block, all its entries are
    /// confirmed, and nothing is to be repaired first.
    pub(crate) fn asked_before_section<'a>(&self, stack: &'a TierStack) -> Option<&'a TierHandle> {
        let first = stack.tiers.first().filter(|first| !first.blocks())?;
        let is_confirmed = first.is_among_nodes() || stack.among_nodes().is_none();
        let is_quiet =
            !self.has_key_conflicts() && !stack.tiers.iter().any(|handle| handle.quarantine().is_any());
        (is_confirmed && is_quiet).then_some(first)
    }

    /// Reads `key`: from the first tier without a section, and from the others in one.
    pub(crate) async fn read_before_section<W: Runtime>(
        self: &Arc<Self>,
        first: &TierHandle,
        key: EncodedKey,
        hash: u64,
    ) -> Result<Option<Found>> {
        let Some(stack) = &self.stack else { return Ok(None) };
        let mut read = Read::new(false);
        if let Some(found) = read.begin(&Walk::of_quiet(self, stack, (&key, hash))) {
            return Ok(Some(found));
        }
        let answer = match W::wait(first.get(&key)).await {
            Ok(Some(bytes)) if uncancellable::is_in_place(bytes.len() as u64) => {
                let (observation, version) = (&read.observation, read.version);
                match self.admit(&ReadFrom { stack, handle: first, key: &key, observation, version }, bytes) {
                    Ok((found, None)) => return Ok(Some(found)),
                    Ok((found, Some(to))) => {
                        let engine = Arc::clone(self);
                        let moved = async move { engine.move_from_first((&key, hash), to).await };
                        // If that fails, the entry stays where it is.
                        let _moved = Box::pin(self.drive::<W, _>(true, moved)).await;
                        return Ok(Some(found));
                    }
                    Err(refusal) => FirstAnswer::Refused(refusal),
                }
            }
            answer => FirstAnswer::Got(answer),
        };
        if matches!(answer, FirstAnswer::Got(Ok(None))) && stack.tiers.len() == 1 {
            return Ok(read.fall_back(&Walk::of_quiet(self, stack, (&key, hash))));
        }
        let engine = Arc::clone(self);
        // On the heap: most look-ups do not come here, and each has this future in its own.
        let rest = self.drive::<W, _>(true, async move { engine.read_on(&key, hash, read, answer).await });
        Box::pin(rest).await?
    }

    async fn move_from_first(self: &Arc<Self>, key: (&EncodedKey, u64), to: TierKind) {
        if let Some(stack) = &self.stack
            && let Some(first) = stack.tiers.first()
        {
            self.relocate(stack, first, key, to).await;
        }
    }

    /// Goes on with a read whose first tier was asked.
    async fn read_on(
        self: &Arc<Self>,
        key: &EncodedKey,
        hash: u64,
        mut read: Read,
        answer: FirstAnswer,
    ) -> Result<Option<Found>> {
        let Some(stack) = &self.stack else { return Ok(None) };
        let Some((first, others)) = stack.tiers.split_first() else { return Ok(None) };
        let mut walk = Walk::of_quiet(self, stack, (key, hash));
        match answer {
            FirstAnswer::Got(Ok(Some(bytes))) => {
                if let Some(found) =
                    read.take(&mut walk, first, VersionedFrame::unversioned(Some(bytes))).await
                {
                    return Ok(Some(found));
                }
            }
            FirstAnswer::Got(Ok(None)) => {}
            FirstAnswer::Got(Err(error)) => walk.failed(first, error),
            FirstAnswer::Refused(refusal) => {
                let _was_removed = self.end_refused((key, hash), (stack, first), refusal).await;
            }
        }
        walk.pass_over(others, &mut read).await
    }
}
