//! One shard: a hash table of slots, their nodes, the eviction order and the timers.
//!
//! Only the nodes have the types of keys and values. The rest is compiled once: it knows slots, and reaches
//! nodes by [`AnyNodes`].

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use larder_core::clock::Time;
use larder_core::entry_meta::{Freshness, LiveEntryMeta};
use larder_core::erased::AnyForm;
use larder_core::key::Equivalent;
use larder_core::memory::{DepartureCause, Lifespan, Lifetimes, Record, Removed};
use larder_core::tier::EntryVersion;

use super::budget::Account;
use super::facts::Facts;
use super::lanes::Common;
use super::node::{AnyNodes, Head, Leave, Node, Nodes};
use super::table::SlotTable;
use super::timers::Timers;
use crate::memory::Policy;
use crate::memory::order::{Order, OrderEntry, Tuning};

/// How many due entries one insert handles, and how many slots it searches for invalidated entries.
const DUE_PER_INSERT: usize = 64;
const SEARCHED_PER_INSERT: u32 = 16;

/// The parts of the store that an exclusive operation on a shard uses.
pub(super) struct Context<'a> {
    pub(super) account: Account<'a>,
    pub(super) lifetimes: &'a dyn Lifetimes,
    /// The number of shards of the store.
    pub(super) shards: usize,
}

/// A shard: a part of the entries of a store, behind a lock of the store.
pub(super) struct Shard<N: ?Sized> {
    pub(super) core: ShardCore,
    pub(super) nodes: N,
}

/// A shard whose types are not known.
pub(super) type AnyShard = Shard<dyn AnyNodes>;

/// A shard without its nodes.
pub(super) struct ShardCore {
    table: SlotTable,
    /// Slots below `slots` that are empty.
    free: Vec<u32>,
    /// Every slot number is lower.
    slots: u32,
    /// By slot, as the nodes are.
    facts: Facts,
    order: Order,
    timers: Timers,
    /// The versions of the entries that have one: those whose home tier is shared.
    versions: HashMap<u32, EntryVersion, FixedState>,
    /// Number of entries that the policy chose, and of records that were stored, since the store was made.
    evictions: u64,
    changes: u64,
    /// Entries past their deadline that may still be served as stale, the oldest first. They are evicted
    /// before fresh ones. May contain slots that were removed or rewritten since.
    stale: VecDeque<u32>,
    /// Slots below this are still to be searched for invalidated entries.
    unsearched: u32,
    /// The invalidation count for which the last search was started.
    searched_for: u64,
}

impl<K, V> Shard<Nodes<K, V>> {
    #[inline]
    pub(super) fn find<Q: Equivalent<K> + ?Sized>(&self, hash: u32, key: &Q) -> Option<(u32, &Node<K, V>)> {
        self.core.table.find(hash, |slot| {
            let node = self.nodes.get(slot)?;
            key.equivalent(&node.key).then_some((slot, node))
        })
    }
}

impl AnyShard {
    /// The slot of a key of any type.
    pub(super) fn find_any(&self, hash: u32, key: &dyn AnyForm) -> Option<u32> {
        self.core.table.find(hash, |slot| key.is_key(self.nodes.key(slot)?).then_some(slot))
    }
}

impl ShardCore {
    pub(super) fn new(policy: Policy, budget: u64) -> Self {
        Self {
            table: SlotTable::default(),
            free: Vec::new(),
            slots: 0,
            facts: Facts::default(),
            order: Order::new(policy, budget),
            timers: Timers::default(),
            versions: HashMap::default(),
            evictions: 0,
            changes: 0,
            stale: VecDeque::new(),
            unsearched: 0,
            searched_for: 0,
        }
    }

    /// Number of entries that the policy chose, since the store was made.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Number of records that were stored.
    #[inline]
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The version of an entry in its home, if it has one.
    pub(super) fn version(&self, slot: u32) -> Option<EntryVersion> {
        if self.versions.is_empty() { None } else { self.versions.get(&slot).copied() }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.slots as usize - self.free.len()
    }

