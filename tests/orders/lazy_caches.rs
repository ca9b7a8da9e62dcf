//! The statics of attributes: a cache is built at its first use, exactly once under concurrent
//! calls.

use std::sync::atomic::{AtomicUsize, Ordering};

use larder::__private::{Handle, LazyCache, Owner, open, tasks};
use larder::{Cache, Result, mcache};

use crate::director::{ended, orders, task, thread};

static BUILT: AtomicUsize = AtomicUsize::new(0);

fn build(name: String) -> Result<Cache<u64, u64>> {
    BUILT.fetch_add(1, Ordering::Relaxed);
    mcache(name).capacity(8).build()
}

fn owner<T: ?Sized>() -> Owner {
    Owner::of::<T>(None, "")
}

fn address(handle: Option<&'static Handle<u64, u64>>) -> usize {
    std::ptr::from_ref(handle.unwrap()).addr()
}

/// Two types in one generic `impl` block have a cache each.
#[test]
fn static_is_opened_once_per_owner() {
    orders(|| {
        BUILT.store(0, Ordering::Relaxed);
        // As in a static: it is never dropped. Each order gets a new one.
        let lazy: &'static LazyCache = Box::leak(Box::new(LazyCache::new()));
        let in_threads = [false, true].map(|other| {
            let owner = if other { owner::<u8>() } else { owner::<u16>() };
            thread(move || address(open(lazy, owner, build)))
        });
        let in_task = task(async move { address(tasks::open(lazy, owner::<u8>(), build).await) });
        let here = address(open(lazy, owner::<u16>(), build));
        let [sixteen, eight] = in_threads.map(|thread| thread.join().unwrap());
        assert_eq!(here, sixteen);
        assert_eq!(ended(in_task), eight);
        assert_ne!(eight, sixteen);
        assert_eq!(BUILT.load(Ordering::Relaxed), 2);
    });
}
