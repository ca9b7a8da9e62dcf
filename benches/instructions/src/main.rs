//! Operations for callgrind to count: `larder-instructions CASE OPERATIONS`.
//!
//! The cost of an operation is the difference of the instructions of two runs, divided by the difference of
//! their operations; `benches/instructions/count` makes both runs. Without arguments it prints the names of
//! the cases.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a program for people")]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use larder::EntryOptions;
use larder_core::Bytes;
use larder_core::clock::Time;
use larder_core::frame::{self, CodecId, Compression, Frame, Header};
use larder_core::key::EncodedKey;
use larder_core::place::Kind;
use quick_cache::UnitWeighter;

const ENTRIES: u64 = 1000;
const LARGE: u64 = 100_000;
const HOUR: Duration = Duration::from_secs(3600);

type Value = Arc<[u64; 8]>;
type Quick = quick_cache::sync::Cache<u64, Value, UnitWeighter, RandomState>;

/// The name of a case, and what makes this many of its operations.
type Case = (&'static str, fn(u64));

const CASES: [Case; 23] = [
    ("moka", moka),
    ("quick", |count| quick_hits(count)),
    ("plain", |count| hits(&cache(10 * ENTRIES), &EntryOptions::new(), count)),
    // Has some samples in it: 1000 a second of a program that callgrind makes slow.
    ("observed", |count| hits(&built(larder::mcache("observed").observe(true)), &EntryOptions::new(), count)),
    ("observed_insert", |count| {
        let (cache, value) = (built(larder::mcache("observed").capacity(ENTRIES).observe(true)), value());
        (0..count).for_each(|key| cache.insert(scattered(key), Arc::clone(&value)));
    }),
    ("ttl", |count| hits(&built(larder::mcache("ttl").ttl(HOUR)), &EntryOptions::new(), count)),
    ("all", |count| {
        let options = EntryOptions::new().tag("a").tag("b");
        hits(&built(larder::mcache("all").ttl(HOUR).stale(HOUR)), &options, count);
    }),
    ("insert", |count| {
        let (cache, value) = (cache(ENTRIES), value());
        (0..count).for_each(|key| cache.insert(scattered(key), Arc::clone(&value)));
    }),
    // Twice as many keys as fit, in no order: for a profile by time.
    ("insert_large", |count| {
        let (cache, value) = (cache(50_000), value());
        (0..count).for_each(|key| cache.insert(scattered(key) % 100_000, Arc::clone(&value)));
    }),
    // 100,000 keys in no order, as in `benches/compare`: for a profile by time.
    ("plain_large", |count| large_hits(&cache(200_000), count)),
    ("all_large", |count| {
        large_hits(&built(larder::mcache("l").capacity(200_000).ttl(HOUR).stale(HOUR)), count)
    }),
    ("quick_large", |count| {
        let cache = quick(200_000);
        (0..LARGE).for_each(|key| cache.insert(key, value()));
        (0..count).for_each(|hit| drop(black_box(cache.get(&large_key(hit)))));
    }),
    ("quick_insert", |count| {
        let (cache, value) = (quick(ENTRIES), value());
        (0..count).for_each(|key| cache.insert(scattered(key), Arc::clone(&value)));
    }),
    ("miss", |count| {
        let (cache, value) = (cache(ENTRIES), value());
        (0..count).for_each(|key| drop(black_box(cache.get_with(scattered(key), || Arc::clone(&value)))));
    }),
    ("quick_miss", |count| {
        let (cache, value) = (quick(ENTRIES), value());
        let load = || Ok::<_, ()>(Arc::clone(&value));
        (0..count).for_each(|key| drop(black_box(cache.get_or_insert_with(&scattered(key), load))));
    }),
    ("absent", |count| {
        let cache = cache(ENTRIES);
        (0..count).for_each(|key| drop(black_box(cache.get(&scattered(key)))));
    }),
    // Half of the operations are inserts, which the case "insert" counts alone.
    ("remove", |count| {
        let (cache, value) = (cache(ENTRIES), value());
        (0..count).for_each(|key| {
            cache.insert(key % 100, Arc::clone(&value));
            black_box(cache.remove(&(key % 100)));
        });
    }),
    ("quick_remove", |count| {
        let (cache, value) = (quick(ENTRIES), value());
        (0..count).for_each(|key| {
            cache.insert(key % 100, Arc::clone(&value));
            black_box(cache.remove(&(key % 100)));
        });
    }),
    ("remove_absent", |count| {
        let cache = cache(ENTRIES);
        (0..count).for_each(|key| {
            black_box(cache.remove(&scattered(key)));
        });
    }),
    ("frame_encode", |count| {
        let (header, key, payload) = (header(), EncodedKey::new([7; 16]), Bytes::from(vec![7; 100]));
        (0..count).for_each(|_| drop(black_box(Frame::new(&header, &key, &[], payload.clone()))));
    }),
    ("frame_decode", |count| {
        let (header, key, payload) = (header(), EncodedKey::new([7; 16]), Bytes::from(vec![7; 100]));
        let bytes = Bytes::from(Frame::new(&header, &key, &[], payload).to_vec());
        (0..count).for_each(|_| {
            black_box(frame::verify(&bytes, &key).is_ok());
        });
    }),
    ("async_miss", |count| {
        block_on(async {
            let (cache, value) = (cache(ENTRIES).to_async(), value());
            for key in 0..count {
                black_box(cache.get_with(scattered(key), async { Arc::clone(&value) }).await);
            }
        });
    }),
    ("moka_async_miss", |count| {
        block_on(async {
            let builder = moka::future::Cache::builder().max_capacity(ENTRIES);
            let (cache, value) = (builder.build_with_hasher(RandomState::default()), value());
            for key in 0..count {
                black_box(cache.get_with(scattered(key), async { Arc::clone(&value) }).await);
            }
        });
    }),
];

fn header() -> Header {
    Header {
        codec: CodecId::Raw,
        compression: Compression::None,
        kind: Kind::Bytes,
        schema: 0,
        shape: 0,
        created: Time::from_millis(1),
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 0,
        value_len: 100,
        load_cost: None,
    }
}

fn value() -> Value {
    Arc::new([7; 8])
}

/// One of [`LARGE`] keys, in no order.
fn large_key(hit: u64) -> u64 {
    (scattered(hit) >> 20) % LARGE
}

/// A key that was not used before.
fn scattered(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn block_on(work: impl Future<Output = ()>) {
    match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => eprintln!("{error}"),
    }
}

fn built(builder: larder::MemoryBuilder<u64, Value>) -> larder::Cache<u64, Value> {
    builder.build().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1)
    })
}

