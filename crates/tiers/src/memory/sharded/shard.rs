//! One shard: a hash table of slots, their nodes, the eviction order and the timers.

use std::collections::VecDeque;
use std::hash::Hash;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use larder_core::clock::Time;
use larder_core::entry_meta::{Freshness, LiveEntryMeta};
use larder_core::key::Equivalent;
use larder_core::memory::{DepartureCause, Lifespan, Lifetimes, Record, Removed};
use larder_core::tier::EntryVersion;

use super::budget::Account;
use super::dismissal::{Departed, Gone, Leaving};
use super::node::{ColdFacts, Node, clones_in_place};
use super::slab::Slab;
use super::table::SlotTable;
use super::timers::Timers;
use crate::memory::Policy;
use crate::memory::order::{Order, OrderEntry, Tuning};

/// How many due entries one insert handles, and how many slots it searches for invalidated entries.
const DUE_PER_INSERT: usize = 64;
const SEARCHED_PER_INSERT: u32 = 16;

/// The parts of the store that an exclusive operation on a shard uses.
pub(super) struct Context<'a, K, V> {
    pub(super) account: Account<'a>,
    pub(super) lifetimes: &'a dyn Lifetimes,
    pub(super) leaving: &'a mut Leaving<K, V>,
}

/// A shard: a part of the entries of a store, behind a lock of the store.
pub(super) struct Shard<K, V> {
    table: SlotTable,
    nodes: Slab<Node<K, V>>,
    /// By slot, as the nodes are.
    facts: Vec<ColdFacts>,
    /// Whether hits clone values under the lock.
    in_place: bool,
    order: Order,
    timers: Timers,
    /// The versions of the entries that have one: those whose home tier is shared.
    versions: HashMap<u32, EntryVersion, FixedState>,
    /// Number of entries that the policy chose, since the store was made.
    evictions: u64,
    /// Entries past their deadline that may still be served as stale, the oldest first. They are evicted
    /// before fresh ones. May contain slots that were removed or rewritten since.
    stale: VecDeque<u32>,
    /// Slots below this are still to be searched for invalidated entries.
    unsearched: u32,
    /// The invalidation count for which the last search was started.
    searched_for: u64,
}

impl<K, V> Shard<K, V> {
    pub(super) fn new(policy: Policy, budget: u64) -> Self {
        Self {
            table: SlotTable::default(),
            nodes: Slab::default(),
            facts: Vec::new(),
            in_place: clones_in_place::<V>(),
            order: Order::new(policy, budget),
            timers: Timers::default(),
            versions: HashMap::default(),
            evictions: 0,
            stale: VecDeque::new(),
            unsearched: 0,
            searched_for: 0,
        }
    }

    /// Number of entries that the policy chose, since the store was made.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The version of an entry in its home, if it has one.
    pub(super) fn version(&self, slot: u32) -> Option<EntryVersion> {
        if self.versions.is_empty() { None } else { self.versions.get(&slot).copied() }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (u32, &Node<K, V>)> {
        self.nodes.iter()
    }

    /// The weights of all entries.
    pub(super) fn weight(&self) -> u64 {
        self.nodes.iter().map(|(slot, _)| u64::from(self.order.entry(slot).weight)).sum()
    }

    pub(super) fn moves_on_hit(&self) -> bool {
        self.order.moves_on_hit()
    }

    /// The hottest entries first, at most `n`. Those that are never evicted come last: the order does not
    /// compare them.
    pub(super) fn hottest(&self, n: usize) -> impl Iterator<Item = (u32, &Node<K, V>)> {
        let pinned = self.nodes.iter().map(|(slot, _)| slot).filter(|slot| self.order.is_pinned(*slot));
        let slots = self.order.hottest(n, &self.nodes).into_iter().chain(pinned).take(n);
        slots.filter_map(|slot| Some((slot, self.nodes.get(slot)?)))
    }

    pub(super) fn tune(&mut self, tuning: Tuning) {
        self.order.tune(tuning);
    }

    pub(super) fn set_budget(&mut self, budget: u64) {
        self.order.set_budget(budget);
    }

    /// Evicts entries without weight only if `counts_entries`: there is a limit of entries.
    pub(super) fn evict_weightless(&mut self, counts_entries: bool) {
        if counts_entries {
            let occupied: Vec<u32> = self.nodes.iter().map(|(slot, _)| slot).collect();
            self.order.unpin_weightless(&occupied, &self.nodes);
        } else if self.nodes.len() == 0 {
            self.order.pin_weightless();
        }
    }

    /// The parts of a record that its freshness depends on.
    #[inline]
    pub(super) fn lifespan<'a>(&'a self, slot: u32, node: &'a Node<K, V>) -> Lifespan<'a> {
        // The facts are in another cache line.
        let terms = if node.has_terms() { self.facts[slot as usize].terms.as_deref() } else { None };
        Lifespan { stamp: node.stamp, terms }
    }

    fn life_at(&self, slot: u32) -> Option<Lifespan<'_>> {
        self.nodes.get(slot).map(|node| self.lifespan(slot, node))
    }

