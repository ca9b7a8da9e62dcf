//! Reading: memory, then tier by tier.

use std::hash::Hash;
use std::sync::Arc;

use larder_core::events::Event;
use larder_core::frame::{self, CodecId, Head, Header};
use larder_core::key::{EncodedKey, Lookup};
use larder_core::memory::{MemoryStore, Record};
use larder_core::terms::{Freshness, Terms, read_offset};
use larder_core::tier::{Stamp, TierKind};
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::doubt::Doubt;
use crate::engine::Engine;
use crate::gate::Observation;
use crate::marks::Stamped;
use crate::nodes::{Mark, identity};
use crate::section;
use crate::shield;
use crate::slot::Slot;
use crate::wait::Wait;
use crate::wire::{Decoded, Wire};

/// What a tier of bytes answered with: fresh, or good as a fallback.
pub(crate) struct Found<V> {
    /// The tier that answered.
    pub(crate) tier: TierKind,
    /// The tier that answers for the entry.
    pub(crate) home: TierKind,
    pub(crate) decoded: Decoded<V>,
    pub(crate) freshness: Freshness,
    /// Not so where other nodes may have changed it unheard.
    pub(crate) confirmed: bool,
}

impl<V> Found<V> {
    /// What it is good for, the value, and the terms.
    pub(crate) fn into_parts(self) -> (Freshness, Option<V>, Terms) {
        (self.freshness, self.decoded.value, self.decoded.terms)
    }

    /// The value, where it may be served.
    pub(crate) fn into_fresh(self) -> Option<V> {
        self.if_fresh()?.decoded.value
    }