fn cache(capacity: u64) -> larder::Cache<u64, Value> {
    built(larder::mcache("instructions").capacity(capacity))
}

fn quick(capacity: u64) -> Quick {
    let lifecycle = quick_cache::sync::DefaultLifecycle::default();
    Quick::with(capacity as usize, capacity, UnitWeighter, RandomState::default(), lifecycle)
}

fn moka(count: u64) {
    let builder = moka::sync::Cache::builder().max_capacity(10 * ENTRIES);
    let cache = builder.build_with_hasher(RandomState::default());
    (0..ENTRIES).for_each(|key| cache.insert(key, value()));
    (0..count).for_each(|hit| drop(black_box(cache.get(&(hit % ENTRIES)))));
}

fn quick_hits(count: u64) {
    let cache = quick(10 * ENTRIES);
    (0..ENTRIES).for_each(|key| cache.insert(key, value()));
    (0..count).for_each(|hit| drop(black_box(cache.get(&(hit % ENTRIES)))));
}

fn large_hits(cache: &larder::Cache<u64, Value>, count: u64) {
    (0..LARGE).for_each(|key| cache.insert(key, value()));
    (0..count).for_each(|hit| drop(black_box(cache.get(&large_key(hit)))));
}

fn hits(cache: &larder::Cache<u64, Value>, options: &EntryOptions, count: u64) {
    (0..ENTRIES).for_each(|key| cache.insert_with(key, value(), options.clone()));
    (0..count).for_each(|hit| drop(black_box(cache.get(&(hit % ENTRIES)))));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (case, count) = match arguments.as_slice() {
        [] => {
            CASES.iter().for_each(|(name, _)| println!("{name}"));
            return ExitCode::SUCCESS;
        }
        [case, count] => (case, count),
        _ => {
            eprintln!("larder-instructions CASE OPERATIONS");
            return ExitCode::FAILURE;
        }
    };
    let Ok(count) = count.parse() else {
        eprintln!("OPERATIONS is {count:?}, not a number");
        return ExitCode::FAILURE;
    };
    let Some((_, run)) = CASES.iter().find(|(name, _)| name == case) else {
        eprintln!("CASE is {case:?}; without arguments the names are printed");
        return ExitCode::FAILURE;
    };
    run(count);
    ExitCode::SUCCESS
}
