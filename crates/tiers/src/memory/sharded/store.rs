//! The part of a store that is compiled for each pair of types.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use larder_core::Result;
use larder_core::erased::{Borrowed, Key, Value};
use larder_core::key::Equivalent;
use larder_core::memory::{
    Bounds, Hashed, Lifespan, Lifetimes, MemoryStore, Miss, NotRemoved, Permit, Record, Removed, StoreFacts,
};
use larder_core::tier::{EntryVersion, TierKind, Usage};
use parking_lot::RwLockWriteGuard;

use super::dismissal::{Departures, Gone, Leaving, Nested, dismiss};
use super::lanes::{Common, Lanes};
use super::node::{Held, Node, Nodes, ValueHandle};
use super::shard::{AnyShard, Context, Shard};
use super::{AnyLane, Lane, ShardedStore};
use crate::memory::Policy;

/// The exclusive lock of a shard, with its lane.
type Locked<'a, K, V> = (&'a Lane<Nodes<K, V>>, RwLockWriteGuard<'a, Shard<Nodes<K, V>>>);

impl<K, V> ShardedStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Takes the exclusive lock of the shard of a hash.
    #[inline]
    fn lock(&self, hash: u64) -> Locked<'_, K, V> {
        let lane = self.lane(hash);
        (lane, lane.shard.write())
    }

    /// Stores an entry in the shard of its hash. Releases the lock of the shard, and then that of the caller.
    fn put(
        &self,
        hash: u64,
        node: Node<K, V>,
        record: &mut Record<()>,
        (mut locked, release): (Locked<'_, K, V>, &mut dyn FnMut()),
    ) {
        let shard = &mut *locked.1;
        let found = shard.find(hash as u32, &node.key).map(|(slot, _)| slot);
        let Shard { core, nodes } = shard;
        let slot = core.slot_for(found);
        match slot {
            Some(slot) => {
                nodes.put(slot, node);
                let new = found.is_none().then_some(hash as u32);
                core.stored((slot, new), record, nodes, &self.common);
            }
            None => nodes.leaving.push(Gone::unreported(node)),
        }
        self.finish(locked, release);
        if let Some(slot) = slot
            && self.common.budget.is_exceeded()
        {
            self.any().make_room(Some((self.common.lane_of(hash), slot)));
        }
    }

    /// Ends an exclusive operation: releases the lock and that of the caller, and then reports and drops the
    /// entries that left.
    fn finish(&self, (lane, mut shard): Locked<'_, K, V>, release: &mut dyn FnMut()) {
        lane.note(&shard.core);
        let mut leaving = shard.nodes.leaving.take();
        drop(shard);
        release();
        // Most calls have one entry to drop, and take fewer steps for it.
        if self.on_departure.is_none()
            && leaving.is_one()
            && let Some(_nested) = Nested::enter()
        {
            leaving.drop_one();
        }
        if !leaving.is_empty() || self.waiting.is_any() {
            dismiss(&mut LeftEntries { store: self, leaving });
        }
    }

    /// Reports an entry that was dropped by the store itself, and drops it.
    fn end(&self, gone: Gone<K, V>) {
        if let (Some(report), Some(cause)) = (&self.on_departure, gone.cause) {
            let departure = self.common.departure(cause, gone.weight, gone.node.home());
            report(Key::new(gone.node.key), departure);
        }
    }
}

/// What left in a call of a store.
struct LeftEntries<'a, K, V> {
    store: &'a ShardedStore<K, V>,
    leaving: Leaving<K, V>,
}

impl<K, V> Departures for LeftEntries<'_, K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn end_all(&mut self) {
        if self.store.on_departure.is_none() {
            return self.leaving.clear();
        }
        while let Some(gone) = self.leaving.pop() {
            self.store.end(gone);
        }
    }

    fn is_empty(&self) -> bool {
        self.leaving.is_empty()
    }

    fn queue(&mut self) {
        self.store.waiting.add(&mut self.leaving);
    }

    fn take_queued(&mut self) -> bool {
        let is_any = self.store.waiting.is_any();
        if is_any {
            self.store.waiting.take(&mut self.leaving);
        }
        is_any
    }
}