    /// The occupied slots.
    pub(super) fn occupied<'a>(
        &self,
        nodes: &'a dyn AnyNodes,
    ) -> impl Iterator<Item = (u32, Head)> + use<'a> {
        (0..self.slots).filter_map(|slot| Some((slot, nodes.head(slot)?)))
    }

    fn occupied_slots(&self, nodes: &dyn AnyNodes) -> Vec<u32> {
        self.occupied(nodes).map(|(slot, _)| slot).collect()
    }

    /// The weights of all entries.
    pub(super) fn weight(&self, nodes: &dyn AnyNodes) -> u64 {
        self.occupied(nodes).map(|(slot, _)| u64::from(self.order.entry(slot).weight)).sum()
    }

    pub(super) fn moves_on_hit(&self) -> bool {
        self.order.moves_on_hit()
    }

    /// The slots of the hottest entries first, at most `n`. Those that are never evicted come last: the order
    /// does not compare them.
    pub(super) fn hottest(&self, n: usize, nodes: &dyn AnyNodes) -> Vec<(u32, Head)> {
        let pinned = self.occupied(nodes).map(|(slot, _)| slot).filter(|slot| self.order.is_pinned(*slot));
        let slots = self.order.hottest(n, nodes).into_iter().chain(pinned).take(n);
        slots.filter_map(|slot| Some((slot, nodes.head(slot)?))).collect()
    }

    pub(super) fn tune(&mut self, tuning: Tuning) {
        self.order.tune(tuning);
    }

    pub(super) fn set_budget(&mut self, budget: u64) {
        self.order.set_budget(budget);
    }

    /// Never evicts entries without weight. The shard is empty.
    pub(super) fn pin_weightless(&mut self) {
        self.order.pin_weightless();
    }

    /// Evicts entries without weight only if `counts_entries`: there is a limit of entries.
    pub(super) fn evict_weightless(&mut self, counts_entries: bool, nodes: &dyn AnyNodes) {
        if counts_entries {
            let occupied = self.occupied_slots(nodes);
            self.order.unpin_weightless(&occupied, nodes);
        } else if self.len() == 0 {
            self.order.pin_weightless();
        }
    }

    /// The parts of a record that its freshness depends on.
    #[inline]
    pub(super) fn lifespan(&self, slot: u32, stamp: u64, has_terms: bool) -> Lifespan<'_> {
        // The facts are in another cache line.
        let terms = if has_terms { self.facts.terms(slot).map(|terms| &**terms) } else { None };
        Lifespan { stamp, terms }
    }

    pub(super) fn life(&self, slot: u32, head: Head) -> Lifespan<'_> {
        self.lifespan(slot, head.stamp, head.has_terms)
    }

    fn life_at(&self, slot: u32, nodes: &dyn AnyNodes) -> Option<Lifespan<'_>> {
        Some(self.life(slot, nodes.head(slot)?))
    }

    /// The record in a slot, without its value.
    pub(super) fn record<T>(&self, slot: u32, head: Head) -> Record<T> {
        let OrderEntry { weight, cost, .. } = self.order.entry(slot);
        let (created, terms) = (self.facts.created(slot), self.facts.terms(slot).cloned());
        let (stamp, home, checked) = (head.stamp, head.home, self.version(slot));
        Record { value: None, created, stamp, terms, weight, home, checked, cost }
    }

    /// Counts a miss of a key.
    pub(super) fn missed(&mut self, hash: u32) {
        self.order.missed(hash);
    }

    /// Counts a use that changes the eviction order.
    pub(super) fn move_on_hit(&mut self, slot: u32) {
        self.order.hit(slot);
    }

    /// Removes all entries. Reports those past their deadline as expired.
    pub(super) fn clear(&mut self, nodes: &mut dyn AnyNodes, context: &mut Context<'_>) {
        let now = context.lifetimes.now();
        for slot in self.occupied_slots(nodes) {
            let is_past = self
                .life_at(slot, nodes)
                .and_then(|life| life.terms)
                .is_some_and(|terms| terms.until() <= now);
            let cause = is_past.then_some(DepartureCause::Expired);
            self.detach(slot, cause, (nodes, &mut context.account));
        }
        nodes.reset();
        (self.table, self.free, self.slots, self.facts) =
            (SlotTable::default(), Vec::new(), 0, Facts::default());
        self.versions = HashMap::default();
        self.order.clear();
        self.timers.clear();
        self.stale = VecDeque::new();
        self.unsearched = 0;
    }

    /// Evicts the next entry, but not the one in `keep`. Returns whether there was one.
    pub(super) fn evict(
        &mut self,
        keep: Option<u32>,
        nodes: &mut dyn AnyNodes,
        context: &mut Context<'_>,
    ) -> bool {
        if !self.timers.is_empty() && self.expire_one(keep, nodes, context) {
            return true;
        }
        let stale =
            if self.stale.is_empty() { None } else { self.next_stale(keep, nodes, context.lifetimes) };
        if let Some(slot) = stale {
            self.order.remove(slot);
        }
        let victim = stale.or_else(|| self.order.victim(keep, nodes));
        let evicted = Some(DepartureCause::Evicted);
        let is_gone = victim.is_some_and(|slot| self.detach(slot, evicted, (nodes, &mut context.account)));
        self.evictions += u64::from(is_gone);
        is_gone
    }

    /// Removes up to `max` expired entries.
    pub(super) fn expire(&mut self, max: usize, nodes: &mut dyn AnyNodes, context: &mut Context<'_>) {
        if self.timers.is_empty() {
            return;
        }
        let now = context.lifetimes.now();
        self.timers.turn(now);
        for _ in 0..max {
            let Some(slot) = self.timers.pop_due() else { return };
            self.judge_due((slot, now), nodes, context);
        }
    }

    /// Removes all entries that may no longer be served; returns their number.
    pub(super) fn sweep(&mut self, nodes: &mut dyn AnyNodes, context: &mut Context<'_>) -> u64 {
        let now = context.lifetimes.now();
        let is_gone = |(slot, head): &(u32, Head)| {
            context.lifetimes.freshness(self.life(*slot, *head), now) == Freshness::Gone
        };
        let gone: Vec<u32> = self.occupied(nodes).filter(is_gone).map(|(slot, _)| slot).collect();
        gone.iter().for_each(|slot| self.remove_expired(*slot, nodes, context));
        gone.len() as u64
    }

    /// Removes one due entry; returns whether there was one.
    #[inline(never)]
    fn expire_one(&mut self, keep: Option<u32>, nodes: &mut dyn AnyNodes, context: &mut Context<'_>) -> bool {
        let now = context.lifetimes.now();
        while let Some(slot) = self.timers.pop_due() {
            if Some(slot) == keep {
                self.schedule(slot, now, nodes);
                return false;
            }
            if self.judge_due((slot, now), nodes, context) {
                return true;
            }
        }
        false
    }

    /// Removes, or schedules again, an entry whose timer has run out. Returns whether it was removed.
    fn judge_due(
        &mut self,
        (slot, now): (u32, Time),
        nodes: &mut dyn AnyNodes,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(life) = self.life_at(slot, nodes) else { return false };
        let freshness = context.lifetimes.freshness(life, now);
        match freshness {
            Freshness::Gone => self.remove_expired(slot, nodes, context),
            Freshness::Stale => {
                self.note_stale(slot, nodes);
                self.schedule(slot, now, nodes);
            }
            Freshness::Fresh => self.schedule(slot, now, nodes),
        }
        freshness == Freshness::Gone
    }

    fn note_stale(&mut self, slot: u32, nodes: &dyn AnyNodes) {
        let len = self.len();
        if self.stale.len() > len * 2 {
            self.stale.retain(|slot| nodes.head(*slot).is_some());
            self.stale.truncate(len);
        }
        self.stale.push_back(slot);
    }

    /// The entry that has been stale for the longest time.
    #[cold]
    fn next_stale(
        &mut self,
        keep: Option<u32>,
        nodes: &dyn AnyNodes,
        lifetimes: &dyn Lifetimes,
    ) -> Option<u32> {
        let now = lifetimes.now();
        while let Some(slot) = self.stale.pop_front() {
            let life = self.life_at(slot, nodes).filter(|_| Some(slot) != keep);
            if life.is_some_and(|life| lifetimes.freshness(life, now) == Freshness::Stale) {
                return Some(slot);
            }
        }
        None
    }

    fn remove_expired(&mut self, slot: u32, nodes: &mut dyn AnyNodes, context: &mut Context<'_>) {
        self.order.remove(slot);
        self.detach(slot, Some(DepartureCause::Expired), (nodes, &mut context.account));
    }

    /// Removes some of the entries that may no longer be served.
    #[inline]
    fn remove_some(&mut self, nodes: &mut dyn AnyNodes, context: &mut Context<'_>) {
        if !self.timers.is_empty() {
            self.expire(DUE_PER_INSERT, nodes, context);
        }
        self.search(nodes, context);
    }

    /// Searches some slots for invalidated entries.
    #[inline]
    fn search(&mut self, nodes: &mut dyn AnyNodes, context: &mut Context<'_>) {
        let invalidations = context.lifetimes.invalidations();
        if self.searched_for != invalidations {
            self.searched_for = invalidations;
            self.unsearched = self.slots;
        }
        if self.unsearched > 0 {
            self.search_some(nodes, context);
        }
    }

    #[cold]
    fn search_some(&mut self, nodes: &mut dyn AnyNodes, context: &mut Context<'_>) {
        let now = context.lifetimes.now();
        for _ in 0..SEARCHED_PER_INSERT {
            let Some(slot) = self.unsearched.checked_sub(1) else { return };
            self.unsearched = slot;
            let life = self.life_at(slot, nodes);
            if life.is_some_and(|life| context.lifetimes.freshness(life, now) == Freshness::Gone) {
                self.remove_expired(slot, nodes, context);
            }
        }
    }

    /// Removes a node from the table, the timers and the accounting. The caller has removed it from the
    /// order. Returns whether there was one.
    #[inline(always)]
    fn detach(
        &mut self,
        slot: u32,
        cause: Option<DepartureCause>,
        (nodes, account): (&mut dyn AnyNodes, &mut Account<'_>),
    ) -> bool {
        let OrderEntry { hash, weight, .. } = self.order.entry(slot);
        if !nodes.leave(slot, self.facts.take_terms(slot), Leave { weight, cause }) {
            return false;
        }
        self.free.push(slot);
        self.table.remove(hash, slot);
        if !self.versions.is_empty() {
            self.versions.remove(&slot);
        }
        self.timers.cancel(slot);
        account.subtract(1, u64::from(weight));
        true
    }

    /// Schedules the next time at which the freshness of an entry changes.
    fn schedule(&mut self, slot: u32, now: Time, nodes: &dyn AnyNodes) {
        let Some(terms) = self.life_at(slot, nodes).and_then(|life| life.terms) else { return };
        let until = terms.until();
        let next = if now < until { until } else { until.after(terms.written().stale) };
        self.timers.schedule(slot, next, now);
    }

    /// The slot of an entry that is stored: that of its key, or a free one. `None` if all 2^32 - 1 slots are in
    /// use.
    pub(super) fn slot_for(&mut self, found: Option<u32>) -> Option<u32> {
        if let Some(slot) = found.or_else(|| self.free.pop()) {
            return Some(slot);
        }
        let slot = self.slots;
        self.slots = slot.checked_add(1)?;
        Some(slot)
    }

    /// Adds an entry whose node is in its slot, with half of its hash, or replaces it: then there is none.
    /// Removes some of the entries that may no longer be served, and evicts others while the shard holds at
    /// least its share of the entries.
    pub(super) fn stored(
        &mut self,
        (slot, new): (u32, Option<u32>),
        record: &mut Record<()>,
        nodes: &mut dyn AnyNodes,
        common: &Common,
    ) {
        let mut context = common.context();
        self.changes += 1;
        let terms = record.terms.take();
        let has_terms = terms.is_some();
        let former = self.facts.set(slot, record.created, terms);
        match new {
            Some(hash) => {
                let entry = OrderEntry { hash, weight: record.weight, cost: record.cost };
                self.order.insert(slot, entry, nodes);
                let order = &self.order;
                self.table.insert(hash, slot, |slot| order.hash(slot));
                context.account.add(record.weight);
            }
            None => self.replaced(slot, (former, record), nodes, &mut context.account),
        }
        if has_terms {
            self.schedule(slot, context.lifetimes.now(), nodes);
        }
        match record.checked {
            Some(version) => drop(self.versions.insert(slot, version)),
            None if self.versions.is_empty() => {}
            None => drop(self.versions.remove(&slot)),
        }
        self.remove_some(nodes, &mut context);
        let shards = context.shards as u64;
        while context.account.is_exceeded()
            && self.len() as u64 * shards >= context.account.entries()
            && self.evict(Some(slot), nodes, &mut context)
        {}
    }

    /// Notes that the record in a slot was replaced by another one.
    fn replaced(
        &mut self,
        slot: u32,
        (former, record): (Option<Arc<LiveEntryMeta>>, &Record<()>),
        nodes: &mut dyn AnyNodes,
        account: &mut Account<'_>,
    ) {
        if let Some(terms) = former {
            nodes.leave_terms(terms);
        }
        let former_weight = self.order.replaced(slot, (record.weight, record.cost), nodes);
        account.reweigh(former_weight, record.weight);
        self.timers.cancel(slot);
    }

    /// Removes the entry in a slot. Returns the metadata of its record.
    pub(super) fn remove(
        &mut self,
        slot: u32,
        nodes: &mut dyn AnyNodes,
        context: &mut Context<'_>,
    ) -> Option<Removed> {
        let Head { stamp, has_value, .. } = nodes.head(slot)?;
        let removed =
            Removed { stamp, terms: self.facts.terms(slot).cloned(), checked: self.version(slot), has_value };
        self.order.remove(slot);
        self.detach(slot, None, (nodes, &mut context.account));
        Some(removed)
    }
}
