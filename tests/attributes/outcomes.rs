//! Results of cached functions: storage of `Result` and `Option`, and what concurrent callers get.

use std::io;
use std::sync::{Arc, Barrier};
use std::thread;

use larder::mcache;

use super::{Runs, empty, folder};

/// Spins, so that the other callers reach the point where they wait.
fn let_others_wait() {
    let until = std::time::Instant::now() + std::time::Duration::from_millis(30);
    while std::time::Instant::now() < until {
        thread::yield_now();
    }
}

fn at_once<T: Send>(callers: usize, call: impl Fn() -> T + Sync) -> Vec<T> {
    let start = Barrier::new(callers);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..callers)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    call()
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    })
}

#[test]
fn concurrent_first_calls_execute_once() {
    static RUNS: Runs = Runs::new();

    #[mcache]
    fn slow(n: u64) -> u64 {
        RUNS.count();
        let_others_wait();
        n * 2
    }

    assert_eq!(at_once(10, || slow(4)), [8; 10]);
    assert_eq!(RUNS.take(), 1);
}

#[test]
fn failure_executes_once_per_call_and_is_not_stored() {
    static RUNS: Runs = Runs::new();

    #[mcache]
    fn parse(text: &str) -> Result<i32, std::num::ParseIntError> {
        RUNS.count();
        text.parse()
    }

    for _ in 0..3 {
        assert!(parse("x").is_err());
        assert_eq!(RUNS.take(), 1);
    }
    assert!(!parse::contains("x"));
    assert_eq!((parse("7"), parse("7"), RUNS.take()), (Ok(7), Ok(7), 1));
    assert_eq!(parse::get("7"), Some(7));
}

#[test]
fn concurrent_callers_share_the_failure() {
    static RUNS: Runs = Runs::new();

    #[mcache]
    fn fails(n: u32) -> Result<u32, String> {
        RUNS.count();
        let_others_wait();
        Err(format!("no {n}"))
    }

    let outcomes = at_once(10, || fails(1));
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap_err() == "no 1"));
    assert!(RUNS.take() < 10, "some waited for another's failure");
}

