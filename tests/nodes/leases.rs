//! Load leases: the right of one node to load a key, while nodes start and die.

use std::time::{Duration, Instant};

use larder_core::key::{EncodedKey, KeyCodec, NamedKeys};
use larder_core::tier::SharedTier;
use larder_testkit::{Proxy, block_on};
use larder_tiers::redis::{RedisOptions, RedisTier};

use super::{Nodes, key, until};

const MINUTE: Duration = Duration::from_secs(60);

fn tier(url: String) -> RedisTier {
    RedisTier::open(RedisOptions::new(url, "nodes", "shared")).unwrap()
}

fn encoded(number: u64) -> EncodedKey {
    NamedKeys.encode(&key(number)).unwrap()
}

#[test]
fn leases_of_a_dead_node_expire_soon() {
    let Some(mut nodes) = Nodes::start() else { return };
    let line = Proxy::to(nodes.server.port());
    let (one, gone) = (nodes.node(), tier(line.url()));
    for number in 0..20 {
        block_on(gone.lease_load(&encoded(number), MINUTE)).unwrap().unwrap();
    }
    // Acts like a killed process: the leases are neither renewed nor released.
    line.swallow(true);
    let begun = Instant::now();
    (0..20).for_each(|number| assert_eq!(one.get_with(key(number), || 7), 7));
    let took = begun.elapsed();
    println!("20 loads of a node that was gone were done after {took:?}");
    assert!(took < Duration::from_secs(8), "waited {took:?}, as if it lived");
}

#[test]
fn lease_is_renewed_while_its_holder_lives() {
    let Some(nodes) = Nodes::start() else { return };
    let (holder, other) = (tier(nodes.server.url()), tier(nodes.server.url()));
    let take = || block_on(holder.lease_load(&encoded(1), MINUTE)).unwrap();
    let mut right = take().unwrap();
    let name = nodes.server.cli(&["--scan", "--pattern", "*:l:*"]);
    let left = || nodes.server.cli(&["PTTL", &name]).parse::<i64>().unwrap();
    assert!(left() <= 2000, "it ends soon by itself");
    let mut last = left();
    until("it is renewed", || {
        let now = left();
        // If the machine stood still for longer than the lease, the lease is gone and is taken
        // again.
        right = take().unwrap_or(right);
        let is_renewed = now > last;
        last = now;
        is_renewed
    });
    assert_eq!(block_on(other.lease_load(&encoded(1), MINUTE)).unwrap().map(|right| right.number), None);
    holder.release_loads(vec![(encoded(1), right.number)]);
    until("it is given up", || block_on(other.lease_load(&encoded(1), MINUTE)).unwrap().is_some());
}

#[test]
fn lease_ends_at_its_limit_while_its_holder_lives() {
    let Some(nodes) = Nodes::start() else { return };
    let (holder, other) = (tier(nodes.server.url()), tier(nodes.server.url()));
    let begun = Instant::now();
    block_on(holder.lease_load(&encoded(1), Duration::from_millis(2500))).unwrap().unwrap();
    let free = || block_on(other.lease_load(&encoded(1), MINUTE)).unwrap().is_some();
    until("it ends", free);
    println!("a right for 2.5 s ended after {:?}", begun.elapsed());
}

/// The fault: the caller that took over from a leader that was not polled waited until the lease
/// expired. The cause: the lease was released only when the future of that leader was dropped.
#[test]
fn load_that_was_taken_over_holds_no_lease() {
    let Some(mut nodes) = Nodes::start() else { return };
    let cache = nodes.node().to_async();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (go, gone) = tokio::sync::oneshot::channel();
        let mut led = std::pin::pin!(cache.get_with(key(1), async {
            begun.send(()).unwrap();
            gone.await.unwrap();
            1
        }));
        tokio::select! {
            _ = &mut led => unreachable!("it waits"),
            begun = begins => begun.unwrap(),
        }
        go.send(()).unwrap();
        let asked = Instant::now();
        assert_eq!(cache.get_with(key(1), async { 2 }).await, 2);
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
        assert_eq!(led.await, 1);
        assert_eq!(cache.get(&key(1)).await, Some(2), "the one that was loaded first stays");
    });
    cache.to_sync().close().unwrap();
}
