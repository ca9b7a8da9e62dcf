//! Batches of keys and atomic operations, through the public API.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder::{Cache, mcache};

use crate::director::{ended, orders, task, thread, turn};

fn numbers() -> Cache<u64, u64> {
    mcache("numbers").capacity(64).build().unwrap()
}

fn tenfold(keys: Vec<u64>) -> Vec<(u64, u64)> {
    keys.into_iter().map(|key| (key, 10 * key)).collect()
}

/// Two overlapping batches with opposite key order, and one single load.
#[test]
fn overlapping_batches_load_each_key_once() {
    orders(|| {
        let (cache, loaded) = (numbers(), Arc::new(AtomicUsize::new(0)));
        let load = |keys: Vec<u64>, loaded: &AtomicUsize| {
            loaded.fetch_add(keys.len(), Ordering::Relaxed);
            tenfold(keys)
        };
        let (in_task, counted) = (cache.to_async(), Arc::clone(&loaded));
        let in_task = task(async move {
            let loader = |keys| {
                let loaded = load(keys, &counted);
                async move {
                    turn().await;
                    loaded
                }
            };
            in_task.get_many_with([2, 1], loader).await
        });
        let (single, counted) = (cache.clone(), Arc::clone(&loaded));
        let single = thread(move || {
            single.get_with(2, || {
                counted.fetch_add(1, Ordering::Relaxed);
                20
            })
        });
        let values = cache.get_many_with([1, 2, 3], |keys| load(keys, &loaded));
        assert_eq!(values, [Some(10), Some(20), Some(30)]);
        assert_eq!(ended(in_task), [Some(20), Some(10)]);
        assert_eq!(single.join().unwrap(), 20);
        assert_eq!(loaded.load(Ordering::Relaxed), 3);
    });
}

/// The loader of each batch asks for a key that the other batch loads.
#[test]
fn batches_whose_loaders_load_each_others_keys_finish() {
    orders(|| {
        let cache = numbers();
        let ask = |cache: &Cache<u64, u64>, keys: [u64; 2], other: u64| {
            cache.get_many_with(keys, |keys| {
                cache.get_with(other, || 10 * other);
                tenfold(keys)
            })
        };
        let other = cache.clone();
        let other = thread(move || ask(&other, [3, 4], 1));
        assert_eq!(ask(&cache, [1, 2], 4), [Some(10), Some(20)]);
        assert_eq!(other.join().unwrap(), [Some(30), Some(40)]);
    });
}

#[test]
fn atomic_operations_are_atomic() {
    orders(|| {
        let cache = numbers();
        let adds = [(); 2].map(|()| cache.to_async()).map(|cache| {
            task(async move {
                cache.increment(1, 1, 0).await.unwrap();
                cache.insert_if_absent(2, 1).await.unwrap()
            })
        });
        let takes = cache.clone();
        let takes = thread(move || takes.take(&2).unwrap());
        cache.increment(1, 1, 0).unwrap();
        let taken_here = cache.take(&2).unwrap();
        let put = adds.into_iter().map(ended).filter(|put| *put).count();
        let taken =
            [taken_here, takes.join().unwrap(), cache.take(&2).unwrap()].into_iter().flatten().count();
        assert_eq!(cache.get(&1), Some(3));
        assert_eq!(put, taken, "what was put is taken once");
    });
}

/// An invalidation during a load also applies to the loaded value.
#[test]
fn invalidation_applies_to_a_running_load() {
    orders(|| {
        let cache = numbers();
        let (in_task, begun) = (cache.to_async(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&begun);
        let in_task = task(async move {
            in_task
                .get_with(1, async {
                    counted.store(1, Ordering::Relaxed);
                    turn().await;
                    10
                })
                .await
        });
        let other = cache.clone();
        let other = thread(move || other.get_with(1, || 11));
        let was_begun = begun.load(Ordering::Relaxed);
        cache.invalidate_all().unwrap();
        let later = cache.get_with(1, || 12);
        ended(in_task);
        other.join().unwrap();
        if was_begun == 1 {
            assert_ne!(later, 10, "it was loaded before it was invalidated");
        }
    });
}