impl<K, V> Lanes for ShardedStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn common(&self) -> &Common {
        &self.common
    }

    fn at(&self, lane: usize) -> &AnyLane {
        &self.lanes[lane]
    }

    fn exclusively(&self, lane: usize, work: &mut dyn FnMut(&mut AnyShard, &mut Context<'_>)) {
        let lane = &self.lanes[lane];
        let mut shard = lane.shard.write();
        work(&mut *shard, &mut self.common.context());
        self.finish((lane, shard), &mut || ());
    }

    fn insert_any(&self, key: Key, record: Record<Value>) -> bool {
        let mut value = None;
        let mut record = record.map(|found| value = Some(found));
        let Some(key) = key.into_inner::<K>() else { return false };
        let has_value = value.is_some();
        let value = value.and_then(|value| ValueHandle::of_erased(value, self.in_place));
        if has_value && value.is_none() {
            return false;
        }
        if !self.common.budget.fits(record.weight) {
            self.remove(&key);
            return false;
        }
        let hash = self.common.hasher.hash_one(&key);
        let node = Node { key, value: Held::new(value, &record, self.in_place), stamp: record.stamp };
        self.put(hash, node, &mut record, (self.lock(hash), &mut || ()));
        true
    }
}

impl<K, V> MemoryStore<K, V> for ShardedStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>) {
        self.common.attach(lifetimes);
    }

    fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        Some(self.any().get(&Borrowed::<K, Q>::new(key), true)?.and_then(Value::into_inner))
    }

    fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        Some(self.any().get(&Borrowed::<K, Q>::new(key), false)?.and_then(Value::into_inner))
    }

    #[inline]
    fn value<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        fresh: impl Fn(Lifespan<'_>) -> bool,
    ) -> Option<V> {
        self.value_or_miss(key, fresh).ok()
    }

    #[inline]
    fn value_or_miss<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        fresh: impl Fn(Lifespan<'_>) -> bool,
    ) -> std::result::Result<V, Option<Miss>> {
        let hash = self.common.hasher.hash_one(key);
        if self.common.moves_on_hit || self.common.sampler.takes(hash) {
            let value = self.value_hashed((hash, key), &mut |life, _| fresh(life));
            return value.ok_or(Some(Miss { hash, changes: Miss::UNKNOWN }));
        }
        let lane = self.lane(hash);
        let (handle, changes) = {
            let shard = lane.shard.read();
            match shard.find(hash as u32, key) {
                Some((slot, node))
                    if node.has_value() && fresh(shard.core.lifespan(slot, node.stamp, node.has_terms())) =>
                {
                    node.used();
                    (node.handle(), Miss::UNKNOWN)
                }
                Some(_) => (None, Miss::UNKNOWN),
                None => (None, shard.core.changes()),
            }
        };
        if handle.is_none() && self.common.policy == Policy::TinyLfu {
            self.any().note_miss(hash, &Borrowed::<K, Q>::new(key));
        }
        handle.map(ValueHandle::into_value).ok_or(Some(Miss { hash, changes }))
    }

    fn value_if<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        accepts: &mut dyn FnMut(Lifespan<'_>, Option<EntryVersion>) -> bool,
    ) -> Option<V> {
        self.value_hashed((self.common.hasher.hash_one(key), key), accepts)
    }

    fn insert(&self, key: K, record: Record<V>) -> bool {
        self.insert_any(Key::new(key), record.map(Value::new))
    }

    fn insert_under(
        &self,
        hash: u64,
        entry: &mut Option<(K, V)>,
        record: &mut Record<()>,
        permit: &mut Permit<'_>,
    ) -> bool {
        let locked = self.lock(hash);
        if !(permit.may)() || !self.common.budget.fits(record.weight) {
            return false;
        }
        if let Some((key, value)) = entry.take() {
            let value = Held::new(Some(ValueHandle::Inline(value)), record, self.in_place);
            let node = Node { key, value, stamp: record.stamp };
            self.put(hash, node, record, (locked, permit.release));
        }
        true
    }

    fn remove_under<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        Hashed { hash, key }: Hashed<&Q>,
        permit: &mut Permit<'_>,
    ) -> std::result::Result<Option<Removed>, NotRemoved> {
        let mut locked = self.lock(hash);
        if !(permit.may)() {
            return Err(NotRemoved);
        }
        let shard = &mut *locked.1;
        let Some(slot) = shard.find(hash as u32, key).map(|(slot, _)| slot) else {
            drop(locked);
            (permit.release)();
            return Ok(None);
        };
        let removed = shard.core.remove(slot, &mut shard.nodes, &mut self.common.context());
        self.finish(locked, permit.release);
        Ok(removed)
    }

    fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Removed> {
        self.any().remove(&Borrowed::<K, Q>::new(key))
    }

    fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.any().contains(&Borrowed::<K, Q>::new(key))
    }

    fn clear(&self) {
        self.any().clear();
    }

    fn sweep(&self) -> u64 {
        self.any().sweep()
    }

    fn set_bounds(&self, bounds: Bounds) -> Result<()> {
        self.any().set_bounds(bounds);
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        self.common.budget.bounds()
    }

    fn keys<T>(&self, mut map: impl FnMut(&K) -> T) -> Vec<T> {
        let mut keys = Vec::new();
        self.any().for_each_key(&mut |key| keys.extend(key.downcast_ref().map(&mut map)));
        keys
    }

    fn hottest<T>(&self, n: usize, mut map: impl FnMut(&K) -> T) -> Vec<T> {
        let mut keys = Vec::new();
        let order = self.any().hottest(n, &mut |key| keys.push(key.downcast_ref().map(&mut map)));
        order.into_iter().filter_map(|at| keys[at].take()).collect()
    }

    fn count(&self, home: Option<TierKind>) -> u64 {
        self.any().count(home)
    }

    fn usage(&self) -> Usage {
        self.any().usage()
    }

    fn settle(&self) {
        self.any().expire_all();
    }

    fn facts(&self) -> Option<StoreFacts> {
        Some(self.any().facts())
    }
}