    fn if_fresh(self) -> Option<Self> {
        (self.freshness == Freshness::Fresh).then_some(self)
    }
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// The value of `key` beyond memory, for a caller that missed there.
    ///
    /// # Errors
    /// Those of a tier, when no other tier had the entry.
    pub async fn get<W: Wait, Q>(self: &Arc<Self>, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + ?Sized + Sync,
    {
        self.let_go_over(key);
        let found = match self.encode_key(key) {
            Ok(Some(_)) if self.is_known_absent(key) => return Ok(None),
            Ok(Some(encoded)) if !self.is_closed() => self.seek::<W>(encoded, self.gates.hash(key)).await,
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
    fn is_known_absent<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> bool {
        let known = self.recall(key).is_some_and(|record| record.value.is_none());
        if known {
            self.memory_hits.increment();
        }
        known
    }

    /// Whether some tier has an entry for `key`. Reads no payload, so a torn
    /// one is not noticed.
    pub async fn contains_key<W: Wait, Q>(self: &Arc<Self>, key: &Q) -> Result<bool>
    where
        Q: Lookup<K> + ?Sized + Sync,
    {
        if let Some(record) = self.glance(key) {
            return Ok(record.value.is_some());
        }
        let Some(encoded) = self.encode_key(key)? else { return Ok(false) };
        if self.is_closed() {
            return Ok(false);
        }
        let (engine, hash) = (Arc::clone(self), self.gates.hash(key));
        self.drive::<W, _>(true, async move { engine.is_anywhere(&encoded, hash).await }).await?
    }

    async fn is_anywhere(self: &Arc<Self>, key: &EncodedKey, hash: u64) -> Result<bool> {
        let Some(wire) = &self.wire else { return Ok(false) };
        self.drop_new_conflicts(hash).await;
        let mut doubt = self.doubt_of(wire, key).await;
        let mut failure = None;
        for slot in &wire.slots {
            if !self.dares(&doubt, slot) {
                continue;
            }
            match self.is_in((wire, slot), (key, hash), &doubt).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => {
                    failure = Some(error);
                    doubt.away_if(slot.is_among_nodes());
                }
            }
        }
        if let Some(found) = self.unconfirmed(wire, key, failure.is_some()) {
            return Ok(found.into_fresh().is_some());
        }
        failure.map_or(Ok(false), Err)
    }

    async fn is_in(
        self: &Arc<Self>,
        (wire, slot): (&Wire<K, V>, &Slot),
        (key, hash): (&EncodedKey, u64),
        doubt: &Doubt,
    ) -> Result<bool> {
        let Some(bytes) = slot.head(key).await? else { return Ok(false) };
        if self.is_doubted((wire, slot), (key, hash), &bytes, doubt).await.is_none() {
            return Ok(false);
        }
        Ok(self
            .head_freshness(slot, &bytes, key)
            .is_some_and(|(freshness, codec)| freshness == Freshness::Fresh && codec != CodecId::Absent))
    }

    /// What a frame is good for by its head, and what it holds.
    pub(crate) fn head_freshness(
        &self,
        slot: &Slot,
        bytes: &[u8],
        key: &EncodedKey,
    ) -> Option<(Freshness, CodecId)> {
        let head = Head::parse(bytes).ok().filter(|head| head.key == key.as_bytes())?;
        let terms = Terms::read(&head.header, head.tags)?;
        let (header, terms) = slot.by_own_time(key, (head.header, terms), read_offset(head.tags));
        Some((self.freshness_of(slot, &header, &terms), header.codec))
    }

    /// What an entry of `slot` with this header and these terms is good for
    /// now. Where stamps are those of others its terms alone count.
    pub(crate) fn freshness_of(&self, slot: &Slot, header: &Header, terms: &Terms) -> Freshness {
        let now = self.timeline.now();
        if slot.has_foreign_stamps() {
            return terms.freshness(now);
        }
        terms.freshness(now).min(self.marks.freshness(Stamped::new(header.generation, terms), now))
    }

    /// Reads `key` from the tiers of bytes, and copies it into memory unless
    /// it changed meanwhile.
    pub(crate) async fn seek<W: Wait>(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> Result<Option<Found<V>>> {
        if self.slots().is_empty() {
            return Ok(None);
        }
        let engine = Arc::clone(self);
        self.drive::<W, _>(true, async move { engine.read(&key, hash).await }).await?
    }

    /// As [`seek`](Self::seek), for a load that begins now: the key as it is to
    /// be stored by. What another node changes from here on wins over it.
    pub(crate) async fn seek_based<W: Wait>(
        self: &Arc<Self>,
        key: EncodedKey,
        hash: u64,
    ) -> (EncodedKey, Result<Option<Found<V>>>) {
        if self.nodes.is_none() {
            return (key.clone(), self.seek::<W>(key, hash).await);
        }
        let (engine, encoded) = (Arc::clone(self), key.clone());
        let section = async move {
            let mut base = Some(Stamp::NONE);
            let found = engine.read_based(&encoded, hash, &mut base).await;
            (encoded.based_on(base.unwrap_or(Stamp::NONE)), found)
        };
        match self.drive::<W, _>(true, section).await {
            Ok(sought) => sought,
            Err(error) => (key.based_on(Stamp::NONE), Err(error)),
        }
    }

    pub(crate) async fn read(self: &Arc<Self>, key: &EncodedKey, hash: u64) -> Result<Option<Found<V>>> {
        self.read_based(key, hash, &mut None).await
    }

    /// As [`read`](Self::read). Where `base` is there it becomes the stamp that
    /// the entry had in the tier that others share.
    pub(crate) async fn read_based(
        self: &Arc<Self>,
        key: &EncodedKey,
        hash: u64,
        base: &mut Option<Stamp>,
    ) -> Result<Option<Found<V>>> {
        let is_owed = || self.wire.as_ref().is_some_and(|wire| wire.is_owed(key));
        let was_owed = is_owed();
        let found = self.read_once(key, hash, base).await;
        // Made up for meanwhile: it was on its way from one tier to another.
        if was_owed && matches!(found, Ok(None)) && !is_owed() {
            return self.read_once(key, hash, base).await;
        }
        found
    }

    async fn read_once(
        self: &Arc<Self>,
        key: &EncodedKey,
        hash: u64,
        base: &mut Option<Stamp>,
    ) -> Result<Option<Found<V>>> {
        let Some(wire) = &self.wire else { return Ok(None) };
        self.settle_due().await;
        self.drop_new_conflicts(hash).await;
        let mut doubt = self.doubt_of(wire, key).await;
        // Without memory there is nothing to promote to, and nothing to remember.
        let observation = (self.memory_weight_max > 0).then(|| self.gates.observe(hash));
        // Taken before anything is read.
        let stamp = self.stamp_before_read(key);
        self.note_copy(key);
        if self.stamps
            && let Some(found) = self.checked_copy(wire, key, stamp)
        {
            return Ok(Some(found));
        }
        let mut failure = None;
        for slot in &wire.slots {
            if !self.dares(&doubt, slot) {
                continue;
            }
            let bytes = match self.get_from(slot, key, base).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(error) => {
                    failure = Some(error);
                    doubt.away_if(slot.is_among_nodes());
                    continue;
                }
            };
            let Some(in_doubt) = self.is_doubted((wire, slot), (key, hash), &bytes, &doubt).await else {
                continue;
            };
            let promotion = (&observation, stamp.filter(|_| !in_doubt));
            if let Some(found) = self.accept((wire, slot), bytes, (key, hash), &promotion).await {
                return Ok(Some(if in_doubt { self.doubted(found) } else { found }));
            }
        }
        if let Some(found) = self.unconfirmed(wire, key, failure.is_some()) {
            return Ok(Some(found));
        }
        failure.map_or(Ok(None), Err)
    }

    async fn get_from(
        &self,
        slot: &Slot,
        key: &EncodedKey,
        base: &mut Option<Stamp>,
    ) -> Result<Option<Bytes>> {
        if base.is_none() || !slot.is_among_nodes() {
            return slot.get(key).await;
        }
        let (found, stamp) = slot.get_stamped(key).await?;
        *base = stamp.or(Some(Stamp::NONE));
        Ok(found)
    }

    /// What a copy of an entry that is read from now on is checked by.
    fn stamp_before_read(&self, key: &EncodedKey) -> Option<Stamp> {
        match &self.nodes {
            _ if self.memory_weight_max == 0 => None,
            Some(nodes) => nodes.mark().of(0),
            None if self.stamps => self.stamp(key),
            None => None,
        }
    }

    /// What a frame is good for, copied into memory where its placement wants
    /// that. `None` for one that is good for nothing: it is counted, and removed.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        (wire, slot): (&Wire<K, V>, &Slot),
        bytes: Bytes,
        (key, hash): (&EncodedKey, u64),
        (observation, stamp): &(&Option<Observation<K, V>>, Option<Stamp>),
    ) -> Option<Found<V>> {
        let identity = identity(&bytes);
        section::if_large(bytes.len() as u64).await;
        match self.judge(wire, slot, bytes, key) {
            Ok(found) if found.freshness == Freshness::Gone => self.note_over(slot, key),
            Ok(found) => {
                if let Some(observation) = observation {
                    let checked = match &self.nodes {
                        Some(_) => stamp.and_then(|mark| Mark::from(mark).of(identity)),
                        None => *stamp,
                    };
                    self.promote((wire, slot), key, &found, (observation, checked));
                }
                return Some(found);
            }
            Err(error) => {
                note_refusal(slot, key, &error);
                self.tell_refused(key, slot.kind());
            }
        }
        Box::pin(self.drop_gone(wire, slot, key, hash)).await;
        None
    }

    /// Opens a frame and says what it is good for.
    pub(crate) fn judge(
        &self,
        wire: &Wire<K, V>,
        slot: &Slot,
        bytes: Bytes,
        key: &EncodedKey,
    ) -> Result<Found<V>> {
        let decoded = wire.open_in(slot, bytes, key)?;
        let freshness = self.freshness_of(slot, &decoded.header, &decoded.terms);
        Ok(Found { tier: slot.kind(), home: slot.kind(), decoded, freshness, confirmed: true })
    }

    /// Copies what was read into memory, where its placement wants that.
    fn promote(
        &self,
        (wire, slot): (&Wire<K, V>, &Slot),
        encoded: &EncodedKey,
        found: &Found<V>,
        (observation, stamp): (&Observation<K, V>, Option<Stamp>),
    ) {
        let Decoded { value, header, terms, .. } = &found.decoded;
        let facts = self.facts(header.value_len, header.load_cost, terms.ttl);
        if found.freshness != Freshness::Fresh || !self.place(wire, &facts).in_memory() {
            return;
        }
        // All that runs code of the user comes before the ticket.
        let Ok(key) = wire.keys.decode(encoded.as_bytes()) else { return };
        let bytes = header.value_len + encoded.as_bytes().len() as u64;
        let weight = self.weight(&key, value.as_ref(), bytes);
        let record = Record {
            value: value.clone(),
            created: header.created,
            // No mark was made since it was observed, or the claim below fails.
            stamp: if slot.has_foreign_stamps() { self.marks.stamp() } else { header.generation },
            terms: self.expiry.live(terms),
            weight,
            home: found.tier,
            checked: stamp,
        };
        let name = self.events.name(&key);
        match observation.claim() {
            // Closed while this read: nothing is stored after `close`.
            Some(_ticket) if self.is_closed() => {}
            Some(_ticket) => {
                self.keep(key, record);
                self.events.tell_of(name, |key| Event::Promoted { key, from: slot.kind() });
            }
            None => self.counters.superseded.increment(),
        }
    }

    /// Whether an entry was removed for all who share it. One whose time is over leaves
    /// their tier by itself, by the clock of that tier: this node's may be wrong.
    fn is_over_by_marks(&self, found: &Found<V>) -> bool {
        let Decoded { header, terms, .. } = &found.decoded;
        let now = self.timeline.now();
        found.freshness == Freshness::Gone
            && terms.freshness(now) != Freshness::Gone
            && self.marks.freshness(Stamped::new(header.generation, terms), now) == Freshness::Gone
    }

    /// Removes an entry that must not be served, unless it was replaced since
    /// it was read, or is being replaced now. What is shared with others is removed
    /// only where it is of no use to any of them.
    async fn drop_gone(self: &Arc<Self>, wire: &Wire<K, V>, slot: &Slot, key: &EncodedKey, hash: u64) {
        let observation = self.gates.observe(hash);
        let Some(_ticket) = observation.claim() else { return };
        let Ok(Some(bytes)) = slot.get(key).await else { return };
        let is_damaged = frame::open_with_attributes(&bytes, key).is_err();
        let again = shield::within(|| self.judge(wire, slot, bytes, key));
        let is_over = match &again {
            Ok(found) if slot.is_shared() => self.is_over_by_marks(found),
            Ok(found) => found.freshness == Freshness::Gone,
            // Others may be able to read it: another version of the program, say.
            Err(_) => is_damaged || !slot.is_shared(),
        };
        if is_over {
            // A failure is counted by the layer and the key distrusted by the slot.
            let _counted = slot.remove(key).await;
        }
    }
}

/// Counts and logs an entry that is not served: it is damaged or of another
/// type, or it is neither and its codec does not read it back.
pub(crate) fn note_refusal(slot: &Slot, key: &EncodedKey, error: &Error) {
    let (counters, cache) = (slot.counters(), slot.counters().signals.cache());
    if error.kind() == ErrorKind::Codec {
        counters.undecodable.increment();
        tracing::warn!(target: "larder", cache, tier = %slot.kind(), key = ?key, error = ?error, "an intact entry cannot be decoded");
        return;
    }
    counters.refused.increment();
    tracing::warn!(target: "larder", cache, tier = %slot.kind(), key = ?key, error = ?error, "an entry was refused");
}