    /// The record in a slot, without its value.
    pub(super) fn record<T>(&self, slot: u32, node: &Node<K, V>) -> Record<T> {
        let OrderEntry { weight, cost, .. } = self.order.entry(slot);
        let ColdFacts { created, terms } = &self.facts[slot as usize];
        let (stamp, home, checked) = (node.stamp, node.home(), self.version(slot));
        Record { value: None, created: *created, stamp, terms: terms.clone(), weight, home, checked, cost }
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
    pub(super) fn clear(&mut self, context: &mut Context<'_, K, V>) {
        let now = context.lifetimes.now();
        let slots: Vec<u32> = self.nodes.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let is_past = self.terms(slot).is_some_and(|terms| terms.until() <= now);
            let cause = is_past.then_some(DepartureCause::Expired);
            if let Some(gone) = self.detach(slot, cause, &mut context.account) {
                context.leaving.push(Departed::Entry(gone));
            }
        }
        (self.table, self.nodes, self.facts) = (SlotTable::default(), Slab::default(), Vec::new());
        self.versions = HashMap::default();
        self.order.clear();
        self.timers.clear();
        self.stale = VecDeque::new();
        self.unsearched = 0;
    }

    /// Evicts the next entry, but not the one in `keep`. Returns whether there was one.
    pub(super) fn evict(&mut self, keep: Option<u32>, context: &mut Context<'_, K, V>) -> bool {
        if self.expire_one(keep, context) {
            return true;
        }
        let victim = match self.next_stale(keep, context.lifetimes) {
            Some(slot) => {
                self.order.remove(slot);
                Some(slot)
            }
            None => self.order.victim(keep, &self.nodes),
        };
        let evicted = Some(DepartureCause::Evicted);
        let Some(gone) = victim.and_then(|slot| self.detach(slot, evicted, &mut context.account)) else {
            return false;
        };
        self.evictions += 1;
        context.leaving.push(Departed::Entry(gone));
        true
    }

    /// Removes up to `max` expired entries.
    pub(super) fn expire(&mut self, max: usize, context: &mut Context<'_, K, V>) {
        if self.timers.is_empty() {
            return;
        }
        let now = context.lifetimes.now();
        self.timers.turn(now);
        for _ in 0..max {
            let Some(slot) = self.timers.pop_due() else { return };
            self.judge_due(slot, now, context);
        }
    }

    /// Removes some of the expired entries.
    #[inline]
    pub(super) fn expire_some(&mut self, context: &mut Context<'_, K, V>) {
        if !self.timers.is_empty() {
            self.expire(DUE_PER_INSERT, context);
        }
    }

