//! The code that the attributes generate passes the strictest lints of clippy. The module denies them, and is
//! public, since some of them check only what other crates see.
#![deny(clippy::pedantic, clippy::nursery, missing_docs)]

use std::time::Duration;

/// Doubles a number.
#[larder::mcache(capacity = 10, ttl = "1h", policy = "lru")]
#[must_use]
pub fn doubled(n: u64) -> u64 {
    n * 2
}

/// The length of a text.
///
/// # Errors
/// For an empty text.
#[larder::mcache(tags = ["lengths", format!("of:{text}")])]
pub fn length(text: &str) -> Result<usize, String> {
    if text.is_empty() { Err("empty".to_owned()) } else { Ok(text.len()) }
}

/// The first letter of a text.
#[larder::mcache(skip_none, capacity = 0)]
#[must_use]
pub fn first(text: String, _log: &[u8]) -> Option<char> {
    text.into_bytes().first().map(|byte| char::from(*byte))
}

/// The squares of numbers.
#[larder::mcache(batch)]
#[must_use]
pub fn squares(numbers: &[u64]) -> Vec<u64> {
    numbers.iter().map(|n| n * n).collect()
}

/// The numbers below one.
#[larder::mcache]
#[must_use]
pub fn below(n: u8) -> impl Iterator<Item = u8> {
    0..n
}

/// Doubles a number, some time.
#[larder::mcache]
pub async fn later(n: u64) -> u64 {
    tokio::task::yield_now().await;
    n * 2
}

/// A source of reports.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Source {
    id: u64,
}

impl Source {
    /// The report of a day.
    #[larder::mcache(key = "(self.id, day)")]
    #[must_use]
    pub fn report(&self, day: u8) -> String {
        format!("{} of day {day}", self.id)
    }
}

#[tokio::test]
async fn strictly_linted_functions_are_cached() {
    assert_eq!((doubled(4), doubled::contains(4)), (8, true));
    assert_eq!((length("abc"), length::contains("abc")), (Ok(3), true));
    length::invalidate_tag("lengths").unwrap();
    assert!(!length::contains("abc"));
    assert_eq!(first("abc".to_owned(), &[]), Some('a'));
    assert!(!first::contains("abc".to_owned(), &[]), "a capacity of zero keeps nothing");
    assert_eq!((squares(&[2, 3]), squares::contains(&[2, 4])), (vec![4, 9], vec![true, false]));
    assert_eq!(below(3).sum::<u8>() + below(3).sum::<u8>(), 6);
    assert_eq!((later(4).await, later::contains(4).await), (8, true));
    let source = Source { id: 7 };
    assert_eq!((source.report(1), source.report_contains(1)), ("7 of day 1".to_owned(), true));
    doubled::set_ttl(Some(Duration::from_secs(1)));
    assert!(doubled::purge(4) && doubled::stats().cache.removals == 1);
    doubled::clear().unwrap();
}
