//! The walk over the tiers of bytes that every read makes.
//!
//! It decides which tiers may be asked for a key, nearest first, what an answer
//! is worth, what is served where none has the entry, and whether to ask again.
//! Reads differ in what they ask for: a [`Question`]. Batches ask each tier for
//! many keys at once and make the same decisions for each key by its [`Walk`].

use std::sync::Arc;

use larder_core::key::EncodedKey;
use larder_core::{Error, Result};

use crate::coherence::confirmation::Doubt;
use crate::engine::Engine;
use crate::read::Found;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// Passes over the tiers for one read. One may miss an entry that a repair moves
/// from one tier to another meanwhile, the next one does not.
pub(crate) const PASSES: usize = 2;

/// One pass over the tiers for one key: what is known so far.
pub(crate) struct Walk<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) stack: &'a TierStack,
    pub(crate) key: &'a EncodedKey,
    pub(crate) hash: u64,
    doubt: Doubt,
    was_owed: bool,
    /// An entry that may not be served was removed, and what the read is based on
    /// has changed by that.
    removed: bool,
    failure: Option<Error>,
}

/// What a read asks each tier for.
pub(crate) trait Question: Send {
    /// What answers it.
    type Answer: Send;

    /// A pass begins: takes note of what has to be known before any tier is asked,
    /// and forgets the former pass. An answer without a tier ends the walk.
    fn begin(&mut self, walk: &Walk<'_>) -> Option<Self::Answer>;

    /// Asks one tier; `None` where it has nothing that may be served.
    fn ask(
        &mut self,
        walk: &mut Walk<'_>,
        handle: &TierHandle,
    ) -> impl Future<Output = Result<Option<Self::Answer>>> + Send;

    /// The answer where no tier has one: what memory has, unconfirmed.
    fn fall_back(&mut self, walk: &Walk<'_>) -> Option<Self::Answer>;
}

impl Engine {
    /// Asks tier after tier, until one answers.
    ///
    /// # Errors
    /// The last failure of a tier, when no other answered.
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
    /// Removes what lies under other encodings of an equal key, and makes up for a
    /// change of the entry that the shared tier is owed, if that can be done.
    pub(crate) async fn begin(
        engine: &'a Arc<Engine>,
        stack: &'a TierStack,
        (key, hash): (&'a EncodedKey, u64),
    ) -> Self {
        engine.drop_new_conflicts(hash).await;
        let was_owed = stack.is_pending(key);
        let doubt = engine.confirmation_of(stack, key).await;
        Self { engine, stack, key, hash, doubt, was_owed, removed: false, failure: None }
    }

    async fn pass<Q: Question>(&mut self, question: &mut Q) -> Result<Option<Q::Answer>> {
        if let Some(answer) = question.begin(self) {
            return Ok(Some(answer));
        }
        for handle in &self.stack.tiers {
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

    /// Whether a tier may be asked.
    pub(crate) fn may_ask(&self, handle: &TierHandle) -> bool {
        self.engine.may_read(&self.doubt, handle)
    }

    /// A tier could not be read: the farther ones are asked, and what they have is
    /// in doubt where it was the one that nodes share.
    pub(crate) fn failed(&mut self, handle: &TierHandle, error: Error) {
        self.doubt.away_if(handle.is_among_nodes());
        self.failure = Some(error);
    }

    /// Whether a frame that `handle` has, by its beginning, is in doubt; `None` where
    /// it must not be served.
    pub(crate) async fn is_unconfirmed(&self, handle: &TierHandle, head: &[u8]) -> Option<bool> {
        self.engine.is_unconfirmed((self.stack, handle), (self.key, self.hash), head, &self.doubt).await
    }

    /// The copy in memory, where that is all there is to be had.
    pub(crate) fn unconfirmed(&self) -> Option<Found> {
        self.engine.unconfirmed(self.stack, self.key, self.failure.is_some())
    }

    /// What the read is to be based on was removed by this node itself.
    pub(crate) fn base_was_removed(&mut self) {
        self.removed = true;
    }

    /// Whether a pass that found nothing is to be made again: a repair moved the
    /// entry from one tier to another meanwhile, or the stamp that a load goes by is
    /// out of date.
    pub(crate) fn is_to_be_repeated(&self) -> bool {
        self.removed || self.was_owed && !self.stack.is_pending(self.key)
    }
}