    /// Removes all entries that may no longer be served; returns their number.
    pub(super) fn sweep(&mut self, context: &mut Context<'_, K, V>) -> u64 {
        let now = context.lifetimes.now();
        let gone: Vec<u32> = self
            .nodes
            .iter()
            .filter(|(slot, node)| {
                context.lifetimes.freshness(self.lifespan(*slot, node), now) == Freshness::Gone
            })
            .map(|(slot, _)| slot)
            .collect();
        gone.iter().for_each(|slot| self.remove_expired(*slot, context));
        gone.len() as u64
    }

    /// Removes one due entry; returns whether there was one.
    fn expire_one(&mut self, keep: Option<u32>, context: &mut Context<'_, K, V>) -> bool {
        let before = context.leaving.len();
        if !self.timers.is_empty() {
            let now = context.lifetimes.now();
            while let Some(slot) = self.timers.pop_due() {
                if Some(slot) == keep {
                    self.schedule(slot, now);
                    return false;
                }
                self.judge_due(slot, now, context);
                if context.leaving.len() > before {
                    return true;
                }
            }
        }
        false
    }

    /// Removes, or schedules again, an entry whose timer has run out.
    fn judge_due(&mut self, slot: u32, now: Time, context: &mut Context<'_, K, V>) {
        let Some(life) = self.life_at(slot) else { return };
        match context.lifetimes.freshness(life, now) {
            Freshness::Gone => self.remove_expired(slot, context),
            Freshness::Stale => {
                self.note_stale(slot);
                self.schedule(slot, now);
            }
            Freshness::Fresh => self.schedule(slot, now),
        }
    }

    fn note_stale(&mut self, slot: u32) {
        if self.stale.len() > self.nodes.len() * 2 {
            let nodes = &self.nodes;
            self.stale.retain(|slot| nodes.get(*slot).is_some());
            self.stale.truncate(self.nodes.len());
        }
        self.stale.push_back(slot);
    }

    /// The entry that has been stale for the longest time.
    fn next_stale(&mut self, keep: Option<u32>, lifetimes: &dyn Lifetimes) -> Option<u32> {
        if self.stale.is_empty() {
            return None;
        }
        let now = lifetimes.now();
        while let Some(slot) = self.stale.pop_front() {
            let life = self.life_at(slot).filter(|_| Some(slot) != keep);
            if life.is_some_and(|life| lifetimes.freshness(life, now) == Freshness::Stale) {
                return Some(slot);
            }
        }
        None
    }

    fn remove_expired(&mut self, slot: u32, context: &mut Context<'_, K, V>) {
        self.order.remove(slot);
        if let Some(gone) = self.detach(slot, Some(DepartureCause::Expired), &mut context.account) {
            context.leaving.push(Departed::Entry(gone));
        }
    }

    /// Searches some slots for invalidated entries.
    #[inline]
    pub(super) fn search(&mut self, context: &mut Context<'_, K, V>) {
        let invalidations = context.lifetimes.invalidations();
        if self.searched_for != invalidations {
            self.searched_for = invalidations;
            self.unsearched = self.nodes.slots();
        }
        if self.unsearched > 0 {
            self.search_some(context);
        }
    }

    #[cold]
    fn search_some(&mut self, context: &mut Context<'_, K, V>) {
        let now = context.lifetimes.now();
        for _ in 0..SEARCHED_PER_INSERT {
            let Some(slot) = self.unsearched.checked_sub(1) else { return };
            self.unsearched = slot;
            let life = self.life_at(slot);
            if life.is_some_and(|life| context.lifetimes.freshness(life, now) == Freshness::Gone) {
                self.remove_expired(slot, context);
            }
        }
    }

    /// Removes a node from the table, the timers and the accounting. The caller has removed it from the
    /// order.
    #[inline]
    fn detach(
        &mut self,
        slot: u32,
        cause: Option<DepartureCause>,
        account: &mut Account<'_>,
    ) -> Option<Gone<K, V>> {
        let OrderEntry { hash, weight, .. } = self.order.entry(slot);
        let node = self.nodes.remove(slot)?;
        self.table.remove(hash, slot);
        if !self.versions.is_empty() {
            self.versions.remove(&slot);
        }
        self.timers.cancel(slot);
        account.subtract(1, u64::from(weight));
        let terms = if node.has_terms() { self.facts[slot as usize].terms.take() } else { None };
        Some(Gone { node, terms, weight, cause })
    }

