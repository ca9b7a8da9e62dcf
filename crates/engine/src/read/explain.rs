//! Explains where an entry is and why.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_core::Result;
use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, Freshness, Tag};
use larder_core::erased::{AnyLookup, Value};
use larder_core::frame::{CodecId, Compression, Head};
use larder_core::key::EncodedKey;
use larder_core::memory::{Record, StoreFacts};
use larder_core::place::{Facts, HintsUsed, Placement, SizeClass};
use larder_core::stats::HotCount;
use larder_core::tier::TierKind;

use crate::engine::Engine;
use crate::invalidation::log::EntryAge;
use crate::read::Found;
use crate::read::walk::{Question, Walk};
use crate::tier_stack::Decoded;
use crate::tier_stack::tier_handle::TierHandle;
use larder_exec::runtime::Runtime;

/// A value and its provenance.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry<Value> {
    /// The value.
    pub value: Value,
    /// The tier that answered.
    pub tier: TierKind,
    /// The home tier of the entry.
    pub home: TierKind,
    /// Time since the entry was written.
    pub age: Duration,
    /// Time until it expires if it is not used. `None` if it does not expire.
    pub left: Option<Duration>,
    /// Time until it is not even served as stale: the time until it expires, and its stale window. `None` if
    /// it does not expire.
    pub stale_left: Option<Duration>,
    /// Whether it is past its deadline or invalidated. It is then served only if a load fails or
    /// takes long.
    pub stale: bool,
    /// `false` if other nodes may have changed the entry without this node knowing, because their
    /// shared server cannot be reached. Always `true` without other nodes.
    pub confirmed: bool,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its size in bytes: the encoding before compression if it was read from a tier, the weight if
    /// it was read from memory.
    pub bytes: u64,
}

impl<V> Entry<V> {
    /// Maps the value. `None` if `change` returns `None`.
    pub fn and_then<U>(self, change: impl FnOnce(V) -> Option<U>) -> Option<Entry<U>> {
        let Self { value, tier, home, age, left, stale_left, stale, confirmed, tags, bytes } = self;
        let value = change(value)?;
        Some(Entry { value, tier, home, age, left, stale_left, stale, confirmed, tags, bytes })
    }
}

/// What the frame of an entry says about it.
struct Stored {
    codec: CodecId,
    compression: Compression,
    value_bytes: u64,
    stored_bytes: u64,
    load_cost: Option<Duration>,
    terms: EntryMeta,
}

/// Where an entry is, and by which rule. `Display` prints it as a sentence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The tiers that hold the entry, nearest first. Empty if it is absent.
    pub tiers: Vec<TierKind>,
    /// The home tier of the entry.
    pub home: Option<TierKind>,
    /// Bytes of the encoding before compression, if known.
    pub bytes: Option<u64>,
    /// Bytes of the stored frame, if there is one.
    pub stored_bytes: Option<u64>,
    /// The codec of the value, if there is a frame.
    pub codec: Option<CodecId>,
    /// The compression of the payload, if there is a frame.
    pub compression: Option<Compression>,
    /// The size class, if the size is known.
    pub class: Option<SizeClass>,
    /// Where an entry of this size and load cost would be placed now, and by which rule.
    pub placement: Option<Placement>,
    /// The hints behind that placement, each with its source: the entry, or else the cache.
    pub hints: Option<HintsUsed>,
    /// The engine and policy of memory, if the cache has one.
    pub memory: Option<StoreFacts>,
    /// The tiers that cannot be used now, each with the reason, for example a command that the
    /// server forbids. They may still hold the entry.
    pub unusable: Vec<(TierKind, Arc<str>)>,
    /// Whether the directory of the cache is a private one, because another process uses the directory of
    /// this name.
    pub is_private: bool,
}

impl Explanation {
    /// Explains an entry by its memory record, which names the home tier.
    fn of_memory(home: Option<TierKind>, unusable: Vec<(TierKind, Arc<str>)>) -> Self {
        Self {
            tiers: home.map(|_| TierKind::Memory).into_iter().collect(),
            home,
            bytes: None,
            stored_bytes: None,
            codec: None,
            compression: None,
            class: None,
            placement: None,
            hints: None,
            memory: None,
            unusable,
            is_private: false,
        }
    }
}

/// Asks every tier for its copy of an entry.
struct Explain {
    in_memory: Option<TierKind>,
    explanation: Explanation,
}

impl Question for Explain {
    /// No answer ends the walk: all tiers are asked.
    type Answer = Infallible;

