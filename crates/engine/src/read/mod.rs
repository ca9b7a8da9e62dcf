//! Reading: memory first, then tier by tier.

mod before_section;
pub(crate) mod explain;
pub(crate) mod on_thread;
pub(crate) mod promotion;
pub(crate) mod refusal;
pub(crate) mod relocation;
pub(crate) mod walk;

use std::sync::Arc;

use larder_core::entry_meta::{EntryMeta, Freshness, read_offset};
use larder_core::erased::{AnyLookup, Key, Value};
use larder_core::events::Event;
use larder_core::frame::{CodecId, Head, Header};
use larder_core::key::EncodedKey;
use larder_core::memory::Record;
use larder_core::place::{Facts, Placement};
use larder_core::stats::HotCount;
use larder_core::tier::{EntryVersion, TierKind, VersionedFrame};
use larder_core::{Bytes, Result};

use crate::coherence::identity;
use crate::engine::Engine;
use crate::invalidation::log::EntryAge;
use crate::key_lock::KeyEpoch;
use crate::read::promotion::MemoryCounts;
use crate::read::refusal::{Refusal, note_refusal};
use crate::read::walk::{Question, Walk};
use crate::tier_stack::tier_handle::TierHandle;
use crate::tier_stack::{Decoded, TierStack};
use crate::write::precondition::Precondition;
use crate::write::prepared_entry::reload_cost;
use larder_exec::runtime::Runtime;
use larder_exec::uncancellable;

/// The answer of a byte tier: a fresh entry, or a stale one that may serve as a fallback.
pub(crate) struct Found {
    /// The tier that answered.
    pub(crate) tier: TierKind,
    /// The home tier of the entry.
    pub(crate) home: TierKind,
    pub(crate) decoded: Decoded,
    pub(crate) freshness: Freshness,
    /// `false` if other nodes may have changed the entry without this node knowing.
    pub(crate) confirmed: bool,
}

/// Where an answer comes from, and what was recorded before the tier was asked.
pub(crate) struct ReadFrom<'a> {
    pub(crate) stack: &'a TierStack,
    pub(crate) handle: &'a TierHandle,
    pub(crate) key: &'a EncodedKey,
    /// Tells whether the entry changed meanwhile; `None` if memory gets no copy.
    pub(crate) observation: &'a Option<KeyEpoch>,
    /// What validates a copy in memory.
    pub(crate) version: Option<EntryVersion>,
}

impl Found {
    /// Returns the freshness, the value, and the metadata.
    pub(crate) fn into_parts(self) -> (Freshness, Option<Value>, EntryMeta) {
        (self.freshness, self.decoded.value, self.decoded.terms)
    }

    /// Returns the value if it may be served.
    pub(crate) fn into_fresh(self) -> Option<Value> {
        self.if_fresh()?.decoded.value
    }

    fn if_fresh(self) -> Option<Self> {
        (self.freshness == Freshness::Fresh).then_some(self)
    }
}

impl Engine {
    /// Looks `key` up in the tiers beyond memory, for a caller that missed in memory.
    ///
    /// # Errors
    /// The error of a tier, if no other tier had the entry.
    pub(crate) async fn get<W: Runtime>(self: &Arc<Self>, key: &dyn AnyLookup) -> Result<Option<Value>> {
        match self.begin_get(key) {
            Ok(None) => Ok(None),
            Ok(Some(encoded)) => {
                let found = self.seek::<W>(encoded, self.key_locks.hash(key)).await;
                self.end_get(found)
            }
            Err(error) => self.end_get(Err(error)),
        }
    }

    /// Encodes the key of a look-up. `None` if it has ended: memory knows that there is no value, or the cache
    /// is closed.
    fn begin_get(&self, key: &dyn AnyLookup) -> Result<Option<EncodedKey>> {
        self.release_expired(key);
        self.observe_request(key);
        let Some(encoded) = self.encode_key(key)? else { return self.end_get(Ok(None)).map(|_| None) };
        if self.is_known_absent(key) {
            return Ok(None);
        }
        if self.is_closed() {
            return self.end_get(Ok(None)).map(|_| None);
        }
        Ok(Some(encoded))
    }

    /// Counts a look-up that found no fresh entry, and returns the value.
    fn end_get(&self, found: Result<Option<Found>>) -> Result<Option<Value>> {
        let found = found.map(|found| found.and_then(Found::if_fresh));
        if !matches!(found, Ok(Some(_))) {
            self.counters.misses.increment();
        }
        Ok(found?.and_then(|found| found.decoded.value))
    }

