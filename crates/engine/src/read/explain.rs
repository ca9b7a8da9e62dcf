//! Where an entry is, and why.

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
use larder_core::memory::Record;
use larder_core::place::{Facts, Placement, SizeClass};
use larder_core::tier::TierKind;

use crate::engine::Engine;
use crate::read::Found;
use crate::read::walk::{Question, Walk};
use crate::tier_stack::Decoded;
use crate::tier_stack::tier_handle::TierHandle;
use larder_exec::runtime::Runtime;

/// A value with what is known of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry<Value> {
    /// The value.
    pub value: Value,
    /// The tier that answered.
    pub tier: TierKind,
    /// The tier that answers for the entry.
    pub home: TierKind,
    /// How long ago it was written.
    pub age: Duration,
    /// How long it will live if it is not used; `None` where it does not expire.
    pub left: Option<Duration>,
    /// Whether it is past its deadline, or was invalidated, and serves only
    /// where a load fails or takes long.
    pub stale: bool,
    /// Not so where other nodes may have changed it unheard: the server that
    /// they share is away. Always so without one.
    pub confirmed: bool,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Bytes: of the encoding before compression where a frame tells, or what
    /// it counts with in memory.
    pub bytes: u64,
}

impl<V> Entry<V> {
    /// The same entry with another value; `None` where there is none.
    pub fn and_then<U>(self, change: impl FnOnce(V) -> Option<U>) -> Option<Entry<U>> {
        let Self { value, tier, home, age, left, stale, confirmed, tags, bytes } = self;
        Some(Entry { value: change(value)?, tier, home, age, left, stale, confirmed, tags, bytes })
    }
}

/// What a frame says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    codec: CodecId,
    compression: Compression,
    value_bytes: u64,
    stored_bytes: u64,
    load_cost: Option<Duration>,
    ttl: Option<Duration>,
}

/// Where an entry is, and by which rule. `Display` says it in a sentence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The tiers that hold the entry, nearest first; empty when it is absent.
    pub tiers: Vec<TierKind>,
    /// The tier that answers for it.
    pub home: Option<TierKind>,
    /// Bytes of the encoding before compression, where a frame tells.
    pub bytes: Option<u64>,
    /// Bytes of the frame as stored, where there is one.
    pub stored_bytes: Option<u64>,
    /// How the value was encoded, where there is a frame.
    pub codec: Option<CodecId>,
    /// How the payload was compressed, where there is a frame.
    pub compression: Option<Compression>,
    /// Its size class, where the size is known.
    pub class: Option<SizeClass>,
    /// Where an entry of its size and load cost is placed now, and by which rule.
    pub placement: Option<Placement>,
    /// The tiers that cannot be used now, and why: a command that the server forbids,
    /// say. An entry of theirs may be there all the same.
    pub unusable: Vec<(TierKind, Arc<str>)>,
}

impl Explanation {
    /// What memory says of it, whose record says where its home is.
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
            unusable,
        }
    }
}

/// Asks every tier what it has of an entry.
struct Explain {
    in_memory: Option<TierKind>,
    explanation: Explanation,
}

impl Question for Explain {
    /// None: all tiers are asked.
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
            walk.engine.fill(&mut self.explanation, stored);
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
            return self.say_unusable(f);
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
            Some(placement) if placement.home == home => write!(f, "; by the rule «{}»", placement.rule)?,
            Some(placement) => write!(f, "; today it would be placed so: {placement}")?,
            None => {}
        }
        self.say_unusable(f)
    }
}

impl Explanation {
    fn say_unusable(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unusable.iter().try_for_each(|(tier, why)| write!(f, "; {tier} cannot be used: {why}"))
    }
}

