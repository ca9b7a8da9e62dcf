//! Removing an entry from memory and from every tier.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::entry_meta::{EntryMeta, Freshness};
use larder_core::erased::{AnyLookup, Key, Value};
use larder_core::events::Event;
use larder_core::frame::{CodecId, Head};
use larder_core::key::EncodedKey;
use larder_core::memory::{Record, Removed};
use larder_core::tier::{EntryVersion, TierKind};
use larder_core::{Error, Result};

use crate::engine::Engine;
use crate::key_lock::reentrancy;
use crate::key_lock::{Caller, WriteGuard, WriteTurn};
use crate::read::refusal::note_refusal;
use crate::tier_stack::Decoded;
use crate::tier_stack::tier_handle::TierHandle;
use larder_exec::runtime::Runtime;

/// A fresh entry as found by the operation that is about to change it.
pub(crate) struct Peeked {
    /// `None` for the knowledge that there is no value.
    pub(crate) value: Option<Value>,
    pub(crate) terms: EntryMeta,
}

/// What memory knew of an entry that is being removed.
pub(crate) struct Former {
    erased: Erased,
    base: Option<EntryVersion>,
}

/// What a removal found, ordered by how much it says about the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Erased {
    /// No entry, or one that was invalidated before.
    Nothing,
    /// An entry past its deadline, in this tier.
    Expired(TierKind),
    /// An entry that could be served.
    Live,
}

impl Peeked {
    pub(crate) fn in_memory(record: Record<Value>) -> Self {
        let terms = record.terms.map_or(EntryMeta::PLAIN, |terms| terms.current());
        Self { value: record.value, terms }
    }
}

impl Engine {
    /// Removes `key` from every tier. Returns whether there was an entry that could be served.
    /// Supersedes the loads and promotions of the key that are in progress.
    ///
    /// # Errors
    /// If a tier failed to remove the entry. What may be left there is not served.
    pub(crate) async fn remove<W: Runtime>(self: &Arc<Self>, key: &dyn AnyLookup) -> Result<bool> {
        self.check_open()?;
        let name = self.name_of(key);
        let encoded = self.encode_key(key)?;
        let (turn, _caller) = self.write_turn::<W>(self.key_locks.hash(key));
        let Some(encoded) = encoded else {
            let _guard = self.lock_for_write(&turn).await?;
            return Ok(self.count_removal(name, self.erased(self.discard(key).as_ref())));
        };
        let engine = Arc::clone(self);
        self.drive::<W, _>(false, async move { engine.remove_encoded(&encoded, &turn, name).await }).await?
    }

    pub(crate) async fn remove_encoded(
        self: &Arc<Self>,
        encoded: &EncodedKey,
        turn: &WriteTurn,
        name: Option<Arc<Key>>,
    ) -> Result<bool> {
        let _guard = self.lock_for_write(turn).await?;
        let (erased, failure) = self.erase(encoded).await;
        let removed = self.count_removal(name, erased);
        failure.map_or(Ok(removed), Err)
    }

    /// Removes `key` from every tier and returns its value. Of several concurrent callers, one gets
    /// it.
    ///
    /// # Errors
    /// If no tier had a value and one failed, or if a tier failed to remove the entry. In either
    /// case the entry is not served any more, and its value is lost.
    pub(crate) async fn take<W: Runtime>(self: &Arc<Self>, key: &dyn AnyLookup) -> Result<Option<Value>> {
        self.check_open()?;
        let name = self.name_of(key);
        let encoded = self.encode_key(key)?;
        let (turn, _caller) = self.write_turn::<W>(self.key_locks.hash(key));
        let Some(encoded) = encoded else {
            let _guard = self.lock_for_write(&turn).await?;
            let value = self.glance(key).and_then(|record| record.value);
            self.count_removal(name, self.erased(self.discard(key).as_ref()));
            return Ok(value);
        };
        let engine = Arc::clone(self);
        self.drive::<W, _>(false, async move {
            let _guard = engine.lock_for_write(&turn).await?;
            if let Some(shared) = engine.shared().filter(|_| engine.lifecycle.is_on()) {
                let value = engine.take_shared(shared, &encoded).await?;
                engine.count_removal(name, Erased::live_if(value.is_some()));
                return Ok(value);
            }
            let found = if engine.lifecycle.is_on() { engine.peek(&encoded).await } else { Ok(None) };
            let (_, failure) = engine.erase(&encoded).await;
            let value = found?.and_then(|peeked| peeked.value);
            engine.count_removal(name, Erased::live_if(value.is_some()));
            failure.map_or(Ok(value), Err)
        })
        .await?
    }

