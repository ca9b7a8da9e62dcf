//! A selector that measures: it admits an entry where the expected time saved a byte is worth the room.
//!
//! `times` has the measured times of the tiers, `seen` the keys that were requested lately, `pool` the
//! requests of a sample of keys by class and distance, `judge` computes from them what each class saves and
//! what a byte must save. `decide` is the placement, a pure function of these numbers.

mod codec;
mod decide;
mod judge;
mod pool;
mod seen;
mod times;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use larder_core::place::{Facts, Lesson, Placement, Selector, TIERS_MAX, TierFacts, Yield};
use larder_core::tier::{TierKind, Usage};
use parking_lot::Mutex;

use self::codec::{Reader, Writer};
use self::decide::{View, decide};
use self::pool::{CLASSES, Described, Judgement, Judgements, Pool};
use self::seen::Seen;
use self::times::Times;

/// The selector that learns from the cache that it serves.
///
/// It decides as [`Table`](crate::selector::Table) does, except by measured times:
///
/// - the home is the tier, among those that the hints allow, that answers fastest;
/// - an entry that was loaded is stored beyond memory, held in memory, or neither, depending on what entries
///   like it save for the bytes that they take.
///
/// Entries are alike if the time that a hit saves, divided by the size, is about the same, and if both or
/// neither of their keys were requested lately. An entry without a load cost is always stored, and so is one
/// with [`Persistence::LongTerm`](larder_core::place::Persistence::LongTerm) or one that others see too.
///
/// Give each cache one of its own; clones share what they learn. Takes about 800 KiB. A placement costs less
/// than a microsecond, takes no lock and allocates nothing. [The page on routing][page] describes it.
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

/// What a hit in memory takes, in nanoseconds.
const MEMORY_HIT: f64 = 200.0;
/// Bytes that an entry takes in memory beside its encoding.
const OVERHEAD: f32 = 128.0;
/// Bytes that a frame has beside the payload.
const FRAME_HEAD: f32 = 104.0;
/// The first bytes of a snapshot.
const MAGIC: &[u8; 8] = b"LADSEL01";
/// What is assumed of the reuse of a class that is not known.
const REUSE: f64 = 0.5;

/// Everything that was learned. Bounded.
struct Learned {
    times: Times,
    seen: Seen,
    stored: Published,
    in_memory: Published,
    pools: Mutex<Pools>,
}

/// The requests, behind a lock that placements do not take.
struct Pools {
    stored: Pool,
    in_memory: Pool,
    /// One key in this many is in the sample of memory; 0 if memory tells of no requests.
    one_in: u32,
    usages: [Option<(TierKind, Usage)>; TIERS_MAX],
}

/// Judgements that are read without a lock.
struct Published {
    /// NaN for a class that is not known.
    saved: [AtomicU32; CLASSES],
    reuse: [AtomicU32; CLASSES],
    price: AtomicU32,
}

impl Default for Published {
    fn default() -> Self {
        let unknown = |_| AtomicU32::new(f32::NAN.to_bits());
        Self {
            saved: std::array::from_fn(unknown),
            reuse: std::array::from_fn(unknown),
            price: AtomicU32::new(0),
        }
    }
}

impl Published {
    fn publish(&self, judgements: &Judgements) {
        let Judgements { classes, price } = judgements;
        for (class, Judgement { saved, reuse, is_known }) in classes.iter().enumerate() {
            let known = |number: f32| if *is_known { number } else { f32::NAN };
            self.saved[class].store(known(*saved).to_bits(), Relaxed);
            self.reuse[class].store(known(*reuse).to_bits(), Relaxed);
        }
        self.price.store(price.to_bits(), Relaxed);
    }

    fn yield_of(&self, class: u8) -> Yield {
        let saved = f32::from_bits(self.saved[usize::from(class)].load(Relaxed));
        let price = f32::from_bits(self.price.load(Relaxed));
        // The conversion saturates.
        Yield { saved: (!saved.is_nan()).then_some(saved as i64), price: price as i64 }
    }

    fn reuse_of(&self, class: u8) -> f64 {
        let reuse = f32::from_bits(self.reuse[usize::from(class)].load(Relaxed));
        if reuse.is_nan() { REUSE } else { f64::from(reuse) }
    }
}

impl Default for Learned {
    fn default() -> Self {
        let pools =
            Pools { stored: Pool::new(), in_memory: Pool::new(), one_in: 0, usages: [None; TIERS_MAX] };
        Self {
            times: Times::default(),
            seen: Seen::default(),
            stored: Published::default(),
            in_memory: Published::default(),
            pools: Mutex::new(pools),
        }
    }
}

/// The class of an entry whose hits save this many nanoseconds a byte.
fn class_of(saved: f64, bytes: f32, is_seen: bool) -> u8 {
    let step = ((saved.max(1.0) / f64::from(bytes)).log2() + 15.0) * 0.75;
    // The conversion saturates.
    (step.clamp(0.0, 31.0) as u8) * 2 + u8::from(is_seen)
}

/// An entry with the classes that it belongs to.
struct Classified {
    stored: Described,
    in_memory: Described,
}