#[test]
fn error_without_clone_is_shared_through_a_function() {
    static RUNS: Runs = Runs::new();

    fn shared(error: Arc<io::Error>) -> io::Error {
        io::Error::new(error.kind(), error)
    }

    #[mcache(share_err = "shared")]
    fn read(path: &str) -> io::Result<Vec<u8>> {
        RUNS.count();
        std::fs::read(path)
    }
    #[mcache(share_err = |error| Arc::try_unwrap(error).unwrap_or_else(|error| anyhow(&error)), exclude = |bytes| bytes.is_empty())]
    fn inline(path: &str) -> Result<Vec<u8>, io::Error> {
        RUNS.count();
        std::fs::read(path)
    }
    fn anyhow(error: &io::Error) -> io::Error {
        error.kind().into()
    }

    assert_eq!(read("/nowhere/at/all").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(inline("/nowhere/at/all").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(RUNS.take(), 2);
    let present = std::env::current_exe().unwrap();
    let present = present.to_str().unwrap();
    assert_eq!(read(present).unwrap(), inline(present).unwrap());
    assert_eq!(read(present).unwrap(), inline(present).unwrap());
    assert_eq!(RUNS.take(), 2);
    assert!(inline("/dev/null").unwrap().is_empty() && inline("/dev/null").unwrap().is_empty());
    assert_eq!(RUNS.take(), 2, "what is excluded is not stored");
}

#[test]
fn type_alias_of_result_is_handled_as_result() {
    static RUNS: Runs = Runs::new();
    type Answer = Result<u8, String>;

    #[mcache(result)]
    fn named(n: u8) -> Answer {
        RUNS.count();
        n.checked_add(1).ok_or_else(|| "too large".to_owned())
    }

    assert_eq!((named(1), named(1), RUNS.take()), (Ok(2), Ok(2), 1));
    assert!(named(255).is_err() && named(255).is_err());
    assert_eq!(RUNS.take(), 2);
}

#[test]
fn none_is_stored_unless_it_is_skipped() {
    static RUNS: Runs = Runs::new();

    #[mcache]
    fn kept(n: u8) -> Option<u8> {
        RUNS.count();
        n.checked_sub(1)
    }
    #[mcache(skip_none)]
    fn skipped(n: u8) -> Option<u8> {
        RUNS.count();
        n.checked_sub(1)
    }
    #[mcache(skip_none)]
    fn both(n: u8) -> Result<Option<u8>, String> {
        RUNS.count();
        if n == 9 { Err("nine".into()) } else { Ok(n.checked_sub(1)) }
    }

    assert_eq!((kept(0), kept(0), kept(1), RUNS.take()), (None, None, Some(0), 2));
    assert_eq!((kept::get(0), kept::get(5)), (Some(None), None));
    assert_eq!((skipped(0), skipped(0), RUNS.take()), (None, None, 2));
    assert_eq!((skipped(1), skipped(1), skipped::get(1), RUNS.take()), (Some(0), Some(0), Some(0), 1));
    assert_eq!((both(0), both(0), RUNS.take()), (Ok(None), Ok(None), 2));
    assert_eq!((both(1), both(1), RUNS.take()), (Ok(Some(0)), Ok(Some(0)), 1));
    assert!(both(9).is_err() && both(9).is_err());
    assert_eq!((both::get(1), RUNS.take()), (Some(0), 2));
}

#[test]
fn result_excluded_by_the_predicate_is_not_stored() {
    static RUNS: Runs = Runs::new();

    fn is_partial(text: &str) -> bool {
        text.ends_with('…')
    }

    #[mcache(exclude = "is_partial")]
    fn plain(text: &str) -> String {
        RUNS.count();
        text.to_owned()
    }
    #[mcache(exclude = is_partial, skip_none)]
    fn optional(text: &str) -> Option<String> {
        RUNS.count();
        Some(text.to_owned())
    }

    assert_eq!((plain("a…"), plain("a…"), RUNS.take()), ("a…".into(), "a…".into(), 2));
    assert_eq!((plain("a"), plain("a"), RUNS.take()), ("a".into(), "a".into(), 1));
    assert_eq!((optional("a…"), optional("a…"), RUNS.take()), (Some("a…".into()), Some("a…".into()), 2));
}

#[test]
fn panic_propagates_and_stores_nothing() {
    static RUNS: Runs = Runs::new();

    #[mcache]
    fn panics(n: u8) -> u8 {
        RUNS.count();
        assert!(n > 0, "none");
        n
    }

    for _ in 0..2 {
        std::panic::catch_unwind(|| panics(0)).unwrap_err();
    }
    assert_eq!((RUNS.take(), panics::contains(0)), (2, false));
    assert_eq!(panics(1), 1);
}

#[test]
fn function_without_a_usable_cache_runs_uncached() {
    static RUNS: Runs = Runs::new();
    let occupied = empty("unusable");
    std::fs::create_dir_all(occupied.parent().unwrap()).unwrap();
    std::fs::write(&occupied, "a file where a folder should be").unwrap();

    #[larder::bcache(dir = folder("unusable"))]
    fn unusable(n: u8) -> Result<u8, String> {
        RUNS.count();
        Ok(n)
    }

    assert_eq!((unusable(1), unusable(1), RUNS.take()), (Ok(1), Ok(1), 2));
    assert!(!unusable::purge(1) && !unusable::contains(1) && unusable::get(1).is_none());
    let why = unusable::cache().unwrap_err();
    assert_eq!(why.kind(), larder::ErrorKind::Unavailable);
    assert!(why.to_string().contains("unusable"), "{why} names the folder");
    assert_eq!(unusable::clear().unwrap_err().to_string(), why.to_string());
    assert!(unusable::flush().is_ok());
    assert_eq!(unusable::stats(), larder::Stats::default());
    std::fs::remove_file(occupied).unwrap();
}
