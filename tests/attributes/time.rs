//! Expiry of cached results, with a clock that the test moves.

use std::time::Duration;

use larder::{bcache, mcache};
use larder_testkit::ManualClock;
use once_cell::sync::Lazy;

use super::{Runs, empty, folder};

static CLOCK: Lazy<ManualClock> = Lazy::new(ManualClock::default);
static RUNS: Runs = Runs::new();

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn cached_result_expires_at_its_deadline() {
    #[mcache(ttl = "1m", clock = CLOCK.clone())]
    fn minute(n: u8) -> u8 {
        RUNS.count();
        n
    }
    #[mcache(ttl = Duration::from_secs(60), clock = CLOCK.clone())]
    async fn in_a_task(n: u8) -> u8 {
        n
    }

    minute(1);
    CLOCK.advance(seconds(59));
    minute(1);
    assert_eq!(RUNS.take(), 1);
    CLOCK.advance(seconds(1));
    assert!(!minute::contains(1));
    minute(1);
    assert_eq!(RUNS.take(), 1);

    minute::set_ttl(None);
    minute(2);
    CLOCK.advance(seconds(600));
    assert!(minute::contains(2) && !minute::contains(1));

    larder_testkit::block_on(async {
        in_a_task::set_ttl(Some(seconds(10))).await;
        in_a_task(1).await;
        CLOCK.advance(seconds(10));
        assert!(!in_a_task::contains(1).await);
    });
}

#[test]
fn ttl_can_depend_on_the_value() {
    empty("time");
    fn by_length(text: &str) -> Duration {
        seconds(text.len() as u64)
    }

    #[bcache(ttl_fn = "by_length", dir = folder("time"), clock = CLOCK.clone())]
    fn named(text: &str) -> String {
        text.to_owned()
    }
    #[mcache(ttl_fn = |n| seconds(u64::from(*n)), clock = CLOCK.clone())]
    fn closed(n: u8) -> Result<u8, String> {
        Ok(n)
    }

    (named("ab"), named("abcd")).0.clear();
    let _answers = (closed(2), closed(4));
    CLOCK.advance(seconds(3));
    assert!(!named::contains("ab") && named::contains("abcd"));
    assert!(!closed::contains(2) && closed::contains(4));
}