    /// Takes the turn of a write that begins now. Called in the caller's future, which keeps the
    /// [`Caller`]: an abandoned write must not overwrite a later one.
    pub(crate) fn write_turn<W: Runtime>(&self, hash: u64) -> (WriteTurn, Caller) {
        if W::IS_TASK && self.has_tiers() {
            return self.key_locks.turn_of_task(hash);
        }
        (WriteTurn::of_thread(hash), Caller::THREAD)
    }

    /// Takes the guard of a key for a change. Fails if the cache was closed meanwhile.
    pub(crate) async fn lock_for_write(self: &Arc<Self>, turn: &WriteTurn) -> Result<WriteGuard> {
        let guard = self.key_locks.write(turn).await?;
        self.check_open()?;
        self.backoffs.end(turn.hash());
        Ok(guard)
    }

    /// Counts a removal and emits its event. Returns whether the entry could be served.
    pub(crate) fn count_removal(&self, name: Option<Arc<Key>>, erased: Erased) -> bool {
        match erased {
            Erased::Nothing => {}
            Erased::Expired(tier) => self.events.emit_of(name, |key| Event::Expired { key, tier }),
            Erased::Live => {
                self.counters.removals.increment();
                self.events.emit_of(name, |key| Event::Removed { key });
            }
        }
        erased == Erased::Live
    }

    /// Classifies a record that was removed from memory.
    pub(crate) fn erased(&self, removed: Option<&Removed>) -> Erased {
        let Some(removed) = removed else { return Erased::Nothing };
        let is_past = |removed: &Removed| {
            removed.terms.as_ref().is_some_and(|terms| terms.until() <= self.timeline.now())
        };
        match self.freshness_by(removed.lifespan()) {
            Freshness::Fresh => Erased::live_if(removed.has_value),
            _ if is_past(removed) => Erased::Expired(TierKind::Memory),
            _ => Erased::Nothing,
        }
    }

    /// Classifies the entry of a tier before its removal. Reads the head of the frame if the entry
    /// may be past its deadline, invalidated, or of another schema or type. A tier that nodes share
    /// expires its entries itself and keeps schemas apart, but knows no invalidations.
    pub(crate) async fn erasable(&self, handle: &TierHandle, encoded: &EncodedKey) -> Erased {
        let may_be_unusable = self.expires.load(Ordering::Relaxed) || !handle.has_only_own_entries();
        if (!may_be_unusable || handle.is_among_nodes()) && self.invalidations.stamp() == 0 {
            return Erased::Live;
        }
        // An entry whose head cannot be read counts as live.
        let Ok(Some(bytes)) = handle.head(encoded).await else { return Erased::Live };
        let is_past = || Head::parse(&bytes).is_ok_and(|head| head.header.deadline <= self.timeline.now());
        match self.head_freshness(handle, &bytes, encoded) {
            Some((Freshness::Fresh, codec)) => Erased::live_if(codec != CodecId::Absent),
            _ if is_past() => Erased::Expired(handle.kind()),
            _ => Erased::Nothing,
        }
    }

    /// Finds the fresh entry, in memory or in any tier. The caller holds the guard.
    ///
    /// # Errors
    /// The error of a tier, if no other tier had the entry.
    pub(crate) async fn peek(&self, encoded: &EncodedKey) -> Result<Option<Peeked>> {
        self.drop_conflicts(encoded).await;
        self.find_fresh(encoded).await
    }

