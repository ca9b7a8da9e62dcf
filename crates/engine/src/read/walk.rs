//! The walk over the tiers beyond memory, which look-ups make. Look-ups of a thread over tiers that all block
//! (`on_thread.rs`) and reads under a write guard do without it.
//!
//! It decides which tiers to ask for a key, nearest first, and whether an answer may be served. It
//! also decides what to serve if no tier has the entry, and whether to ask again. Reads differ in
//! their [`Question`]. A batch asks each tier for many keys at once, and decides for each key by
//! its own [`Walk`].

use std::sync::Arc;

use larder_core::key::EncodedKey;
use larder_core::{Error, Result};

use crate::coherence::local_copies::{LocalCopy, SharedView};
use crate::engine::Engine;
use crate::read::Found;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// Maximum number of passes over the tiers for one read. One pass may miss an entry that a
/// concurrent repair moves between tiers; the next one finds it.
pub(crate) const PASSES: usize = 2;

/// The state of one pass over the tiers for one key.
pub(crate) struct Walk<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) stack: &'a TierStack,
    pub(crate) key: &'a EncodedKey,
    pub(crate) hash: u64,
    /// Whether the entries of this node's own tiers count as unconfirmed.
    view: SharedView,
    /// Whether the shared tier lacked a change of this entry when the pass began.
    was_pending: bool,
    /// This node removed an entry that may not be served. That changed the version that the read's
    /// precondition refers to.
    removed: bool,
    /// The last failure of a tier.
    failure: Option<Error>,
}

/// What a read asks each tier for.
pub(crate) trait Question: Send {
    /// The answer of the read.
    type Answer: Send;

    /// Begins a pass: takes the snapshots that must precede the first tier, and resets the state of
    /// a former pass. An answer without any tier ends the walk.
    fn begin(&mut self, walk: &Walk<'_>) -> Option<Self::Answer>;

    /// Asks one tier. `None` if it has no entry that may be served.
    fn ask(
        &mut self,
        walk: &mut Walk<'_>,
        handle: &TierHandle,
    ) -> impl Future<Output = Result<Option<Self::Answer>>> + Send;

    /// Returns the fallback if no tier has an answer: the unconfirmed copy in memory.
    fn fall_back(&mut self, walk: &Walk<'_>) -> Option<Self::Answer>;
}

impl Engine {
    /// Asks the tiers in turn until one answers.
    ///
    /// # Errors
    /// The last failure of a tier, if no other tier answered.
    pub(crate) async fn walk<Q>(
        self: &Arc<Self>,
        (key, hash): (&EncodedKey, u64),
        question: &mut Q,
    ) -> Result<Option<Q::Answer>>
    where
        Q: Question,
    {
        let Some(stack) = &self.stack else { return Ok(None) };
        self.retry_due().await;
        for _ in 1..PASSES {
            let mut walk = Walk::begin(self, stack, (key, hash)).await;
            let answer = walk.pass(question).await;
            if !matches!(answer, Ok(None)) || !walk.is_to_be_repeated() {
                return answer;
            }
        }
        Walk::begin(self, stack, (key, hash)).await.pass(question).await
    }
}

impl<'a> Walk<'a> {
    /// Begins a pass. Removes entries under other encodings of an equal key. Tries to write a
    /// pending change of this entry to the shared tier.
    pub(crate) async fn begin(
        engine: &'a Arc<Engine>,
        stack: &'a TierStack,
        (key, hash): (&'a EncodedKey, u64),
    ) -> Self {
        engine.drop_new_conflicts(hash).await;
        let was_pending = stack.is_pending(key);
        let view = engine.shared_view(stack, key).await;
        Self { engine, stack, key, hash, view, was_pending, removed: false, failure: None }
    }

    /// Begins the only pass of a read for which nothing is to be removed or repaired.
    pub(crate) fn of_quiet(
        engine: &'a Arc<Engine>,
        stack: &'a TierStack,
        (key, hash): (&'a EncodedKey, u64),
    ) -> Self {
        let view = SharedView::CERTAIN;
        Self { engine, stack, key, hash, view, was_pending: false, removed: false, failure: None }
    }

    async fn pass<Q: Question>(&mut self, question: &mut Q) -> Result<Option<Q::Answer>> {
        if let Some(answer) = question.begin(self) {
            return Ok(Some(answer));
        }
        self.pass_over(&self.stack.tiers, question).await
    }

    /// Asks these tiers in turn.
    pub(crate) async fn pass_over<Q: Question>(
        &mut self,
        tiers: &[TierHandle],
        question: &mut Q,
    ) -> Result<Option<Q::Answer>> {
        for handle in tiers {
            if !self.may_ask(handle) {
                continue;
            }
            match question.ask(self, handle).await {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) => {}
                Err(error) => self.failed(handle, error),
            }
        }
        if let Some(answer) = question.fall_back(self) {
            return Ok(Some(answer));
        }
        self.failure.take().map_or(Ok(None), Err)
    }

    /// Returns false for a tier of this node while its entries are uncertain, if the cache serves only confirmed
    /// ones.
    pub(crate) fn may_ask(&self, handle: &TierHandle) -> bool {
        self.engine.may_read(&self.view, handle)
    }

    /// Records that a tier could not be read. If it is the shared tier, the entries of the
    /// remaining tiers count as unconfirmed.
    pub(crate) fn failed(&mut self, handle: &TierHandle, error: Error) {
        self.view.failed(handle);
        self.failure = Some(error);
    }

    /// Returns whether a frame of `handle` is unconfirmed, by its head. `None` if it must not be
    /// served; an outdated one is removed. After a missed window this asks the shared tier.
    pub(crate) async fn is_unconfirmed(&self, handle: &TierHandle, head: &[u8]) -> Option<bool> {
        let copy = LocalCopy { stack: self.stack, handle, key: self.key, head };
        self.engine.is_unconfirmed(copy, self.hash, &self.view).await
    }

    /// Returns the copy in memory while the shared tier failed or a write to it is pending, for use if no tier
    /// has the entry.
    pub(crate) fn unconfirmed(&self) -> Option<Found> {
        self.engine.unconfirmed(self.stack, self.key, self.failure.is_some())
    }

    /// Records that this node itself removed the entry that the precondition refers to.
    pub(crate) fn base_was_removed(&mut self) {
        self.removed = true;
    }

    /// Returns whether to repeat a pass that found nothing: a repair moved the entry between tiers
    /// meanwhile, or the version for a load's precondition is out of date.
    pub(crate) fn is_to_be_repeated(&self) -> bool {
        self.removed || self.was_pending && !self.stack.is_pending(self.key)
    }
}