impl Learned {
    /// Nanoseconds that a load of the entry takes; `None` if it was not loaded.
    fn classify(&self, facts: &Facts, is_seen: bool) -> Option<Classified> {
        let load = facts.load_cost?.as_nanos() as f64;
        let (frame, weight) = (facts.bytes as f32 + FRAME_HEAD, facts.bytes as f32 + OVERHEAD);
        let class = class_of(load, frame, is_seen);
        // Memory saves a read of the home, or else a load.
        let is_stored = self.stored.yield_of(class).pays() != Some(false);
        let read = if is_stored { self.fastest(facts.bytes).map(|cost| cost.0) } else { None };
        let benefit = (read.unwrap_or(load).min(load) - MEMORY_HIT).max(1.0);
        Some(Classified {
            stored: Described { class, bytes: frame, load: load as f32 },
            in_memory: Described {
                class: class_of(benefit, weight, is_seen),
                bytes: weight,
                load: benefit as f32,
            },
        })
    }

    /// The read and write time of the fastest tier beyond memory.
    fn fastest(&self, bytes: u64) -> Option<(f64, f64)> {
        let costs = self.times.kinds().map(|kind| self.times.cost(kind, bytes));
        costs.map(|cost| (cost.read, cost.write)).min_by(|one, other| (one.0 + one.1).total_cmp(&(other.0 + other.1)))
    }

    fn view(&self, facts: &Facts) -> View {
        let is_seen = facts.key.is_some_and(|key| self.seen.contains(key));
        match self.classify(facts, is_seen) {
            Some(Classified { stored, in_memory }) => View {
                stored: self.stored.yield_of(stored.class),
                in_memory: self.in_memory.yield_of(in_memory.class),
                reuse: self.stored.reuse_of(stored.class),
            },
            None => View { stored: Yield::default(), in_memory: Yield::default(), reuse: REUSE },
        }
    }

    fn requested(&self, facts: &Facts) {
        let Some(key) = facts.key else { return };
        let is_seen = self.seen.contains(key);
        let classified = self.classify(facts, is_seen);
        self.seen.insert(key);
        // A sample need not be complete.
        let Some(mut pools) = self.pools.try_lock() else { return };
        pools.stored.request(key, 1);
        if let Some(Classified { stored, in_memory }) = classified {
            pools.stored.describe(key, stored, 1);
            let one_in = pools.one_in;
            if one_in > 0 {
                pools.in_memory.describe(key, in_memory, one_in);
            }
        }
        self.judge(&mut pools);
    }

    fn judge(&self, pools: &mut Pools) {
        let value = |bytes: f32, load: f32| match self.fastest(bytes as u64) {
            Some((read, write)) => (f64::from(load) - read, write),
            None => (0.0, 0.0),
        };
        if let Some(judgements) = pools.stored.judge(value) {
            self.stored.publish(&judgements);
            self.times.fade();
        }
        if let Some(judgements) = pools.in_memory.judge(|_, saved| (f64::from(saved), 0.0)) {
            self.in_memory.publish(&judgements);
        }
    }

    fn filled(&self, tier: TierKind, usage: Usage) {
        let Some(mut pools) = self.pools.try_lock() else { return };
        if tier == TierKind::Memory {
            pools.in_memory.fill(usage.bytes, usage.evictions);
            return;
        }
        self.times.know(tier);
        let mut slots = pools.usages.iter_mut();
        if let Some(slot) = slots.find(|slot| slot.is_none_or(|(kind, _)| kind == tier)) {
            *slot = Some((tier, usage));
        }
        let sum = |of: fn(&Usage) -> u64| pools.usages.iter().flatten().map(|(_, usage)| of(usage)).sum();
        let (bytes, evictions) = (sum(|usage| usage.bytes), sum(|usage| usage.evictions));
        pools.stored.fill(bytes, evictions);
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
            Lesson::LookedUp { key, one_in } => {
                if let Some(mut pools) = learned.pools.try_lock() {
                    pools.one_in = one_in;
                    pools.in_memory.request(key, one_in);
                }
            }
            Lesson::Requested { facts, .. } => learned.requested(facts),
            Lesson::Read { tier, bytes, time } => learned.times.read(tier, bytes, time),
            Lesson::Written { tier, bytes, time } => learned.times.written(tier, bytes, time),
            Lesson::Filled { tier, usage } => learned.filled(tier, usage),
            _ => {}
        }
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        let mut to = Writer::new(MAGIC);
        self.learned.times.write(&mut to);
        let pools = self.learned.pools.lock();
        pools.stored.write(&mut to);
        pools.in_memory.write(&mut to);
        Some(to.finish())
    }

    fn restore(&self, snapshot: &[u8]) -> bool {
        let restored = || {
            let mut from = Reader::new(snapshot, MAGIC)?;
            let times = Times::default();
            times.restore(&mut from)?;
            Some((Pool::read(&mut from)?, Pool::read(&mut from)?))
        };
        let Some((stored, in_memory)) = restored() else { return false };
        if let Some(mut from) = Reader::new(snapshot, MAGIC) {
            let _whole = self.learned.times.restore(&mut from);
        }
        let mut pools = self.learned.pools.lock();
        (pools.stored, pools.in_memory) = (stored, in_memory);
        self.learned.judge(&mut pools);
        true
    }
}
