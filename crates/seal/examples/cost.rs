//! Measures what sealing costs: `cargo run --release -p larder-seal --example cost`.
//!
//! Puts and gets frames in a map, bare and sealed, and prints the difference in nanoseconds a byte and a call.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]
#![allow(clippy::expect_used, reason = "it ends by a panic")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_core::tier::Tier;
use larder_seal::{CacheKeys, Keys, SealingKey};
use larder_testkit::{HashMapTier, block_on, sample};

/// How long each call is measured.
const RUN: Duration = Duration::from_millis(500);
/// How long a part of that takes at least. The fastest part counts, which no other program interrupted.
const PART: Duration = Duration::from_micros(30);

fn main() {
    let keys = Keys::new(SealingKey::new([7; 32]));
    let bare: Arc<dyn Tier> = Arc::new(HashMapTier::new());
    let sealed = CacheKeys::new(&keys, "cost").seal(Arc::new(HashMapTier::new()), "map", &keys);
    println!(
        "{:>9} {:>14} {:>14} {:>12} {:>12}",
        "bytes", "put ns more", "get ns more", "put ns/byte", "get ns/byte"
    );
    for len in [100, 1 << 10, 16 << 10, 64 << 10, 1 << 20] {
        let [put, get] =
            [&bare, &sealed].map(|tier| times(tier, len)).into_iter().reduce(more).expect("two tiers");
        let of_byte = |nanos: f64| nanos / len as f64;
        println!("{len:>9} {put:>14.0} {get:>14.0} {:>12.3} {:>12.3}", of_byte(put), of_byte(get));
    }
}

fn more(bare: [f64; 2], sealed: [f64; 2]) -> [f64; 2] {
    [sealed[0] - bare[0], sealed[1] - bare[1]]
}

/// Nanoseconds of a put and of a get.
fn times(tier: &Arc<dyn Tier>, len: usize) -> [f64; 2] {
    let key = sample::key(1);
    let frame = sample::frame(&key, sample::payload(1, len));
    let put = fastest(|| block_on(tier.put(&key, &frame)).expect("a put"));
    let get = fastest(|| assert!(block_on(tier.get(&key)).expect("a get").is_some()));
    [put, get]
}

/// Nanoseconds of a call in the fastest part of a run.
fn fastest(mut call: impl FnMut()) -> f64 {
    let (begun, mut fastest) = (Instant::now(), f64::INFINITY);
    while begun.elapsed() < RUN {
        let (part, mut count) = (Instant::now(), 0_u32);
        while part.elapsed() < PART {
            call();
            count += 1;
        }
        fastest = fastest.min(part.elapsed().as_nanos() as f64 / f64::from(count));
    }
    fastest
}
