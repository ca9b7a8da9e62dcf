//! A selector that measures: it admits an entry where the expected time saved a byte is worth the room.
//!
//! `times` has the measured times of the tiers, `seen` the keys that were requested lately, `price` what a
//! byte must save so that the entries that save most fit. `decide` is the placement, a pure function.

mod codec;
mod decide;
mod price;
mod seen;
mod times;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use larder_core::place::{Facts, Lesson, Placement, Selector, TIERS_MAX, TierFacts};
use larder_core::tier::{TierKind, Usage};
use parking_lot::Mutex;

use self::codec::{Reader, Writer};
use self::decide::{View, decide, saved_per_byte};
use self::price::{Price, Prices};
use self::seen::Seen;
use self::times::Times;

/// The selector that learns from the cache that it serves.
///
/// It decides as [`Table`](crate::selector::Table) does, except by measured times:
///
/// - the home is the tier, among those that the hints allow, that takes the least time for a write and the
///   reads that follow it;
/// - an entry that was loaded is stored beyond memory if the reads to come save more time than the write
///   takes, and if each of its bytes saves at least the *price*: what the entries that fit save at least.
///   Otherwise it is in memory alone, or nowhere.
///
/// Copies in memory are those of the table. An entry without a load cost is always stored, and so is one with
/// [`Persistence::LongTerm`](larder_core::place::Persistence::LongTerm) or one that others see too.
///
/// Give each cache one of its own; clones share what they learn. Takes 70 KiB. A placement takes no lock and
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
const MAGIC: &[u8; 8] = b"LRDSEL01";

/// Everything that was learned. Bounded.
struct Learned {
    times: Times,
    seen: Seen,
    price: Published,
    /// Behind a lock that placements do not take.
    requests: Mutex<Requests>,
}

struct Requests {
    prices: Prices,
    usages: [Option<Filled>; TIERS_MAX],
}

/// How full a tier is.
#[derive(Clone, Copy)]
struct Filled {
    tier: TierKind,
    usage: Usage,
    capacity: Option<u64>,
}

/// A price that is read without a lock.
#[derive(Default)]
struct Published {
    nanos: AtomicU64,
    requests: AtomicU64,
    is_known: AtomicBool,
}

impl Published {
    fn publish(&self, price: Price) {
        self.nanos.store(price.nanos.to_bits(), Relaxed);
        self.requests.store(price.requests.to_bits(), Relaxed);
        self.is_known.store(price.is_known, Relaxed);
    }

    fn read(&self) -> Price {
        let number = |of: &AtomicU64| f64::from_bits(of.load(Relaxed));
        let is_known = self.is_known.load(Relaxed);
        Price { nanos: number(&self.nanos), requests: number(&self.requests), is_known }
    }
}

impl Default for Learned {
    fn default() -> Self {
        let requests = Requests { prices: Prices::new(), usages: [None; TIERS_MAX] };
        Self {
            times: Times::default(),
            seen: Seen::default(),
            price: Published::default(),
            requests: Mutex::new(requests),
        }
    }
}

impl Learned {
    fn requested(&self, facts: &Facts) {
        let Some(key) = facts.key else { return };
        let saved = facts.load_cost.map(|load| {
            let reads = self.times.kinds().map(|kind| self.times.cost(kind, facts.bytes).read);
            saved_per_byte(load.as_nanos() as f64, reads.reduce(f64::min).unwrap_or(0.0), facts.bytes)
        });
        // What is learned need not be complete.
        let Some(mut requests) = self.requests.try_lock() else { return };
        let price = requests.prices.request(&self.seen, key, facts.bytes as f64, saved);
        if let Some(price) = price {
            self.price.publish(price);
            self.times.fade();
        }
    }

    fn filled(&self, filled: Filled) {
        if filled.tier == TierKind::Memory {
            return;
        }
        self.times.know(filled.tier);
        let Some(mut requests) = self.requests.try_lock() else { return };
        let mut slots = requests.usages.iter_mut();
        if let Some(slot) = slots.find(|slot| slot.is_none_or(|known| known.tier == filled.tier)) {
            *slot = Some(filled);
        }
        let known = requests.usages.iter().flatten();
        let (bytes, evictions) = known.clone().fold((0, 0), |(bytes, evictions), known| {
            (bytes + known.usage.bytes, evictions + known.usage.evictions)
        });
        // Disk and files share one budget. A tier without a known one has room for what it holds.
        let unknown = known.clone().filter(|known| known.capacity.is_none());
        let unknown: u64 = unknown.map(|known| known.usage.bytes).sum();
        let capacity = known.filter_map(|known| known.capacity).max();
        let capacity = capacity.map(|capacity| capacity.saturating_add(unknown));
        requests.prices.fill(bytes, evictions, capacity);
    }
}

impl Selector for Adaptive {
    fn place(&self, facts: &Facts, tiers: &[TierFacts]) -> Placement {
        let view = View { price: self.learned.price.read() };
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
        self.learned.requests.lock().prices.write(&mut to);
        self.learned.times.write(&mut to);
        Some(to.finish())
    }

    fn restore(&self, snapshot: &[u8]) -> bool {
        let Some(mut from) = Reader::new(snapshot, MAGIC) else { return false };
        let Some(prices) = Prices::read(&mut from) else { return false };
        if self.learned.times.restore(&mut from).is_none() {
            return false;
        }
        self.learned.price.publish(prices.present());
        self.learned.requests.lock().prices = prices;
        true
    }
}
