//! Reading: memory, then tier by tier.

pub(crate) mod explain;
pub(crate) mod walk;

use std::sync::Arc;

use larder_core::entry_meta::{EntryMeta, Freshness, read_offset};
use larder_core::erased::{AnyLookup, Value};
use larder_core::events::Event;
use larder_core::frame::{self, CodecId, Head, Header};
use larder_core::key::EncodedKey;
use larder_core::memory::Record;
use larder_core::tier::{EntryVersion, TierKind, VersionedFrame};
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::coherence::{CopyTag, identity};
use crate::engine::Engine;
use crate::invalidation::log::EntryAge;
use crate::key_lock::KeyEpoch;
use crate::key_lock::reentrancy;
use crate::read::walk::{Question, Walk};
use crate::tier_stack::tier_handle::TierHandle;
use crate::tier_stack::{Decoded, TierStack};
use larder_exec::runtime::Runtime;
use larder_exec::uncancellable;

/// What a tier of bytes answered with: fresh, or good as a fallback.
pub(crate) struct Found {
    /// The tier that answered.
    pub(crate) tier: TierKind,
    /// The tier that answers for the entry.
    pub(crate) home: TierKind,
    pub(crate) decoded: Decoded,
    pub(crate) freshness: Freshness,
    /// Not so where other nodes may have changed it unheard.
    pub(crate) confirmed: bool,
}

impl Found {
    /// What it is good for, the value, and the terms.
    pub(crate) fn into_parts(self) -> (Freshness, Option<Value>, EntryMeta) {
        (self.freshness, self.decoded.value, self.decoded.terms)
    }

    /// The value, where it may be served.
    pub(crate) fn into_fresh(self) -> Option<Value> {
        self.if_fresh()?.decoded.value
    }

    fn if_fresh(self) -> Option<Self> {
        (self.freshness == Freshness::Fresh).then_some(self)
    }
}