    /// Returns whether memory knows that there is no value.
    fn is_known_absent(&self, key: &dyn AnyLookup) -> bool {
        let known = self.recall(key).is_some_and(|record| record.value.is_none());
        if known {
            self.counters.hot.increment(HotCount::Hits);
        }
        known
    }

    /// Returns whether a tier has an entry for `key`. Reads a payload only if the head does not tell
    /// whether it can be decoded; otherwise a damaged payload goes unnoticed.
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

    /// Returns the freshness of a frame by its head, and its codec. `None` for a frame that cannot
    /// be served: it is damaged, or of another key, schema version or type.
    pub(crate) fn head_freshness(
        &self,
        handle: &TierHandle,
        bytes: &[u8],
        key: &EncodedKey,
    ) -> Option<(Freshness, CodecId)> {
        let head = Head::parse(bytes).ok().filter(|head| head.key == key.as_bytes())?;
        if self.stack.as_ref()?.accepts(&head.header) == Some(false) {
            return None;
        }
        let terms = EntryMeta::read(&head.header, head.attributes)?;
        let (header, terms) = handle.by_own_time(key, (head.header, terms), read_offset(head.attributes));
        Some((self.freshness_of(handle, &header, &terms), header.codec))
    }

    /// Returns the freshness now of an entry of `handle` with this header and metadata. If the
    /// tier's entries carry sequence numbers of other processes, only the metadata counts.
    pub(crate) fn freshness_of(&self, handle: &TierHandle, header: &Header, terms: &EntryMeta) -> Freshness {
        let now = self.timeline.now();
        if handle.has_foreign_versions() {
            return terms.freshness(now);
        }
        terms.freshness(now).min(self.invalidations.freshness(EntryAge::new(header.generation, terms), now))
    }