    fn begin(&mut self, _: &Walk<'_>) -> Option<Infallible> {
        let unusable = std::mem::take(&mut self.explanation.unusable);
        self.explanation = Explanation::of_memory(self.in_memory, unusable);
        None
    }

    async fn ask(&mut self, walk: &mut Walk<'_>, handle: &TierHandle) -> Result<Option<Infallible>> {
        let Some(bytes) = handle.head(walk.key).await? else { return Ok(None) };
        if walk.is_unconfirmed(handle, &bytes).await.is_some()
            && let Some(stored) = walk.engine.stored(handle, &bytes, walk.key)
        {
            self.explanation.tiers.push(handle.kind());
            self.explanation.home = Some(handle.kind());
            walk.engine.fill(&mut self.explanation, stored, walk.hash);
        }
        Ok(None)
    }

    fn fall_back(&mut self, _: &Walk<'_>) -> Option<Infallible> {
        None
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(home) = self.home else {
            f.write_str("absent")?;
            return self.say_troubles(f);
        };
        write!(f, "home {home}")?;
        for copy in self.tiers.iter().filter(|tier| **tier != home) {
            write!(f, ", copy in {copy}")?;
        }
        if let (Some(bytes), Some(stored), Some(class)) = (self.bytes, self.stored_bytes, self.class) {
            write!(f, ", {class}: {bytes} bytes, {stored} stored")?;
        }
        if let (Some(codec), Some(compression)) = (self.codec, self.compression) {
            write!(f, ", {codec:?}, compression {compression:?}")?;
        }
        match &self.placement {
            Some(placement) if placement.home == home => {
                write!(f, "; by the rule «{}»", placement.rule)?;
                placement.reckoning.map_or(Ok(()), |reckoning| write!(f, " ({reckoning})"))?;
            }
            Some(placement) => write!(f, "; today it would be placed so: {placement}")?,
            None => {}
        }
        if let Some(hints) = self.hints.filter(|hints| hints.given().next().is_some()) {
            write!(f, "; hints: {hints}")?;
        }
        if let Some(memory) = self.memory.filter(|_| self.tiers.contains(&TierKind::Memory)) {
            write!(f, "; in memory by {memory}")?;
        }
        self.say_troubles(f)
    }
}

impl Explanation {
    fn say_troubles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_private {
            f.write_str("; the directory is private, since another process uses that of this name")?;
        }
        self.unusable.iter().try_for_each(|(tier, why)| write!(f, "; {tier} cannot be used: {why}"))
    }
}

impl Engine {
    /// Returns the value and its provenance. Counts as a look-up.
    pub(crate) async fn inspect<W: Runtime>(
        self: &Arc<Self>,
        key: &dyn AnyLookup,
    ) -> Result<Option<Entry<Value>>> {
        let record = self.near(key).map(|record| (self.freshness(&record), record));
        if let Some((Freshness::Fresh, record)) = record {
            self.counters.hot.increment(HotCount::Hits);
            return Ok(self.entry_in_memory(record, false));
        }
        let found = match self.encode_key(key)? {
            Some(encoded) if !self.is_closed() => self.seek::<W>(encoded, self.key_locks.hash(key)).await?,
            _ => None,
        };
        if found.as_ref().is_none_or(|found| found.freshness != Freshness::Fresh) {
            self.counters.misses.increment();
        }
        match (found, record) {
            (Some(found), _) => Ok(self.entry_beyond(found)),
            (None, Some((Freshness::Stale, record))) => Ok(self.entry_in_memory(record, true)),
            _ => Ok(None),
        }
    }

    fn entry_in_memory(&self, record: Record<Value>, stale: bool) -> Option<Entry<Value>> {
        let now = self.timeline.now();
        let terms = record.terms.map_or(EntryMeta::PLAIN, |terms| terms.current());
        Some(Entry {
            value: record.value?,
            tier: TierKind::Memory,
            home: record.home,
            age: now.since(record.created),
            left: left(terms.until(), now),
            stale_left: left(self.stale_until((record.stamp, &terms)), now),
            stale,
            confirmed: true,
            tags: terms.tags,
            bytes: u64::from(record.weight),
        })
    }

    /// Returns the end of the stale window of an entry, by its metadata and by the invalidations.
    fn stale_until(&self, (stamp, terms): (u64, &EntryMeta)) -> Time {
        let invalidated = self.invalidations.expired_at(EntryAge::new(stamp, terms));
        terms.stale_until().min(invalidated.map_or(Time::NEVER, |at| at.after(terms.stale)))
    }