impl Engine {
    /// The value with its provenance. Counts as a look-up.
    pub(crate) async fn inspect<W: Runtime>(
        self: &Arc<Self>,
        key: &dyn AnyLookup,
    ) -> Result<Option<Entry<Value>>> {
        let record = self.near(key).map(|record| (self.freshness(&record), record));
        if let Some((Freshness::Fresh, record)) = record {
            self.memory_hits.increment();
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
            left: left(&terms, now),
            stale,
            confirmed: true,
            tags: terms.tags,
            bytes: u64::from(record.weight),
        })
    }

    fn entry_beyond(&self, found: Found) -> Option<Entry<Value>> {
        let now = self.timeline.now();
        let Decoded { value, header, terms, .. } = found.decoded;
        Some(Entry {
            value: value?,
            tier: found.tier,
            home: found.home,
            age: now.since(header.created),
            left: left(&terms, now),
            stale: found.freshness == Freshness::Stale,
            confirmed: found.confirmed,
            tags: terms.tags,
            bytes: header.value_len,
        })
    }

    /// Where the entry of `key` is and why. Reads the frame from its home, and
    /// counts there as a read.
    pub(crate) async fn explain<W: Runtime>(self: &Arc<Self>, key: &dyn AnyLookup) -> Result<Explanation> {
        let in_memory = self.glance(key).map(|record| record.home);
        let Some(encoded) = self.encode_key(key)?.filter(|_| !self.is_closed()) else {
            let mut explanation = Explanation::of_memory(in_memory, self.unusable());
            explanation.placement = explanation.home.map(|_| Placement::MEMORY_ONLY);
            return Ok(explanation);
        };
        let (engine, hash) = (Arc::clone(self), self.key_locks.hash(key));
        W::section(true, async move {
            let explanation = Explanation::of_memory(in_memory, engine.unusable());
            let mut explain = Explain { in_memory, explanation };
            let walked = engine.walk((&encoded, hash), &mut explain).await;
            let mut explanation = explain.explanation;
            engine.measure_in_memory(&mut explanation, &encoded);
            // A tier that failed may be the one that has it.
            if explanation.home.is_none() {
                walked?;
            }
            Ok(explanation)
        })
        .await?
    }

    /// The tiers that cannot be used now, and why.
    fn unusable(&self) -> Vec<(TierKind, Arc<str>)> {
        let tiers = self.tiers().iter();
        tiers.filter_map(|handle| Some((handle.kind(), handle.inner().trouble()?))).collect()
    }

    fn fill(&self, explanation: &mut Explanation, stored: Stored) {
        let facts = self.facts(stored.value_bytes, stored.load_cost, stored.ttl);
        explanation.bytes = Some(stored.value_bytes);
        explanation.stored_bytes = Some(stored.stored_bytes);
        explanation.codec = Some(stored.codec);
        explanation.compression = Some(stored.compression);
        self.judge_placement(explanation, &facts);
    }

    fn judge_placement(&self, explanation: &mut Explanation, facts: &Facts) {
        explanation.class = Some(facts.class());
        explanation.placement = self.stack.as_ref().map(|stack| self.place(stack, facts));
    }

    /// An entry that only memory holds has no frame to ask: it is measured.
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
            let ttl = record.terms.and_then(|terms| terms.written().ttl);
            self.judge_placement(explanation, &self.facts(bytes, None, ttl));
        }
    }

    /// What the frame of an entry says that may be served.
    fn stored(&self, handle: &TierHandle, bytes: &[u8], key: &EncodedKey) -> Option<Stored> {
        let (freshness, _) = self.head_freshness(handle, bytes, key)?;
        let head = Head::parse(bytes).ok().filter(|_| freshness == Freshness::Fresh)?;
        Some(Stored {
            codec: head.header.codec,
            compression: head.header.compression,
            value_bytes: head.header.value_len,
            stored_bytes: head.frame_len(),
            load_cost: head.header.load_cost,
            ttl: EntryMeta::read(&head.header, head.tags)?.ttl,
        })
    }
}

fn left(terms: &EntryMeta, now: Time) -> Option<Duration> {
    let until = terms.until();
    (until != Time::NEVER).then(|| until.since(now))
}