impl Engine {
    /// The value of `key` beyond memory, for a caller that missed there.
    ///
    /// # Errors
    /// Those of a tier, when no other tier had the entry.
    pub(crate) async fn get<W: Runtime>(self: &Arc<Self>, key: &dyn AnyLookup) -> Result<Option<Value>> {
        self.release_expired(key);
        let found = match self.encode_key(key) {
            Ok(Some(_)) if self.is_known_absent(key) => return Ok(None),
            Ok(Some(encoded)) if !self.is_closed() => self.seek::<W>(encoded, self.key_locks.hash(key)).await,
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        let found = found.map(|found| found.and_then(Found::if_fresh));
        if !matches!(found, Ok(Some(_))) {
            self.counters.misses.increment();
        }
        Ok(found?.and_then(|found| found.decoded.value))
    }

    /// Whether memory knows that there is no value.
    fn is_known_absent(&self, key: &dyn AnyLookup) -> bool {
        let known = self.recall(key).is_some_and(|record| record.value.is_none());
        if known {
            self.memory_hits.increment();
        }
        known
    }

    /// Whether some tier has an entry for `key`. Reads no payload, so a torn
    /// one is not noticed.
    pub(crate) async fn contains_key<W: Runtime>(self: &Arc<Self>, key: &dyn AnyLookup) -> Result<bool> {
        if let Some(record) = self.glance(key) {
            return Ok(record.value.is_some());
        }
        let Some(encoded) = self.encode_key(key)? else { return Ok(false) };
        if self.is_closed() {
            return Ok(false);
        }
        let (engine, hash) = (Arc::clone(self), self.key_locks.hash(key));
        let found =
            self.drive::<W, _>(true, async move { engine.walk((&encoded, hash), &mut Contains).await });
        Ok(found.await??.unwrap_or(false))
    }

    /// What a frame is good for by its head, and what it holds.
    pub(crate) fn head_freshness(
        &self,
        handle: &TierHandle,
        bytes: &[u8],
        key: &EncodedKey,
    ) -> Option<(Freshness, CodecId)> {
        let head = Head::parse(bytes).ok().filter(|head| head.key == key.as_bytes())?;
        let terms = EntryMeta::read(&head.header, head.tags)?;
        let (header, terms) = handle.by_own_time(key, (head.header, terms), read_offset(head.tags));
        Some((self.freshness_of(handle, &header, &terms), header.codec))
    }

    /// What an entry of `handle` with this header and these terms is good for
    /// now. Where stamps are those of others its terms alone count.
    pub(crate) fn freshness_of(&self, handle: &TierHandle, header: &Header, terms: &EntryMeta) -> Freshness {
        let now = self.timeline.now();
        if handle.has_foreign_versions() {
            return terms.freshness(now);
        }
        terms.freshness(now).min(self.invalidations.freshness(EntryAge::new(header.generation, terms), now))
    }

    /// Reads `key` from the tiers of bytes, and copies it into memory unless
    /// it changed meanwhile.
    pub(crate) async fn seek<W: Runtime>(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> Result<Option<Found>> {
        if self.tiers().is_empty() {
            return Ok(None);
        }
        let engine = Arc::clone(self);
        self.drive::<W, _>(true, async move { engine.read(&key, hash).await }).await?
    }

    /// As [`seek`](Self::seek), for a load that begins now: the key as it is to
    /// be stored by. What another node or process changes from here on wins over it.
    pub(crate) async fn seek_based<W: Runtime>(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> (EncodedKey, Result<Option<Found>>) {
        if !self.checks {
            return (key.clone(), self.seek::<W>(key, hash).await);
        }
        let (engine, encoded) = (Arc::clone(self), key.clone());
        let section = async move { engine.read_based(encoded, hash).await };
        match self.drive::<W, _>(true, section).await {
            Ok(sought) => sought,
            Err(error) => (key.based_on(EntryVersion::NONE), Err(error)),
        }
    }

    pub(crate) async fn read(self: &Arc<Self>, key: &EncodedKey, hash: u64) -> Result<Option<Found>> {
        self.walk((key, hash), &mut Read::new(false)).await
    }

    /// As [`read`](Self::read), with the key based on the stamp that the entry had
    /// in the tier that others share.
    pub(crate) async fn read_based(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> (EncodedKey, Result<Option<Found>>) {
        let mut read = Read::new(true);
        let found = self.walk((&key, hash), &mut read).await;
        (key.based_on(read.base), found)
    }

    /// What a copy of an entry that is read from now on is checked by.
    fn version_before_read(&self, key: &EncodedKey) -> Option<EntryVersion> {
        match &self.nodes {
            Some(nodes) => nodes.copy_tag().of(0),
            None if self.stamps => self.stamp(key),
            None => None,
        }
    }

    /// What a frame is good for, copied into memory where its placement wants
    /// that. One that is good for nothing is counted, and removed: whether it was.
    async fn accept(
        self: &Arc<Self>,
        (stack, handle): (&TierStack, &TierHandle),
        bytes: Bytes,
        (key, hash): (&EncodedKey, u64),
        (observation, stamp): &(&Option<KeyEpoch>, Option<EntryVersion>),
    ) -> Result<Found, bool> {
        let identity = identity(&bytes);
        uncancellable::if_large(bytes.len() as u64).await;
        match self.judge(stack, handle, bytes, key) {
            Ok(found) if found.freshness == Freshness::Gone => self.note_over(handle, key),
            Ok(found) => {
                if let Some(observation) = observation {
                    let checked = match &self.nodes {
                        Some(_) => stamp.and_then(|copy_tag| CopyTag::from(copy_tag).of(identity)),
                        None => *stamp,
                    };
                    self.promote((stack, handle), key, &found, (observation, checked));
                }
                return Ok(found);
            }
            Err(error) => {
                note_refusal(handle, key, &error);
                self.emit_refused(key, handle.kind());
            }
        }
        Err(Box::pin(self.drop_gone(stack, handle, key, hash)).await)
    }

    /// Opens a frame and says what it is good for.
    pub(crate) fn judge(
        &self,
        stack: &TierStack,
        handle: &TierHandle,
        bytes: Bytes,
        key: &EncodedKey,
    ) -> Result<Found> {
        let decoded = stack.open_in(handle, bytes, key)?;
        let freshness = self.freshness_of(handle, &decoded.header, &decoded.terms);
        Ok(Found { tier: handle.kind(), home: handle.kind(), decoded, freshness, confirmed: true })
    }

    /// Copies what was read into memory, where its placement wants that.
    fn promote(
        &self,
        (stack, handle): (&TierStack, &TierHandle),
        encoded: &EncodedKey,
        found: &Found,
        (observation, stamp): (&KeyEpoch, Option<EntryVersion>),
    ) {
        let Decoded { value, header, terms, .. } = &found.decoded;
        let facts = self.facts(header.value_len, header.load_cost, terms.ttl);
        if found.freshness != Freshness::Fresh || !self.place(stack, &facts).in_memory() {
            return;
        }
        // All that runs code of the user comes before the guard.
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return };
        let bytes = header.value_len + encoded.as_bytes().len() as u64;
        let weight = self.weight(&key, value.as_ref(), bytes);
        let record = Record {
            value: value.clone(),
            created: header.created,
            // No copy_tag was made since it was observed, or the claim below fails.
            stamp: if handle.has_foreign_versions() { self.invalidations.stamp() } else { header.generation },
            terms: self.expiry.live(terms),
            weight,
            home: found.tier,
            checked: stamp,
        };
        let name = self.events.name(&key);
        match observation.claim() {
            // Closed while this read: nothing is stored after `close`.
            Some(_guard) if self.is_closed() => {}
            Some(_guard) => {
                self.keep(key, record);
                self.events.emit_of(name, |key| Event::Promoted { key, from: handle.kind() });
            }
            None => self.counters.superseded.increment(),
        }
    }

    /// Whether an entry was removed for all who share it. One whose time is over leaves
    /// their tier by itself, by the clock of that tier: this node's may be wrong.
    fn is_over_by_invalidation(&self, found: &Found) -> bool {
        let Decoded { header, terms, .. } = &found.decoded;
        let now = self.timeline.now();
        found.freshness == Freshness::Gone
            && terms.freshness(now) != Freshness::Gone
            && self.invalidations.freshness(EntryAge::new(header.generation, terms), now) == Freshness::Gone
    }

    /// Removes an entry that must not be served, unless it was replaced since
    /// it was read, or is being replaced now; whether it was removed. What is shared
    /// with others is removed only where it is of no use to any of them.
    async fn drop_gone(
        self: &Arc<Self>,
        stack: &TierStack,
        handle: &TierHandle,
        key: &EncodedKey,
        hash: u64,
    ) -> bool {
        let observation = self.key_locks.observe(hash);
        let Some(_guard) = observation.claim() else { return false };
        let Ok(Some(bytes)) = handle.get(key).await else { return false };
        let is_damaged = frame::open_with_attributes(&bytes, key).is_err();
        let again = reentrancy::within(|| self.judge(stack, handle, bytes, key));
        let is_over = match &again {
            Ok(found) if handle.is_shared() => self.is_over_by_invalidation(found),
            Ok(found) => found.freshness == Freshness::Gone,
            // Others may be able to read it: another version of the program, say.
            Err(_) => is_damaged || !handle.is_shared(),
        };
        // A failure is counted by the layer and the key distrusted by the handle.
        is_over && handle.remove(key).await.is_ok()
    }
}

/// Asks for the entry itself, and copies it into memory unless it changed
/// meanwhile.
pub(crate) struct Read {
    /// Whether a load is to be based on what is found.
    is_based: bool,
    /// The stamp that the entry had in the tier that others share.
    pub(crate) base: EntryVersion,
    observation: Option<KeyEpoch>,
    stamp: Option<EntryVersion>,
}

impl Read {
    /// For a load, or not.
    pub(crate) fn new(is_based: bool) -> Self {
        Self { is_based, base: EntryVersion::NONE, observation: None, stamp: None }
    }

    /// Whether the stamp in `handle` has to be asked for.
    pub(crate) fn asks_for_version(&self, handle: &TierHandle) -> bool {
        self.is_based && handle.is_among_nodes()
    }
}

impl Read {
    /// What the answer of one tier is good for.
    pub(crate) async fn take(
        &mut self,
        walk: &mut Walk<'_>,
        handle: &TierHandle,
        (bytes, base): VersionedFrame,
    ) -> Option<Found> {
        if self.asks_for_version(handle) {
            self.base = base.unwrap_or(EntryVersion::NONE);
        }
        let bytes = bytes?;
        let (engine, stack) = (walk.engine, walk.stack);
        let unconfirmed_copy = walk.is_unconfirmed(handle, &bytes).await?;
        let promotion = (&self.observation, self.stamp.filter(|_| !unconfirmed_copy));
        match engine.accept((stack, handle), bytes, (walk.key, walk.hash), &promotion).await {
            Ok(found) => Some(if unconfirmed_copy { engine.as_unconfirmed(found) } else { found }),
            Err(was_removed) => {
                if was_removed && self.is_based && handle.is_shared() {
                    walk.base_was_removed();
                }
                None
            }
        }
    }
}

impl Question for Read {
    type Answer = Found;

    fn begin(&mut self, walk: &Walk<'_>) -> Option<Found> {
        let Walk { engine, stack, key, hash, .. } = *walk;
        // Without memory there is nothing to promote to, and nothing to remember.
        self.observation = (engine.memory_weight_max > 0).then(|| engine.key_locks.observe(hash));
        // Taken before anything is read.
        self.stamp = engine.version_before_read(key);
        engine.note_copy(key);
        if !engine.stamps {
            return None;
        }
        self.base = self.stamp.unwrap_or(EntryVersion::NONE);
        engine.checked_copy(stack, key, self.stamp)
    }

    async fn ask(&mut self, walk: &mut Walk<'_>, handle: &TierHandle) -> Result<Option<Found>> {
        let answer = match self.asks_for_version(handle) {
            true => handle.get_versioned(walk.key).await?,
            false => (handle.get(walk.key).await?, None),
        };
        Ok(self.take(walk, handle, answer).await)
    }

    fn fall_back(&mut self, walk: &Walk<'_>) -> Option<Found> {
        walk.unconfirmed()
    }
}

/// Asks whether there is a value, by the head of the entry alone.
struct Contains;

impl Question for Contains {
    type Answer = bool;

    fn begin(&mut self, _: &Walk<'_>) -> Option<bool> {
        None
    }

    async fn ask(&mut self, walk: &mut Walk<'_>, handle: &TierHandle) -> Result<Option<bool>> {
        let Some(bytes) = handle.head(walk.key).await? else { return Ok(None) };
        if walk.is_unconfirmed(handle, &bytes).await.is_none() {
            return Ok(None);
        }
        let head = walk.engine.head_freshness(handle, &bytes, walk.key);
        let fresh = head.filter(|(freshness, _)| *freshness == Freshness::Fresh);
        Ok(fresh.map(|(_, codec)| codec != CodecId::Absent))
    }

    fn fall_back(&mut self, walk: &Walk<'_>) -> Option<bool> {
        walk.unconfirmed().map(|found| found.into_fresh().is_some())
    }
}

/// Counts and logs an entry that is not served: it is damaged or of another
/// type, or it is neither and its codec does not read it back.
pub(crate) fn note_refusal(handle: &TierHandle, key: &EncodedKey, error: &Error) {
    let (counters, cache) = (handle.counters(), handle.counters().signals.cache());
    if error.kind() == ErrorKind::Codec {
        counters.undecodable.increment();
        tracing::warn!(target: "larder", cache, tier = %handle.kind(), key = ?key, error = ?error, "an intact entry cannot be decoded");
        return;
    }
    counters.refused.increment();
    tracing::warn!(target: "larder", cache, tier = %handle.kind(), key = ?key, error = ?error, "an entry was refused");
}
