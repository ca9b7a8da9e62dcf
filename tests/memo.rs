//! `memoize`, on threads and in tasks.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use larder::{AsyncCache, Cache};

fn both() -> (Cache<String, usize>, AsyncCache<String, usize>) {
    let cache = larder::mcache("memo").build().unwrap();
    (cache.clone(), cache.to_async())
}

#[test]
fn memo_calls_its_function_once_per_key() {
    let runs = AtomicU32::new(0);
    let lengths = both().0.memoize(|word| {
        runs.fetch_add(1, SeqCst);
        word.len()
    });
    assert_eq!((lengths.call("abc"), lengths.call(&"abc".to_owned()), lengths.call("")), (3, 3, 0));
    assert_eq!(runs.load(SeqCst), 2);
    assert!(lengths.contains("abc") && !lengths.contains("ab"));
    assert_eq!((lengths.uncached("abc"), runs.load(SeqCst)), (3, 3));
    assert!(lengths.purge("abc") && !lengths.purge("abc"));
    assert_eq!((lengths.call("abc"), runs.load(SeqCst)), (3, 4));
    lengths.clear().unwrap();
    assert_eq!((lengths.cache().len(), lengths.stats().cache.loads), (0, 3));
}

#[test]
fn call_many_calls_the_function_once_per_missing_key() {
    let runs = AtomicU32::new(0);
    let lengths = both().0.memoize(|word| {
        runs.fetch_add(1, SeqCst);
        word.len()
    });
    lengths.call("ab");
    let keys = ["a", "ab", "a", "abc"].map(str::to_owned);
    assert_eq!(lengths.call_many(keys), [1, 2, 1, 3]);
    assert_eq!(runs.load(SeqCst), 3);
}

#[test]
fn memo_uses_the_ttl_of_the_cache() {
    let clock = larder_testkit::ManualClock::default();
    let cache = larder::mcache::<u8, u8>("memo").clock(clock.clone()).build().unwrap();
    let (memo, tasks) = (cache.memoize(|n| n + 1), cache.to_async().memoize(|n| async move { n + 1 }));
    let second = std::time::Duration::from_secs(1);
    memo.set_ttl(Some(second));
    memo.call(&1);
    tasks.set_ttl(None);
    larder_testkit::block_on(tasks.call(&2));
    clock.advance(second);
    assert!(!memo.contains(&1) && memo.contains(&2));
    assert_eq!(tasks.stats(), memo.stats());
}

#[test]
fn concurrent_calls_on_threads_share_one_call() {
    let runs = AtomicU32::new(0);
    let start = Barrier::new(10);
    let slow = both().0.memoize(|word| {
        runs.fetch_add(1, SeqCst);
        (0..100).for_each(|_| thread::yield_now());
        word.len()
    });
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(slow.call("abc"), 3);
            });
        }
    });
    assert_eq!(runs.load(SeqCst), 1);
}

#[test]
fn recursive_memo_computes_each_key_once() {
    fn step(cache: &Cache<u64, u64>, n: u64) -> u64 {
        if n < 2 {
            n
        } else {
            cache.memoize(|n| step(cache, *n)).call(&(n - 1))
                + cache.memoize(|n| step(cache, *n)).call(&(n - 2))
        }
    }
    let cache = larder::mcache("fibonacci").build().unwrap();
    assert_eq!(cache.memoize(|n| step(&cache, *n)).call(&60), 1_548_008_755_920);
    assert_eq!(cache.stats().cache.loads, 61);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memo_in_tasks_shares_one_call_per_key() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let lengths = both().1.memoize(async |word: String| {
        RUNS.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        word.len()
    });
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let lengths = lengths.clone();
            tokio::spawn(async move { lengths.call("abc").await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 3);
    }
    assert_eq!((lengths.call(&"abc".to_owned()).await, RUNS.load(SeqCst)), (3, 1));
    assert_eq!((lengths.uncached("ab").await, RUNS.load(SeqCst)), (2, 2));
    assert!(lengths.contains("abc").await && lengths.purge("abc").await && !lengths.contains("abc").await);
    lengths.clear().await.unwrap();
    assert_eq!((lengths.cache().len(), lengths.stats().cache.loads), (0, 1));
}

#[tokio::test]
async fn call_many_in_tasks_calls_the_function_once_per_missing_key() {
    let runs = AtomicU32::new(0);
    let lengths = both().1.memoize(async |word: String| {
        runs.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        word.len()
    });
    lengths.call("ab").await;
    let keys = ["a", "ab", "a", "abc"].map(str::to_owned);
    assert_eq!(lengths.call_many(keys).await, [1, 2, 1, 3]);
    assert_eq!(runs.load(SeqCst), 3);
}

#[tokio::test]
async fn memoize_many_is_called_once_for_the_missing_keys() {
    let asked = std::sync::Mutex::new(Vec::new());
    let (cache, tasks) = both();
    let answer = |words: Vec<String>| {
        asked.lock().unwrap().push(words.clone());
        let known = words.into_iter().filter(|word| !word.is_empty());
        known.map(|word| (word.clone(), word.len())).collect::<Vec<_>>()
    };
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let lengths = cache.memoize_many(answer);
    assert_eq!(lengths.call_many(keys(&["a", "ab", "", "a"])), [Some(1), Some(2), None, Some(1)]);
    assert_eq!(lengths.call_many(keys(&["ab"])), [Some(2)]);
    let in_tasks = tasks.memoize_many(async |words: Vec<String>| answer(words));
    assert_eq!(in_tasks.call_many(keys(&["abc", "ab"])).await, [Some(3), Some(2)]);
    assert_eq!(in_tasks.uncached(keys(&["ab"])).await, [("ab".to_owned(), 2)]);
    assert!(in_tasks.contains("abc").await && lengths.purge("abc") && !lengths.contains("abc"));
    let asked = asked.into_inner().unwrap();
    assert_eq!(asked, [keys(&["a", "ab", ""]), keys(&["abc"]), keys(&["ab"])]);
}
