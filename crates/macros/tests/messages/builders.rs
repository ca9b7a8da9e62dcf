//! Caches of types that cannot be in them, and calls that do not fit.

use larder::{AsyncCache, Cache};

#[derive(Clone)]
struct Plain;

struct Unclonable;

/// As other crates build a cache.
fn constructor() {
    let _cache: Cache<u64, u64> = Cache::new(100);
    let _tasks: AsyncCache<u64, u64> = AsyncCache::new(100);
}

/// Bounds of keys and values.
fn types() {
    let _key = larder::mcache::<f64, u64>("key");
    let _value = larder::mcache::<u64, Unclonable>("value");
    let _encoded_key = larder::fcache::<Plain, u64>("key");
    let _encoded_value = larder::fcache::<u64, Plain>("value");
}

/// A tuple of borrowed parts is no form of the key.
fn look_up(cache: &Cache<(String, String), u64>) {
    let _value = cache.get(&("a", "b"));
}

/// Only integers count.
fn count(cache: &Cache<u64, f64>) {
    let _sum = cache.increment(1, 1.0, 0.0);
}

/// Only bytes are streamed.
fn stream(cache: &Cache<u64, String>) {
    let _reader = cache.open(&1);
}

/// The loader answers with another type.
fn load(cache: &Cache<u64, String>) {
    let _loaded = cache.load(1, |_| Ok::<&str, ()>("text"));
}

/// A closure is not a selector.
fn select() {
    let _builder = larder::ucache::<u64, u64>("selected").selector(|_, _| ());
}

fn main() {}