impl<K, V> ShardedStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// As [`MemoryStore::value_if`], for a policy that moves entries on a hit and for accesses that are sampled
    /// as well.
    #[cold]
    #[inline(never)]
    fn value_hashed<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        (hash, key): (u64, &Q),
        accepts: &mut dyn FnMut(Lifespan<'_>, Option<EntryVersion>) -> bool,
    ) -> Option<V> {
        let lane = self.lane(hash);
        let mut accepted = |shard: &Shard<Nodes<K, V>>| {
            let (slot, node) = shard.find(hash as u32, key)?;
            let life = shard.core.lifespan(slot, node.stamp, node.has_terms());
            let is_accepted = node.has_value() && accepts(life, shard.core.version(slot));
            is_accepted.then(|| node.used()).and_then(|()| Some((slot, node.handle()?)))
        };
        let found = if self.common.moves_on_hit {
            let mut shard = lane.shard.write();
            let found = accepted(&shard);
            if let Some((slot, _)) = &found {
                shard.core.move_on_hit(*slot);
            }
            found
        } else {
            accepted(&lane.shard.read())
        };
        if self.common.sampler.takes(hash) {
            self.any().sample(hash, found.is_some());
        }
        if found.is_none() && self.common.policy == Policy::TinyLfu {
            self.any().note_miss(hash, &Borrowed::<K, Q>::new(key));
        }
        found.map(|(_, handle)| handle.into_value())
    }
}
