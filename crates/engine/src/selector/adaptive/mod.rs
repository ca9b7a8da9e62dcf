//! A selector that measures: it admits an entry where the expected time saved a byte is worth the room.
//!
//! `times` has the measured times of the tiers, `counts` how often keys were requested lately, `requests` how
//! many requests are to come for them, `price` what a byte must save so that the entries that save most fit.
//! `decide` is the placement, a pure function.

mod codec;
mod counts;
mod decide;
mod price;
mod requests;
mod times;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use larder_core::place::{Facts, Lesson, Placement, Selector, TIERS_MAX, TierFacts};
use larder_core::tier::{TierKind, Usage};
use parking_lot::Mutex;

use self::codec::{Reader, Writer};
use self::counts::{COUNTS, Counts};
use self::decide::{HEAD, View, decide, must_store, pays, saved_per_byte};
use self::requests::{Prices, Requested, Requests};
use self::times::Times;

/// The selector that learns from the cache that it serves.
///
/// It decides as [`Table`](crate::selector::Table) does, except by measured times:
///
/// - the home is the tier, among those that the hints allow, that takes the least time for a write and the
///   reads that follow it;
/// - an entry that was loaded is stored beyond memory if the reads to come save more time than the write
///   takes, and if each of its bytes saves at least the *price*: what the entries that fit save at least.
///   Otherwise it is in memory alone, or nowhere;
/// - memory has an entry, alone or as a copy, if each of its bytes saves at least the price of memory; while memory
///   has room for all, it has the copies of the table;
/// - an entry that is read moves to a tier that is so much faster that the move pays.
///
/// The reads to come are estimated by how often the key was requested lately. An entry without a load cost is
/// always stored, and so is one with
/// [`Persistence::LongTerm`](larder_core::place::Persistence::LongTerm) or one that others see too.
///
/// Give each cache one of its own; clones share what they learn. Takes 160 KiB. A placement takes no lock and
/// allocates nothing. [The page on routing][page] describes it.
///
/// [page]: https://github.com/larder-rs/larder/blob/main/docs/routing.md
#[derive(Clone, Default)]
pub struct Adaptive {
    learned: Arc<Learned>,
}

impl std::fmt::Debug for Adaptive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adaptive").finish_non_exhaustive()
    }
}

/// The first bytes of a snapshot.
const MAGIC: &[u8; 8] = b"LRDSEL02";

/// Everything that was learned. Bounded.
struct Learned {
    times: Times,
    counts: Counts,
    prices: Published,
    /// Behind a lock that placements do not take.
    locked: Mutex<Locked>,
}

struct Locked {
    requests: Requests,
    usages: [Option<Filled>; TIERS_MAX],
}

/// How full a tier is.
#[derive(Clone, Copy)]
struct Filled {
    tier: TierKind,
    usage: Usage,
    capacity: Option<u64>,
}

/// Prices that are read without a lock.
#[derive(Default)]
struct Published {
    stored: AtomicU64,
    memory: AtomicU64,
    requests: [AtomicU64; COUNTS],
    are_known: AtomicBool,
}

impl Published {
    fn publish(&self, prices: Prices) {
        self.stored.store(prices.stored.to_bits(), Relaxed);
        self.memory.store(prices.memory.to_bits(), Relaxed);
        let counts = self.requests.iter().zip(prices.requests);
        counts.for_each(|(to, requests)| to.store(requests.to_bits(), Relaxed));
        self.are_known.store(prices.are_known, Relaxed);
    }

    /// What is known of a key that had this count before the request at hand.
    fn view(&self, count: usize) -> View {
        let number = |of: &AtomicU64| f64::from_bits(of.load(Relaxed));
        let count = (count + 1).min(COUNTS - 1);
        View {
            stored: number(&self.stored),
            memory: number(&self.memory),
            requests: number(&self.requests[count]),
            count: count as f64,
            is_known: self.are_known.load(Relaxed),
        }
    }
}

impl Default for Learned {
    fn default() -> Self {
        let prices = Published::default();
        prices.publish(Prices::default());
        let locked = Locked { requests: Requests::new(), usages: [None; TIERS_MAX] };
        Self { times: Times::default(), counts: Counts::default(), prices, locked: Mutex::new(locked) }
    }
}