    /// Reads `key` from the byte tiers, and copies the entry into memory unless it changed
    /// meanwhile.
    pub(crate) async fn seek<W: Runtime>(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> Result<Option<Found>> {
        let Some(stack) = self.stack.as_ref().filter(|stack| !stack.tiers.is_empty()) else {
            return Ok(None);
        };
        if let Some(first) = self.asked_before_section(stack) {
            return self.read_before_section::<W>(first, key, hash).await;
        }
        let engine = Arc::clone(self);
        self.drive::<W, _>(true, async move { engine.read(&key, hash).await }).await?
    }

    /// As [`seek`](Self::seek), for a load that begins now. Also returns the precondition for
    /// storing: any change by another node or process from here on wins.
    pub(crate) async fn seek_versioned<W: Runtime>(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> (Precondition, Result<Option<Found>>) {
        if !self.confirms_copies {
            return (Precondition::None, self.seek::<W>(key, hash).await);
        }
        let engine = Arc::clone(self);
        let section = async move { engine.read_versioned(&key, hash).await };
        match self.drive::<W, _>(true, section).await {
            Ok(sought) => sought,
            Err(error) => (Precondition::Unknown, Err(error)),
        }
    }

    pub(crate) async fn read(self: &Arc<Self>, key: &EncodedKey, hash: u64) -> Result<Option<Found>> {
        self.walk((key, hash), &mut Read::new(false)).await
    }

    /// As [`read`](Self::read). The precondition is the version that the entry had in the shared
    /// tier.
    pub(crate) async fn read_versioned(
        self: &Arc<Self>,
        key: &EncodedKey,
        hash: u64,
    ) -> (Precondition, Result<Option<Found>>) {
        let mut read = Read::new(true);
        let found = self.walk((key, hash), &mut read).await;
        (read.precondition, found)
    }

    /// Checks a frame, and copies it into memory or moves it if its placement says so. Counts and removes a
    /// frame that must not be served; the error tells whether it was removed.
    async fn accept(self: &Arc<Self>, from: &ReadFrom<'_>, hash: u64, bytes: Bytes) -> Result<Found, bool> {
        uncancellable::if_large(bytes.len() as u64).await;
        match self.admit(from, bytes) {
            Ok((found, None)) => Ok(found),
            Ok((found, Some(to))) => {
                Box::pin(self.relocate(from.stack, from.handle, (from.key, hash), to)).await;
                Ok(found)
            }
            Err(refusal) => Err(self.end_refused((from.key, hash), (from.stack, from.handle), refusal).await),
        }
    }

    /// Removes an entry that must not be served, if no one else can. Returns whether it was removed.
    async fn end_refused(
        self: &Arc<Self>,
        (key, hash): (&EncodedKey, u64),
        (stack, handle): (&TierStack, &TierHandle),
        refusal: Refusal,
    ) -> bool {
        match refusal {
            // The node that wrote it may be writing it again, and the next write of the key replaces it.
            Refusal::Over if handle.is_among_nodes() => false,
            _ => Box::pin(self.drop_gone(stack, handle, key, hash)).await,
        }
    }

    /// Checks a frame, and copies it into memory if its placement says so. Counts a frame that must not be
    /// served. Also returns the tier to which it is to be moved, if any.
    fn admit(&self, from: &ReadFrom<'_>, bytes: Bytes) -> Result<(Found, Option<TierKind>), Refusal> {
        let ReadFrom { stack, handle, key, observation, version } = *from;
        let identity = version.map_or(0, |_| identity(&bytes));
        match self.judge(stack, handle, bytes, key) {
            Ok(found) if found.freshness == Freshness::Gone => {
                self.note_over(handle, key);
                Err(Refusal::Over)
            }
            Ok(found) => {
                let moves_to = observation.as_ref().and_then(|observation| {
                    let checked = version.and_then(|begun| self.coherence.finish_copy(begun, identity));
                    self.promote(from, &found, observation, checked)
                });
                Ok((found, moves_to))
            }
            Err(error) => {
                note_refusal(handle, key, &error);
                self.emit_refusal(key, handle.kind(), &error);
                Err(Refusal::Unreadable)
            }
        }
    }

    /// Decodes a frame and determines its freshness.
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

    /// Copies a found entry into memory, if its placement says so. `checked` is the version that validates the
    /// copy. Returns the tier to which the entry is to be moved, if any.
    fn promote(
        &self,
        from: &ReadFrom<'_>,
        found: &Found,
        observation: &KeyEpoch,
        checked: Option<EntryVersion>,
    ) -> Option<TierKind> {
        let Decoded { value, header, terms, .. } = &found.decoded;
        if found.freshness != Freshness::Fresh || !self.copy_pays(from.handle) {
            return None;
        }
        let facts = self.facts(header.value_len, header.load_cost, terms);
        let facts = Facts { found: Some(from.handle.kind()), ..facts };
        // All code of the user runs before the guard is taken.
        let (placement, key) = self.place_read(from, facts);
        let moves_to = self.new_home(from.handle, &placement);
        let Some(key) = key else { return moves_to };
        let bytes = header.value_len + from.key.as_bytes().len() as u64;
        let weight = self.weight(&key, value.as_ref(), bytes);
        let record = Record {
            value: value.clone(),
            created: header.created,
            // Numbers of other processes cannot be compared, so the current one is used. It is
            // right: a `clear` since the snapshot makes the claim below fail.
            stamp: if from.handle.has_foreign_versions() {
                self.invalidations.stamp()
            } else {
                header.generation
            },
            terms: self.expiry.live(terms),
            weight,
            home: found.tier,
            checked,
            cost: reload_cost(found.tier, &placement, header.load_cost),
        };
        let name = self.events.name(&key);
        match observation.claim() {
            // Closed during this read: nothing is stored after `close`.
            Some(_guard) if self.is_closed() => {}
            Some(_guard) => {
                if self.keep(key, record) {
                    self.events.emit_of(name, |key| Event::Promoted { key, from: from.handle.kind() });
                }
            }
            None => self.counters.superseded.increment(),
        }
        moves_to
    }

    /// Returns whether a read from this tier is copied into memory, if its placement says so. A tier that is far
    /// away costs so much more than a copy that all are, and a selector that learns decides itself.
    fn copy_pays(&self, handle: &TierHandle) -> bool {
        let is_near = handle.blocks() && !handle.is_shared();
        !is_near
            || self.pupil.is_some()
            || self.promotions.pay(|| MemoryCounts {
                hits: self.counters.hot.get(HotCount::Hits),
                evictions: self.memory.usage().evictions,
            })
    }

    /// Returns the placement of an entry that was read, and its key if memory gets a copy.
    fn place_read(&self, from: &ReadFrom<'_>, mut facts: Facts) -> (Placement, Option<Key>) {
        let ReadFrom { stack, key: encoded, .. } = *from;
        let decode = || stack.keys.decode(encoded.as_bytes()).ok();
        if self.pupil.is_none() {
            let placement = self.place(stack, &facts);
            return (placement, placement.in_memory().then(decode).flatten());
        }
        let key = decode();
        facts.key = key.as_ref().and_then(|key| self.fact_key(key));
        let placement = self.place(stack, &facts);
        self.teach_request(&facts, facts.found);
        (placement, key.filter(|_| placement.in_memory()))
    }
}

/// Asks for the entry itself, and copies it into memory unless it changed meanwhile.
pub(crate) struct Read {
    /// Whether this read is the start of a load, which needs a precondition for storing.
    is_for_load: bool,
    /// The version that the entry had in the shared tier.
    pub(crate) precondition: Precondition,
    observation: Option<KeyEpoch>,
    /// What validates a copy that this read makes.
    version: Option<EntryVersion>,
}

impl Read {
    /// Creates the question. `is_for_load` says whether a load needs a precondition.
    pub(crate) fn new(is_for_load: bool) -> Self {
        Self { is_for_load, precondition: Precondition::Unknown, observation: None, version: None }
    }

    /// Returns whether the version in `handle` must be read too.
    pub(crate) fn asks_for_version(&self, handle: &TierHandle) -> bool {
        self.is_for_load && handle.is_among_nodes()
    }
}

impl Read {
    /// Evaluates the answer of one tier.
    pub(crate) async fn take(
        &mut self,
        walk: &mut Walk<'_>,
        handle: &TierHandle,
        VersionedFrame { frame, version, .. }: VersionedFrame,
    ) -> Option<Found> {
        if self.asks_for_version(handle) {
            self.precondition = Precondition::of(version);
        }
        let bytes = frame?;
        let (engine, stack) = (walk.engine, walk.stack);
        let unconfirmed_copy = walk.is_unconfirmed(handle, &bytes).await?;
        let version = self.version.filter(|_| !unconfirmed_copy);
        let from = ReadFrom { stack, handle, key: walk.key, observation: &self.observation, version };
        match engine.accept(&from, walk.hash, bytes).await {
            Ok(found) => Some(if unconfirmed_copy { engine.as_unconfirmed(found) } else { found }),
            Err(was_removed) => {
                if was_removed && self.is_for_load && handle.is_shared() {
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
        // Without memory there is no promotion, and no snapshot is needed.
        self.observation = (engine.memory_weight_max > 0).then(|| engine.key_locks.observe(hash));
        // Taken before any tier is read.
        self.version = engine.coherence.begin_copy(engine, key);
        engine.coherence.note_copy(key);
        self.precondition = engine.coherence.precondition_at_read(self.version);
        engine.coherence.validated_copy(engine, stack, key, self.version)
    }

    async fn ask(&mut self, walk: &mut Walk<'_>, handle: &TierHandle) -> Result<Option<Found>> {
        let answer = match self.asks_for_version(handle) {
            true => handle.get_versioned(walk.key).await?,
            false => VersionedFrame::unversioned(handle.get(walk.key).await?),
        };
        Ok(self.take(walk, handle, answer).await)
    }

    fn fall_back(&mut self, walk: &Walk<'_>) -> Option<Found> {
        walk.unconfirmed()
    }
}

/// Asks whether there is a value that a read would return. The head of the entry decides, or the whole
/// entry if its type is stored by names.
struct Contains;

impl Contains {
    /// Returns whether a fresh entry has a value; `None` if it cannot be decoded.
    async fn decoded(walk: &Walk<'_>, handle: &TierHandle) -> Result<Option<bool>> {
        let Some(bytes) = handle.get(walk.key).await? else { return Ok(None) };
        uncancellable::if_large(bytes.len() as u64).await;
        let found = walk.engine.judge(walk.stack, handle, bytes, walk.key).ok();
        let fresh = found.filter(|found| found.freshness == Freshness::Fresh);
        Ok(fresh.map(|found| found.decoded.value.is_some()))
    }
}

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
        let Some((Freshness::Fresh, codec)) = head else { return Ok(None) };
        match Head::parse(&bytes).ok().and_then(|head| walk.stack.accepts(&head.header)) {
            Some(_) => Ok(Some(codec != CodecId::Absent)),
            None => Self::decoded(walk, handle).await,
        }
    }

    fn fall_back(&mut self, walk: &Walk<'_>) -> Option<bool> {
        walk.unconfirmed().map(|found| found.into_fresh().is_some())
    }
}
