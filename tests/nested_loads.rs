//! Nested loads: the memory and stack that each level takes.

use std::pin::Pin;

use larder::{AsyncCache, Cache};

/// Enough stack for some hundred levels in a debug build. A release build takes a fraction.
const STACK: usize = 64 << 20;

fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

fn cache() -> Cache<u64, u64> {
    larder::mcache("nested").capacity(10_000).build().unwrap()
}

/// Each level loads with `load`, with `get_with`, or with a batch.
type Verb = fn(&Cache<u64, u64>, u64) -> u64;
const VERBS: [Verb; 3] = [by_load, by_get_with, by_batch];

fn by_load(cache: &Cache<u64, u64>, depth: u64) -> u64 {
    let inner = cache.clone();
    let loader = move |_| Ok::<_, ()>(if depth == 0 { 0 } else { by_load(&inner, depth - 1) + 1 });
    cache.load(depth, loader).unwrap()
}

fn by_get_with(cache: &Cache<u64, u64>, depth: u64) -> u64 {
    cache.get_with(depth, || if depth == 0 { 0 } else { by_get_with(cache, depth - 1) + 1 })
}

fn by_batch(cache: &Cache<u64, u64>, depth: u64) -> u64 {
    let values = cache.get_many_with([depth, depth + 100_000], |keys: Vec<u64>| {
        let value = if depth == 0 { 0 } else { by_batch(cache, depth - 1) + 1 };
        keys.into_iter().map(|key| (key, value)).collect::<Vec<_>>()
    });
    values[0].unwrap()
}

fn by_tasks(cache: AsyncCache<u64, u64>, depth: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        let inner = cache.clone();
        let loader = move |_| async move {
            Ok::<_, ()>(if depth == 0 { 0 } else { by_tasks(inner, depth - 1).await + 1 })
        };
        cache.load(depth, loader).await.unwrap()
    })
}

/// The fault: 26 nested levels took 2 GiB. The cause: a load on the thread of its caller noted the
/// surrounding loaders twice, so each level doubled the memory.
#[test]
fn nested_loads_take_memory_linear_in_their_depth() {
    for verb in VERBS {
        let bytes = |depth| {
            with_stack(|| {
                let cache = cache();
                let measured = allocation_counter::measure(|| assert_eq!(verb(&cache, depth), depth));
                measured.bytes_max
            })
        };
        let (shallow, deep) = (bytes(100), bytes(300));
        assert!(deep < 5 * shallow, "{shallow} B at 100 levels, {deep} B at 300");
    }
}

#[test]
fn deeply_nested_loads_in_tasks_finish() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    assert_eq!(runtime.block_on(by_tasks(cache().to_async(), 500)), 500);
}

/// `docs/loading.md` documents the stack per level.
#[test]
fn nested_load_level_fits_in_the_documented_stack() {
    let depth = 100;
    for verb in VERBS {
        // A stack overflow ends the process. This size is the documented one for a debug build.
        let work = move || assert_eq!(verb(&cache(), depth), depth);
        let stack = (1 << 20) + usize::try_from(depth).unwrap() * (128 << 10);
        std::thread::Builder::new().stack_size(stack).spawn(work).unwrap().join().unwrap();
    }
}
