//! A child process that is forked from a process with caches.
//!
//! The fault: the child waited for ever. The cause: it waited for threads, locks and sockets that
//! only its parent has.
#![cfg(unix)]

use std::process::{Command, exit};
use std::thread;
use std::time::{Duration, Instant};

use fork::Fork;
use larder::{Cache, ErrorKind, bcache, fcache, mcache, ucache};

/// Runs `child` in a fork of this process, and returns its result. Panics if it hangs.
fn in_child(child: impl FnOnce() -> bool) -> bool {
    let pid = match fork::fork().unwrap() {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            // The child exits here: the end of the test belongs to the parent.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            exit(if outcome.unwrap_or(false) { 0 } else { 1 });
        }
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = fork::waitpid_nohang(pid).unwrap() {
            return status == 0;
        }
        if Instant::now() >= deadline {
            Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
            fork::waitpid(pid).unwrap();
            panic!("the child hangs");
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn is_refused<T>(result: larder::Result<T>) -> bool {
    let refused = result.err();
    refused.is_some_and(|error| error.kind() == ErrorKind::Closed && error.to_string().contains("forked"))
}

/// Calls a cache with tiers in the child. Returns whether every result is as expected.
fn use_it(cache: &Cache<u64, Vec<u8>>) -> bool {
    let checks = [
        cache.get(&2).is_none(),
        cache.get_with(3, || vec![3]) == [3],
        cache.load(4, |_| Ok::<_, String>(vec![4])).ok() == Some(vec![4]),
        is_refused(cache.try_insert(5, vec![5])),
        is_refused(cache.take(&1)),
        is_refused(cache.flush()),
        is_refused(cache.clear()),
        is_refused(cache.invalidate_all()),
        is_refused(cache.close()),
        cache.get_many(&[1, 2]).len() == 2,
    ];
    println!("{checks:?}");
    checks.into_iter().all(|check| check)
}

#[test]
fn forked_child_is_refused_by_tiers_and_does_not_hang() {
    let dir = tempfile::tempdir().unwrap();
    let caches = [
        bcache("disk").dir(dir.path()).memory_bytes(0).build().unwrap(),
        fcache("files").dir(dir.path()).memory_bytes(0).build().unwrap(),
        ucache("every").dir(dir.path()).build().unwrap(),
    ];
    caches.iter().for_each(|cache| cache.insert(2, vec![2; 10]));
    for cache in &caches {
        assert!(cache.remove(&2));
        cache.insert(1, vec![1; 10]);
        assert!(in_child(|| use_it(cache)), "{}", cache.name());
        let handle = cache.clone();
        assert!(in_child(move || {
            drop(handle);
            true
        }));
        assert_eq!(cache.get(&1), Some(vec![1; 10]), "the parent goes on");
    }
    let paths: Vec<_> = caches.iter().map(|cache| cache.dir().unwrap().to_path_buf()).collect();
    assert!(in_child(move || {
        // The child drops its last handles. That deletes and closes nothing of the parent.
        caches.into_iter().for_each(drop);
        true
    }));
    assert!(paths.iter().all(|path| path.exists()));
}

#[test]
fn forked_child_can_use_a_memory_cache() {
    let cache = mcache::<u64, u64>("memory").build().unwrap();
    cache.insert(1, 1);
    assert_eq!(cache.load(2, |_| Ok::<_, String>(2)).ok(), Some(2));
    assert!(in_child(|| {
        cache.insert(3, 3);
        cache.get(&1) == Some(1)
            && cache.get(&3) == Some(3)
            && cache.get_with(4, || 4) == 4
            && cache.load(5, |_| Ok::<_, String>(5)).ok() == Some(5)
            && cache.close().is_ok()
    }));
    assert_eq!(cache.get(&3), None, "the child has a copy");
}
