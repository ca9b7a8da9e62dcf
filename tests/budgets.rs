//! Memory stays within its budget, counted in bytes of live values.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;

use larder::{Cache, ErrorKind, TierKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A type with its own counts, so that concurrent tests do not share them.
trait Tally: Send + Sync + 'static {
    fn counts() -> &'static Counts;
}

#[derive(Default)]
struct Counts {
    live: AtomicU64,
    peak: AtomicU64,
}

/// Text whose bytes count as live from its creation until its drop.
struct Text<T: Tally>(String, std::marker::PhantomData<T>);

impl<T: Tally> Text<T> {
    fn new(text: String) -> Arc<Self> {
        let len = text.len() as u64;
        let live = T::counts().live.fetch_add(len, SeqCst) + len;
        T::counts().peak.fetch_max(live, SeqCst);
        Arc::new(Self(text, std::marker::PhantomData))
    }
}

impl<T: Tally> Drop for Text<T> {
    fn drop(&mut self) {
        T::counts().live.fetch_sub(self.0.len() as u64, SeqCst);
    }
}

struct Value<T: Tally>(Arc<Text<T>>);

impl<T: Tally> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Tally> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.0.serialize(serializer)
    }
}

impl<'de, T: Tally> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Text::new(String::deserialize(deserializer)?)))
    }
}

macro_rules! tally {
    ($name:ident) => {
        struct $name;
        impl Tally for $name {
            fn counts() -> &'static Counts {
                static COUNTS: OnceLock<Counts> = OnceLock::new();
                COUNTS.get_or_init(Counts::default)
            }
        }
    };
}

const WRITERS: u64 = 8;
const BUDGET: u64 = 8 << 20;

/// Eight writers insert ten times the budget, overwrite, remove and read.
fn write<T: Tally>(cache: &Cache<u64, Value<T>>, lens: &Range<u64>) {
    let mean = (lens.start + lens.end) / 2;
    let keys = BUDGET * 3 / mean;
    thread::scope(|scope| {
        for seed in 0..WRITERS {
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                for _ in 0..BUDGET * 10 / mean / WRITERS {
                    let key = rng.u64(0..keys);
                    let len = rng.u64(lens.clone());
                    match rng.u32(0..10) {
                        0 => drop(cache.remove(&key)),
                        1 => drop(cache.get(&rng.u64(0..keys))),
                        _ => cache.insert(key, Value(Text::new("x".repeat(len as usize)))),
                    }
                }
            });
        }
    });
}

fn check<T: Tally>(cache: Cache<u64, Value<T>>, lens: Range<u64>) {
    write(&cache, &lens);
    let counts = T::counts();
    let bound = BUDGET + BUDGET / 20 + WRITERS * lens.end;
    let peak = counts.peak.load(SeqCst);
    assert!(peak <= bound, "{lens:?}: {peak} bytes lived at once, more than {bound}");
    let held = cache.stats().tier(TierKind::Memory).unwrap().usage.bytes;
    assert!(held >= BUDGET * 8 / 10, "{lens:?}: {held} bytes in memory, of {BUDGET}");
    cache.close().unwrap();
    drop(cache);
    assert_eq!(counts.live.load(SeqCst), 0, "{lens:?}: bytes that live after the cache");
}

fn memory<T: Tally>(lens: Range<u64>) {
    let weigher = |_: &u64, value: &Value<T>| u32::try_from(value.0.0.len()).unwrap();
    let cache = larder::mcache::<u64, Value<T>>("budget").memory_bytes(BUDGET).weigher(weigher);
    check(cache.build().unwrap(), lens);
}

fn tiers<T: Tally>(lens: Range<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::ucache::<u64, Value<T>>("budget").dir(dir.path()).memory_bytes(BUDGET);
    check(cache.disk_bytes(64 << 20).build().unwrap(), lens);
}

#[test]
fn small_values_stay_within_the_budget_of_memory() {
    tally!(Small);
    memory::<Small>(64..2048);
}

#[test]
fn large_values_stay_within_the_budget_of_memory() {
    tally!(Large);
    memory::<Large>(64 << 10..256 << 10);
}

#[test]
fn small_values_stay_within_the_budget_of_memory_over_tiers() {
    tally!(SmallOver);
    tiers::<SmallOver>(512..4096);
}

#[test]
fn large_values_stay_within_the_budget_of_memory_over_tiers() {
    tally!(LargeOver);
    tiers::<LargeOver>(64 << 10..256 << 10);
}

