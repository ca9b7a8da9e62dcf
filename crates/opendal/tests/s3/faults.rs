//! A server that is slow, fails, throttles, breaks off or is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::{Cache, ErrorKind, Position, Tier, TierKind, ucache};
use larder_testkit::{block_on, sample};

use super::server::{Fault, Server};

fn put(tier: &dyn Tier, number: u64, seed: u64) -> larder::Result<()> {
    let key = sample::key(number);
    block_on(tier.put(&key, &sample::frame(&key, sample::payload(seed, 1000))))
}

fn is(tier: &dyn Tier, number: u64, seed: u64) -> bool {
    let key = sample::key(number);
    let frame = sample::frame(&key, sample::payload(seed, 1000)).to_vec();
    block_on(tier.get(&key)).unwrap().is_some_and(|found| found == frame)
}

#[test]
fn failures_are_errors_and_never_absence() {
    let server = Server::start();
    let tier = server.tier("faults");
    put(&tier, 1, 1).unwrap();
    for (fault, kind) in [
        (Fault::Status500, ErrorKind::Unavailable),
        (Fault::Throttled, ErrorKind::Busy),
        (Fault::Gone, ErrorKind::Unavailable),
        (Fault::Unanswered, ErrorKind::Unavailable),
    ] {
        server.fail(fault);
        let error = block_on(tier.get(&sample::key(1))).unwrap_err();
        assert_eq!((error.kind(), error.tier()), (kind, Some(tier.kind())), "{fault:?}: {error}");
        assert!(block_on(tier.contains(&sample::key(1))).is_err(), "{fault:?}");
        assert!(put(&tier, 2, 2).is_err(), "{fault:?}");
        assert!(block_on(tier.remove(&sample::key(3))).is_err(), "{fault:?}");
        assert!(block_on(tier.clear()).is_err(), "{fault:?}");
        assert!(block_on(tier.scan(&mut |_| {})).is_err(), "{fault:?}");
        server.heal();
    }
    server.fail(Fault::Half);
    assert!(block_on(tier.get(&sample::key(1))).is_err(), "half of an object is none");
    server.heal();
    put(&tier, 1, 7).unwrap();
    assert!(is(&tier, 1, 7));
}

#[test]
fn slow_server_delays_and_changes_nothing() {
    let server = Server::start();
    let tier = server.tier("slow");
    server.fail(Fault::Slow(Duration::from_millis(200)));
    let begun = Instant::now();
    put(&tier, 1, 1).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert!(is(&tier, 1, 1));
}

/// A caller gives a write up; the server carries it out later than a write that began after it.
#[test]
fn write_that_was_given_up_does_not_overtake_a_later_one() {
    let server = Server::start();
    let tier = Arc::new(server.tier("order"));
    put(&*tier, 1, 1).unwrap();
    server.fail(Fault::Slow(Duration::from_millis(500)));
    let key = sample::key(1);
    let frame = sample::frame(&key, sample::payload(2, 1000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let given_up = runtime
        .block_on(async { tokio::time::timeout(Duration::from_millis(100), tier.put(&key, &frame)).await });
    assert!(given_up.is_err());
    std::thread::park_timeout(Duration::from_millis(50));
    server.heal();
    put(&*tier, 1, 3).unwrap();
    assert!(is(&*tier, 1, 3));
    std::thread::park_timeout(Duration::from_secs(1));
    assert!(is(&*tier, 1, 3), "the first write came later");
}

#[test]
fn unanswered_write_is_followed_by_later_ones_after_it_settled() {
    let server = Server::start();
    let tier = server.tier("unanswered");
    server.fail(Fault::Unanswered);
    assert!(put(&tier, 1, 1).is_err());
    server.heal();
    let begun = Instant::now();
    put(&tier, 1, 2).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert!(is(&tier, 1, 2));
}

#[test]
fn objects_are_counted_when_the_tier_is_opened_and_as_some_if_they_cannot_be() {
    let server = Server::start();
    let tier = server.tier("count");
    (0..30).for_each(|number| put(&tier, number, 1).unwrap());
    let before = tier.usage();
    assert_eq!(before.entries, 30);
    block_on(tier.close()).unwrap();
    assert_eq!(server.tier("count").usage(), before);
    assert_eq!(server.tier("cou").usage().entries, 0, "a prefix ends at a slash");
    server.fail(Fault::Gone);
    assert_eq!(server.tier("count").usage().entries, 1);
    assert!(server.requests() > 30);
    assert!(server.folder().join("bucket").join("count").is_dir());
}

fn cache(server: &Server, dir: &tempfile::TempDir) -> Cache<u64, String> {
    let tier = server.tier("cache");
    ucache("objects").dir(dir.path()).memory_bytes(0).tier(Position::First, tier).build().unwrap()
}

#[test]
fn cache_serves_from_s3_and_goes_on_without_it() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let s3 = TierKind::own("s3").unwrap();
    let long = |number: u64| number.to_string().repeat(20_000);
    let first = cache(&server, &dir);
    assert_eq!(first.try_insert(1, long(1)).unwrap().home, s3);
    assert_eq!(first.get(&1), Some(long(1)));
    first.close().unwrap();
    let again = cache(&server, &dir);
    assert_eq!(again.get(&1), Some(long(1)), "it outlives the process");
    server.fail(Fault::Status500);
    assert_eq!(again.get(&1), None);
    assert!(again.try_get(&1).is_err(), "a failure is no absence");
    assert_ne!(again.try_insert(2, long(2)).unwrap().home, s3, "another tier takes it");
    assert_eq!(again.get(&2), Some(long(2)));
    server.heal();
    again.remove(&1);
    again.close().unwrap();
}

#[test]
fn cache_by_url_keeps_its_entries_under_its_own_name_and_hides_secrets() {
    let server = Server::start();
    let url = format!("memory: {}&ttl=1h", server.url("urls"));
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let builder = ucache::<u64, String>(name).dir(dir.path()).url(url.clone());
        for row in builder.explain_config().unwrap() {
            assert!(!row.to_string().contains("secret-of-the-tests"), "{row}");
        }
        builder.persistence(larder::Persistence::LongTerm).build().unwrap()
    };
    let caches = ["one", "two/three"].map(open);
    let s3 = TierKind::own("s3").unwrap();
    assert_eq!(caches[0].try_insert(1, "first".to_owned()).unwrap().home, s3);
    caches[1].insert(1, "second".to_owned());
    assert!(caches[0].inspect(&1).unwrap().unwrap().left.unwrap() <= Duration::from_secs(3600));
    caches.into_iter().for_each(|cache| cache.close().unwrap());
    let caches = ["one", "two/three"].map(open);
    assert_eq!(caches[0].get(&1).as_deref(), Some("first"));
    caches[1].clear().unwrap();
    assert_eq!(caches[0].get(&1).as_deref(), Some("first"));
    assert_eq!(caches[1].get(&1), None);
    assert!(server.folder().join("bucket/urls/one").is_dir());
    let wrong = format!("memory: {}&colour=red", server.url("urls"));
    let error = ucache::<u64, String>("wrong").dir(dir.path()).url(wrong).build().unwrap_err().to_string();
    assert!(error.contains("colour") && !error.contains("secret-of-the-tests"), "{error}");
    caches.into_iter().for_each(|cache| cache.close().unwrap());
}