    /// As [`peek`](Self::peek), for a caller without the guard, which changes nothing.
    pub(crate) async fn find_fresh(&self, encoded: &EncodedKey) -> Result<Option<Peeked>> {
        let Some(stack) = &self.stack else { return Ok(None) };
        if let Ok(key) = stack.keys.decode(encoded.as_bytes())
            && let Some(record) = self.recall(&key)
        {
            return Ok(Some(Peeked::in_memory(record)));
        }
        let mut failure: Option<Error> = None;
        for handle in &stack.tiers {
            match handle.get(encoded).await {
                Ok(Some(bytes)) => match reentrancy::within(|| self.judge(stack, handle, bytes, encoded)) {
                    Ok(found) if found.freshness == Freshness::Fresh => {
                        let Decoded { value, terms, .. } = found.decoded;
                        return Ok(Some(Peeked { value, terms }));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        note_refusal(handle, encoded, &error);
                        self.emit_refusal(encoded, handle.kind(), &error);
                    }
                },
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Removes the entry from every tier. The caller holds the guard. Returns what was found and
    /// the last failure.
    pub(crate) async fn erase(&self, encoded: &EncodedKey) -> (Erased, Option<Error>) {
        let former = self.former(encoded);
        self.erase_from(encoded, former, None).await
    }

    /// As [`erase`](Self::erase), after the entry was removed from one of the tiers.
    pub(crate) async fn erase_beside(
        &self,
        encoded: &EncodedKey,
        former: Former,
        there: ErasedIn<'_>,
    ) -> (Erased, Option<Error>) {
        self.erase_from(encoded, former, Some(there)).await
    }

    async fn erase_from(
        &self,
        encoded: &EncodedKey,
        former: Former,
        there: Option<ErasedIn<'_>>,
    ) -> (Erased, Option<Error>) {
        let Some(stack) = &self.stack else { return (Erased::Nothing, None) };
        let was_elsewhere = if self.drop_conflicts(encoded).await { Erased::Live } else { Erased::Nothing };
        let (mut erased, mut failure) = (former.erased.max(was_elsewhere), None);
        let asked = there.as_ref().map(|there| there.handle);
        let mut take = |outcome: Result<bool>, found: Erased| match outcome {
            Ok(true) => erased = erased.max(found),
            Ok(false) => {}
            Err(error) => failure = Some(error),
        };
        if let Some(ErasedIn { found, removed, .. }) = there {
            take(removed, found);
        }
        let was_asked = |handle: &TierHandle| asked.is_some_and(|asked| std::ptr::eq(asked, handle));
        for handle in stack.tiers.iter().filter(|handle| !was_asked(handle)) {
            let found = self.erasable(handle, encoded).await;
            take(handle.remove(encoded).await, found);
        }
        self.note_base(stack, encoded, former.base);
        (erased, failure)
    }

    /// Removes the copy from memory, before the entry is removed from the tiers.
    pub(crate) fn former(&self, encoded: &EncodedKey) -> Former {
        let Some(stack) = &self.stack else { return Former { erased: Erased::Nothing, base: None } };
        let copy = stack.keys.decode(encoded.as_bytes()).ok().and_then(|key| self.discard(&key));
        let version = copy.as_ref().and_then(|copy| copy.checked);
        Former { erased: self.erased(copy.as_ref()), base: self.base_of(stack, encoded, version) }
    }
}

/// A removal from one tier.
pub(crate) struct ErasedIn<'a> {
    pub(crate) handle: &'a TierHandle,
    /// What the entry was.
    pub(crate) found: Erased,
    /// Whether there was one.
    pub(crate) removed: Result<bool>,
}

impl Erased {
    pub(crate) fn live_if(is_live: bool) -> Self {
        if is_live { Self::Live } else { Self::Nothing }
    }
}