/// Inserts another value of its kind into the cache on drop, a thousand times in all.
#[derive(Clone)]
struct Restless {
    cache: Arc<OnceLock<Cache<u64, Restless>>>,
    left: Arc<AtomicU64>,
}

impl Drop for Restless {
    fn drop(&mut self) {
        let Ok(left) = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) else { return };
        if let Some(cache) = self.cache.get() {
            cache.insert(left, self.clone());
            let _counted = cache.stats();
        }
    }
}

#[test]
fn values_that_insert_on_drop_into_full_memory_finish() {
    let cache = larder::mcache::<u64, Restless>("restless").memory_bytes(100_000).weigher(|_, _| 30_000);
    let own = Arc::new(OnceLock::new());
    own.set(cache.build().unwrap()).ok().unwrap();
    let left = Arc::new(AtomicU64::new(1000));
    thread::scope(|scope| {
        for writer in 0..4 {
            let (own, left) = (Arc::clone(&own), Arc::clone(&left));
            scope.spawn(move || {
                for key in 0..200 {
                    let value = Restless { cache: Arc::clone(&own), left: Arc::clone(&left) };
                    own.get().unwrap().insert(writer * 200 + key, value);
                }
            });
        }
    });
    let usage = own.get().unwrap().stats().tier(TierKind::Memory).unwrap().usage;
    assert!(usage.bytes <= 100_000, "{usage:?}");
}

/// Panics on drop. Its weight must still leave the budget.
#[derive(Clone)]
struct Fragile {
    _breaks: Arc<Breaks>,
}

struct Breaks(bool);

impl Drop for Breaks {
    fn drop(&mut self) {
        assert!(!self.0, "breaks");
    }
}

#[test]
fn values_that_panic_on_drop_free_their_weight() {
    let cache = larder::mcache::<u64, Fragile>("fragile").capacity(4).build().unwrap();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for key in 0..100 {
        let insert = || cache.insert(key, Fragile { _breaks: Arc::new(Breaks(true)) });
        let _broke = std::panic::catch_unwind(std::panic::AssertUnwindSafe(insert));
    }
    for _ in 0..100 {
        let _broke = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.clear()));
    }
    std::panic::set_hook(quiet);
    cache.insert(1, Fragile { _breaks: Arc::new(Breaks(false)) });
    assert!(cache.get(&1).is_some(), "no room is left");
}

/// A weigher says that memory cannot hold the entry; disk can.
#[test]
#[cfg(feature = "disk")]
fn entry_too_heavy_for_memory_goes_to_the_next_tier() {
    let dir = tempfile::tempdir().unwrap();
    let builder = larder::ucache::<u32, String>("heavy").dir(dir.path()).memory_bytes(64 << 10);
    let cache = builder.weigher(|_, _| 1 << 20).build().unwrap();
    let placement = cache.try_insert(1, "a".to_owned()).unwrap();
    assert_eq!((placement.home, placement.copy_in_memory), (TierKind::Disk, false), "{placement}");
    assert_eq!(cache.get_with(2, || "b".to_owned()), "b");
    assert_eq!((cache.get(&1).as_deref(), cache.get(&2).as_deref()), (Some("a"), Some("b")));
    let alone = larder::mcache::<u32, String>("heavy alone").memory_bytes(64 << 10);
    let alone = alone.weigher(|_, _| 1 << 20).build().unwrap();
    assert_eq!(alone.try_insert(1, "a".to_owned()).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
#[cfg(feature = "disk")]
fn larger_memory_takes_larger_entries_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let builder = larder::ucache::<u32, String>("grown").dir(dir.path()).memory_bytes(64 << 10);
    let cache = builder.build().unwrap();
    let text = "x".repeat(20 << 10);
    assert_eq!(cache.try_insert(1, text.clone()).unwrap().home, TierKind::Disk, "a quarter is 16 KiB");
    cache.set_memory_bytes(64 << 20).unwrap();
    assert_eq!(cache.try_insert(1, text).unwrap().home, TierKind::Memory);
}

#[test]
#[cfg(feature = "disk")]
fn bound_of_a_cache_without_memory_cannot_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::bcache::<u32, u32>("bare").dir(dir.path()).memory_bytes(0).build().unwrap();
    assert_eq!(cache.set_capacity(10).unwrap_err().kind(), ErrorKind::Unsupported);
}
