//! Reading many keys in one call.

use std::hash::Hash;
use std::sync::Arc;

use larder_core::Result;
use larder_core::key::{EncodedKey, Lookup};
use larder_core::memory::MemoryStore;
use larder_core::tier::{FrameWithStamp, Stamp};

use crate::doubt::Doubt;
use crate::engine::Engine;
use crate::gate::Observation;
use crate::read::Found;
use crate::slot::Slot;
use crate::wait::Wait;
use crate::wire::Wire;

/// A missing key: where in the request it stands, and how tiers see it.
pub(crate) struct Missing {
    pub(crate) at: usize,
    pub(crate) encoded: EncodedKey,
    pub(crate) hash: u64,
}

/// A key that tiers were asked for.
pub(crate) struct Sought<V> {
    pub(crate) at: usize,
    /// As it is to be stored by, for a load that begins now.
    pub(crate) encoded: EncodedKey,
    pub(crate) found: Option<Found<V>>,
}

/// A key that tier after tier is asked for.
struct Open<K, V> {
    key: Missing,
    observation: Option<Observation<K, V>>,
    doubt: Doubt,
    /// The stamp of the entry in the tier that others share, as far as it was read.
    base: Stamp,
}

impl<K, V> Open<K, V> {
    fn over(self, found: Option<Found<V>>, based: bool) -> Sought<V> {
        let Missing { at, encoded, .. } = self.key;
        let encoded = if based { encoded.based_on(self.base) } else { encoded };
        Sought { at, encoded, found }
    }
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// The values of `keys`, in their order. A tier that fails counts as having none.
    pub async fn get_many<W: Wait, Q>(self: &Arc<Self>, keys: &[Q]) -> Vec<Option<V>>
    where
        Q: Lookup<K> + Sync,
    {
        let mut values: Vec<Option<V>> = keys.iter().map(|key| self.hit(key)).collect();
        let missing = self.missing(keys, &values);
        let asked = values.iter().filter(|value| value.is_none()).count();
        for (at, value) in self.seek_fresh::<W>(missing).await {
            values[at] = Some(value);
        }
        let found = asked - values.iter().filter(|value| value.is_none()).count();
        self.counters.misses.add((asked - found) as u64);
        values
    }

    /// The keys to look for beyond memory.
    pub(crate) fn missing<Q: Lookup<K>>(&self, keys: &[Q], values: &[Option<V>]) -> Vec<Missing> {
        if self.slots().is_empty() || self.is_closed() {
            return Vec::new();
        }
        let empty = keys.iter().enumerate().filter(|(at, _)| values[*at].is_none());
        empty
            .filter_map(|(at, key)| {
                let encoded = self.encode_key(key).ok().flatten()?;
                Some(Missing { at, encoded, hash: self.gates.hash(key) })
            })
            .collect()
    }

    /// The fresh values that tiers of bytes have.
    pub(crate) async fn seek_fresh<W: Wait>(self: &Arc<Self>, missing: Vec<Missing>) -> Vec<(usize, V)> {
        let sought = self.seek_many::<W>(missing, false).await.into_iter();
        sought.filter_map(|sought| Some((sought.at, sought.found?.into_fresh()?))).collect()
    }

    /// Reads keys from the tiers of bytes, all in one section; with the stamps
    /// that they have in the tier that others share, where they are to be
    /// `based` on them.
    pub(crate) async fn seek_many<W: Wait>(
        self: &Arc<Self>,
        missing: Vec<Missing>,
        based: bool,
    ) -> Vec<Sought<V>> {
        if missing.is_empty() {
            return Vec::new();
        }
        let engine = Arc::clone(self);
        let section = async move {
            if engine.stamps {
                return engine.read_one_by_one(missing).await;
            }
            engine.read_together(missing, based).await
        };
        self.drive::<W, _>(true, section).await.unwrap_or_default()
    }

    /// Where copies in memory are checked, each key has its own stamp.
    async fn read_one_by_one(self: &Arc<Self>, missing: Vec<Missing>) -> Vec<Sought<V>> {
        let mut sought = Vec::with_capacity(missing.len());
        for Missing { at, encoded, hash } in missing {
            let found = self.read(&encoded, hash).await.ok().flatten();
            sought.push(Sought { at, encoded, found });
        }
        sought
    }

    /// Asks each tier once, for what the nearer ones did not have.
    async fn read_together(self: &Arc<Self>, missing: Vec<Missing>, based: bool) -> Vec<Sought<V>> {
        let Some(wire) = &self.wire else { return Vec::new() };
        self.settle_due().await;
        let mut left = Vec::with_capacity(missing.len());
        for key in missing {
            self.drop_new_conflicts(key.hash).await;
            let doubt = self.doubt_of(wire, &key.encoded).await;
            let observation = (self.memory_weight_max > 0).then(|| self.gates.observe(key.hash));
            left.push(Open { key, observation, doubt, base: Stamp::NONE });
        }
        let stamp = self.nodes.as_ref().and_then(|nodes| nodes.mark().of(0));
        left.iter().for_each(|open| self.note_copy(&open.key.encoded));
        let (mut sought, mut away) = (Vec::with_capacity(left.len()), false);
        for slot in &wire.slots {
            let (asked, mut next): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|open| self.dares(&open.doubt, slot));
            let keys: Vec<EncodedKey> = asked.iter().map(|open| open.key.encoded.clone()).collect();
            let answers = frames(slot, &keys, based).await;
            for (mut open, answer) in asked.into_iter().zip(answers) {
                away |= answer.is_err();
                match self.accept_one(wire, slot, &mut open, (answer, stamp)).await {
                    Some(found) => sought.push(open.over(Some(found), based)),
                    None => next.push(open),
                }
            }
            left = next;
        }
        for open in left {
            let found = self.unconfirmed(wire, &open.key.encoded, away);
            sought.push(open.over(found, based));
        }
        sought
    }

    /// What the answer of one tier about one key is good for.
    async fn accept_one(
        self: &Arc<Self>,
        wire: &Wire<K, V>,
        slot: &Slot,
        open: &mut Open<K, V>,
        (answer, stamp): (Result<FrameWithStamp>, Option<Stamp>),
    ) -> Option<Found<V>> {
        let bytes = match answer {
            Ok((bytes, base)) => {
                if slot.is_among_nodes() {
                    open.base = base.unwrap_or(Stamp::NONE);
                }
                bytes?
            }
            // A tier that fails counts as having none, and was counted.
            Err(_) => {
                open.doubt.away_if(slot.is_among_nodes());
                return None;
            }
        };
        let named = (&open.key.encoded, open.key.hash);
        let in_doubt = self.is_doubted((wire, slot), named, &bytes, &open.doubt).await?;
        let promotion = (&open.observation, stamp.filter(|_| !in_doubt));
        let found = self.accept((wire, slot), bytes, named, &promotion).await?;
        Some(if in_doubt { self.doubted(found) } else { found })
    }
}

/// The frames of `keys`, with stamps where these are asked for.
async fn frames(slot: &Slot, keys: &[EncodedKey], based: bool) -> Vec<Result<FrameWithStamp>> {
    if based && slot.is_among_nodes() {
        return slot.get_many_stamped(keys).await;
    }
    let frames = slot.get_many(keys).await.into_iter();
    frames.map(|frame| frame.map(|frame| (frame, None))).collect()
}