    fn terms(&self, slot: u32) -> Option<&LiveEntryMeta> {
        self.life_at(slot)?.terms
    }

    /// Schedules the next time at which the freshness of an entry changes.
    fn schedule(&mut self, slot: u32, now: Time) {
        let Some(terms) = self.terms(slot) else { return };
        let until = terms.until();
        let next = if now < until { until } else { until.after(terms.written().stale) };
        self.timers.schedule(slot, next, now);
    }
}

impl<K, V> Shard<K, V>
where
    K: Hash + Eq,
    V: Clone,
{
    #[inline]
    pub(super) fn find<Q: Equivalent<K> + ?Sized>(&self, hash: u32, key: &Q) -> Option<(u32, &Node<K, V>)> {
        self.table.find(hash, |slot| {
            let node = self.nodes.get(slot)?;
            key.equivalent(&node.key).then_some((slot, node))
        })
    }

    /// Stores a record; returns its slot, or `None` if the shard has no free slot.
    pub(super) fn insert(
        &mut self,
        (hash, key): (u32, K),
        record: Record<V>,
        context: &mut Context<'_, K, V>,
    ) -> Option<u32> {
        let has_terms = record.terms.is_some();
        let (weight, cost, version) = (record.weight, record.cost, record.checked);
        let slot = match self.find(hash, &key).map(|(slot, _)| slot) {
            Some(slot) => {
                let (former, facts) = self.nodes.get_mut(slot)?.replace(record, self.in_place);
                let facts = std::mem::replace(&mut self.facts[slot as usize], facts);
                let former_weight = self.order.replaced(slot, (weight, cost), &self.nodes);
                context.account.reweigh(former_weight, weight);
                self.timers.cancel(slot);
                context.leaving.push(Departed::Replaced { _key: key, _value: former, _terms: facts.terms });
                slot
            }
            None => {
                let (node, facts) = Node::new(key, record, self.in_place);
                let slot = self.nodes.insert(node)?;
                self.set_facts(slot, facts);
                self.order.insert(slot, OrderEntry { hash, weight, cost }, &self.nodes);
                let order = &self.order;
                self.table.insert(hash, slot, |slot| order.hash(slot));
                context.account.add(weight);
                slot
            }
        };
        if has_terms {
            self.schedule(slot, context.lifetimes.now());
        }
        match version {
            Some(version) => drop(self.versions.insert(slot, version)),
            None if self.versions.is_empty() => {}
            None => drop(self.versions.remove(&slot)),
        }
        Some(slot)
    }

    fn set_facts(&mut self, slot: u32, facts: ColdFacts) {
        match self.facts.get_mut(slot as usize) {
            Some(place) => *place = facts,
            // Slots are given in order.
            None => {
                if self.facts.len() == self.facts.capacity() {
                    // By an eighth, as the slots of the order.
                    self.facts.reserve_exact((self.facts.len() / 8).max(8));
                }
                self.facts.push(facts);
            }
        }
    }

    /// Removes the entry of `key`. Also returns the metadata of its record.
    pub(super) fn remove<Q: Equivalent<K> + ?Sized>(
        &mut self,
        hash: u32,
        key: &Q,
        context: &mut Context<'_, K, V>,
    ) -> Option<Removed> {
        let (slot, node) = self.find(hash, key)?;
        let (stamp, has_value, checked) = (node.stamp, node.has_value(), self.version(slot));
        self.order.remove(slot);
        let gone = self.detach(slot, None, &mut context.account)?;
        let removed = Removed { stamp, terms: gone.terms.clone(), checked, has_value };
        context.leaving.push(Departed::Entry(gone));
        Some(removed)
    }
}
