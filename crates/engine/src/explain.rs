//! Where an entry is, and why.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use larder_core::Result;
use larder_core::frame::{CodecId, Compression, Head};
use larder_core::key::{EncodedKey, Lookup};
use larder_core::memory::MemoryStore;
use larder_core::place::{Facts, Placement, SizeClass};
use larder_core::tier::TierKind;

use crate::engine::Engine;
use crate::wait::Wait;

/// A value with what is known of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry<V> {
    /// The value.
    pub value: V,
    /// The tier that answered.
    pub tier: TierKind,
    /// The tier that answers for the entry.
    pub home: TierKind,
    /// How long ago it was written.
    pub age: Duration,
}

/// What a frame says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    codec: CodecId,
    compression: Compression,
    value_bytes: u64,
    stored_bytes: u64,
    load_cost: Option<Duration>,
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
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(home) = self.home else { return f.write_str("absent") };
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
            Some(placement) if placement.home == home => write!(f, "; by the rule «{}»", placement.rule),
            Some(placement) => write!(f, "; today it would be placed so: {placement}"),
            None => Ok(()),
        }
    }
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// The value with its provenance. Counts as a look-up.
    pub async fn inspect<W: Wait, Q>(self: &Arc<Self>, key: &Q) -> Result<Option<Entry<V>>>
    where
        Q: Lookup<K> + ?Sized + Sync,
    {
        let now = self.clock.now();
        if let Some(record) = self.near(key) {
            self.memory_hits.increment();
            let age = now.since(record.created);
            return Ok(Some(Entry { value: record.value, tier: TierKind::Memory, home: record.home, age }));
        }
        let found = match self.encode_key(key)? {
            Some(encoded) if !self.is_closed() => self.seek::<W>(encoded, self.gates.hash(key)).await?,
            _ => None,
        };
        if found.is_none() {
            self.counters.misses.increment();
        }
        Ok(found.map(|found| {
            let age = now.since(found.decoded.header.created);
            Entry { value: found.decoded.value, tier: found.tier, home: found.home, age }
        }))
    }

    /// Where the entry of `key` is and why. Reads the frame from its home, and
    /// counts there as a read.
    pub async fn explain<W: Wait, Q>(self: &Arc<Self>, key: &Q) -> Result<Explanation>
    where
        Q: Lookup<K> + ?Sized + Sync,
    {
        let home_of_record = self.near(key).map(|record| record.home);
        let mut explanation = Explanation {
            tiers: home_of_record.map(|_| TierKind::Memory).into_iter().collect(),
            home: home_of_record,
            bytes: None,
            stored_bytes: None,
            codec: None,
            compression: None,
            class: None,
            placement: None,
        };
        let Some(encoded) = self.encode_key(key)?.filter(|_| !self.is_closed()) else {
            explanation.placement = explanation.home.map(|_| Placement::MEMORY_ONLY);
            return Ok(explanation);
        };
        let engine = Arc::clone(self);
        W::section(true, async move {
            for slot in engine.slots() {
                if let Some(bytes) = slot.get(&encoded).await?
                    && let Some(stored) = stored(&bytes, &encoded)
                {
                    explanation.tiers.push(slot.kind());
                    explanation.home = Some(slot.kind());
                    engine.fill(&mut explanation, stored);
                }
            }
            engine.measure_in_memory(&mut explanation, &encoded);
            Ok(explanation)
        })
        .await?
    }

    fn fill(&self, explanation: &mut Explanation, stored: Stored) {
        let facts = self.facts(stored.value_bytes, stored.load_cost);
        explanation.bytes = Some(stored.value_bytes);
        explanation.stored_bytes = Some(stored.stored_bytes);
        explanation.codec = Some(stored.codec);
        explanation.compression = Some(stored.compression);
        self.judge(explanation, &facts);
    }

    fn judge(&self, explanation: &mut Explanation, facts: &Facts) {
        explanation.class = Some(facts.class());
        explanation.placement = self.wire.as_ref().map(|wire| self.place(wire, facts));
    }

    /// An entry that only memory holds has no frame to ask: it is measured.
    fn measure_in_memory(&self, explanation: &mut Explanation, encoded: &EncodedKey) {
        if explanation.bytes.is_some() || explanation.home.is_none() {
            return;
        }
        let Some(wire) = &self.wire else { return };
        let Ok(key) = wire.keys.decode(encoded.as_bytes()) else { return };
        if let Some(record) = self.memory.get(&key)
            && let Ok(bytes) = wire.values.measure(&record.value)
        {
            explanation.bytes = Some(bytes);
            self.judge(explanation, &self.facts(bytes, None));
        }
    }
}

fn stored(bytes: &[u8], key: &EncodedKey) -> Option<Stored> {
    let head = Head::parse(bytes).ok().filter(|head| head.key == key.as_bytes())?;
    Some(Stored {
        codec: head.header.codec,
        compression: head.header.compression,
        value_bytes: head.header.value_len,
        stored_bytes: bytes.len() as u64,
        load_cost: head.header.load_cost,
    })
}