impl Learned {
    fn view(&self, facts: &Facts) -> View {
        self.prices.view(facts.key.map_or(0, |key| self.counts.get(key)))
    }

    fn requested(&self, facts: &Facts) {
        let Some(key) = facts.key else { return };
        let costs = self.times.kinds().map(|kind| self.times.cost(kind, facts.bytes));
        let fastest = costs.min_by(|one, other| one.read.total_cmp(&other.read)).unwrap_or_default();
        let load = facts.load_cost.map(|load| load.as_nanos() as f64);
        let is_stored = || must_store(facts) || pays(facts, &self.view(facts), fastest).unwrap_or_default();
        // What a hit in memory saves: the read of the tier that has the entry, or else the load.
        let in_memory = match facts.found {
            Some(kind) => Some(self.times.cost(kind, facts.bytes).read),
            None => load.map(|load| if is_stored() { fastest.read } else { load }),
        };
        let entry = Requested {
            key,
            bytes: facts.bytes as f64 + HEAD,
            saved_stored: load.map(|load| saved_per_byte(load - fastest.read, facts.bytes)),
            saved_memory: in_memory.map(|saved| saved_per_byte(saved, facts.bytes)),
        };
        // What is learned need not be complete.
        let Some(mut locked) = self.locked.try_lock() else { return };
        if let Some(prices) = locked.requests.request(&self.counts, entry) {
            self.prices.publish(prices);
            self.times.fade();
        }
    }

    fn filled(&self, filled: Filled) {
        let Some(mut locked) = self.locked.try_lock() else { return };
        if filled.tier == TierKind::Memory {
            locked.requests.fill_memory(filled.capacity);
            return;
        }
        self.times.know(filled.tier);
        let mut slots = locked.usages.iter_mut();
        if let Some(slot) = slots.find(|slot| slot.is_none_or(|known| known.tier == filled.tier)) {
            *slot = Some(filled);
        }
        let known = locked.usages.iter().flatten();
        let (bytes, evictions) = known.clone().fold((0, 0), |(bytes, evictions), known| {
            (bytes + known.usage.bytes, evictions + known.usage.evictions)
        });
        // Disk and files share one budget. A tier without a known one has room for what it holds.
        let unknown = known.clone().filter(|known| known.capacity.is_none());
        let unknown: u64 = unknown.map(|known| known.usage.bytes).sum();
        let capacity = known.filter_map(|known| known.capacity).max();
        let capacity = capacity.map(|capacity| capacity.saturating_add(unknown));
        locked.requests.fill_stored(bytes, evictions, capacity);
    }
}

impl Selector for Adaptive {
    fn place(&self, facts: &Facts, tiers: &[TierFacts]) -> Placement {
        let view = self.learned.view(facts);
        decide(facts, tiers, &view, |kind| self.learned.times.cost(kind, facts.bytes))
    }

    fn learns(&self) -> bool {
        true
    }

    fn learn(&self, lesson: Lesson<'_>) {
        let learned = &*self.learned;
        match lesson {
            Lesson::Requested { facts, .. } => learned.requested(facts),
            Lesson::Read { tier, bytes, time } => learned.times.read(tier, bytes, time),
            Lesson::Written { tier, bytes, time } => learned.times.written(tier, bytes, time),
            Lesson::Filled { tier, usage, capacity } => learned.filled(Filled { tier, usage, capacity }),
            _ => {}
        }
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        let mut to = Writer::new(MAGIC);
        self.learned.locked.lock().requests.write(&mut to);
        self.learned.times.write(&mut to);
        Some(to.finish())
    }

    fn restore(&self, snapshot: &[u8]) -> bool {
        let Some(mut from) = Reader::new(snapshot, MAGIC) else { return false };
        let Some(requests) = Requests::read(&mut from) else { return false };
        if self.learned.times.restore(&mut from).is_none() {
            return false;
        }
        self.learned.prices.publish(requests.prices());
        self.learned.locked.lock().requests = requests;
        true
    }
}