    fn entry_beyond(&self, found: Found) -> Option<Entry<Value>> {
        let now = self.timeline.now();
        let Decoded { value, header, terms, .. } = found.decoded;
        Some(Entry {
            value: value?,
            tier: found.tier,
            home: found.home,
            age: now.since(header.created),
            left: left(terms.until(), now),
            stale_left: left(self.stale_until((header.generation, &terms)), now),
            stale: found.freshness == Freshness::Stale,
            confirmed: found.confirmed,
            tags: terms.tags,
            bytes: header.value_len,
        })
    }

    /// Explains where the entry of `key` is. Reads its frame from the home tier, which counts as a
    /// read there.
    pub(crate) async fn explain<W: Runtime>(self: &Arc<Self>, key: &dyn AnyLookup) -> Result<Explanation> {
        let in_memory = self.glance(key).map(|record| record.home);
        let Some(encoded) = self.encode_key(key)?.filter(|_| !self.is_closed()) else {
            let mut explanation = Explanation::of_memory(in_memory, self.unusable());
            explanation.placement = explanation.home.map(|_| Placement::MEMORY_ONLY);
            explanation.memory = self.memory.facts();
            return Ok(explanation);
        };
        let (engine, hash) = (Arc::clone(self), self.key_locks.hash(key));
        W::section(true, async move {
            let explanation = Explanation::of_memory(in_memory, engine.unusable());
            let mut explain = Explain { in_memory, explanation };
            let walked = engine.walk((&encoded, hash), &mut explain).await;
            let mut explanation = explain.explanation;
            explanation.memory = engine.memory.facts();
            explanation.is_private = engine.is_private();
            engine.measure_in_memory(&mut explanation, &encoded);
            // The entry may be in the tier that failed.
            if explanation.home.is_none() {
                walked?;
            }
            Ok(explanation)
        })
        .await?
    }

    /// Returns the tiers that cannot be used now, each with the reason.
    fn unusable(&self) -> Vec<(TierKind, Arc<str>)> {
        let tiers = self.tiers().iter();
        tiers.filter_map(|handle| Some((handle.kind(), handle.inner().trouble()?))).collect()
    }

    fn fill(&self, explanation: &mut Explanation, stored: Stored, hash: u64) {
        explanation.bytes = Some(stored.value_bytes);
        explanation.stored_bytes = Some(stored.stored_bytes);
        explanation.codec = Some(stored.codec);
        explanation.compression = Some(stored.compression);
        let facts = self.facts(stored.value_bytes, stored.load_cost, &stored.terms);
        self.judge_placement(explanation, Facts { key: Some(hash), ..facts }, &stored.terms);
    }

    fn judge_placement(&self, explanation: &mut Explanation, facts: Facts, terms: &EntryMeta) {
        explanation.hints = Some(self.hints.used(terms.hints));
        explanation.class = Some(facts.class());
        explanation.placement = self.stack.as_ref().map(|stack| self.place(stack, &facts));
    }

    /// Measures an entry that only memory holds, since it has no frame.
    fn measure_in_memory(&self, explanation: &mut Explanation, encoded: &EncodedKey) {
        if explanation.bytes.is_some() || explanation.home.is_none() {
            return;
        }
        let Some(stack) = &self.stack else { return };
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return };
        if let Some(record) = self.memory.peek(&key)
            && let Ok(bytes) = record.value.as_ref().map_or(Ok(0), |value| stack.values.measure(value))
        {
            explanation.bytes = Some(bytes);
            let terms = record.terms.map_or(EntryMeta::PLAIN, |terms| terms.written().clone());
            let facts = Facts { key: self.fact_key(&key), ..self.facts(bytes, None, &terms) };
            self.judge_placement(explanation, facts, &terms);
        }
    }

    /// Reads the description of an entry from its frame, if it may be served.
    fn stored(&self, handle: &TierHandle, bytes: &[u8], key: &EncodedKey) -> Option<Stored> {
        let (freshness, _) = self.head_freshness(handle, bytes, key)?;
        let head = Head::parse(bytes).ok().filter(|_| freshness == Freshness::Fresh)?;
        Some(Stored {
            codec: head.header.codec,
            compression: head.header.compression,
            value_bytes: head.header.value_len,
            stored_bytes: head.frame_len(),
            load_cost: head.header.load_cost,
            terms: EntryMeta::read(&head.header, head.attributes)?,
        })
    }
}

fn left(until: Time, now: Time) -> Option<Duration> {
    (until != Time::NEVER).then(|| until.since(now))
}
