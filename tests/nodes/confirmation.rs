//! Entries that only one node has, while it could not hear of changes by other nodes: confirmed and
//! unconfirmed reads.

use std::time::{Duration, Instant};

use larder::{Cache, Coherence, TierKind};
use larder_testkit::Proxy;

use super::{Nodes, key, until};

const PENDING: u64 = 1000;
const LEASE: Duration = Duration::from_secs(1);

/// Returns the value, and whether it is confirmed.
fn seen(node: &Cache<String, u64>, number: u64) -> Option<(u64, bool)> {
    let entry = node.inspect(&key(number)).ok().flatten()?;
    Some((entry.value, entry.confirmed))
}

fn notices(node: &Cache<String, u64>) {
    until("the node notices", || node.try_insert(key(100_000), 1).unwrap().home != TierKind::Redis);
}

#[test]
fn entry_in_a_local_tier_is_unconfirmed_and_a_miss_on_a_strict_node() {
    let Some(mut nodes) = Nodes::start() else { return };
    let available = nodes.node();
    let strict = nodes.builder().coherence(Coherence::Strict).build().unwrap();
    nodes.server.pause();
    notices(&available);
    notices(&strict);
    available.insert(key(1), 1);
    strict.insert(key(2), 2);
    for _ in 0..2 {
        assert_eq!(seen(&available, 1), Some((1, false)));
        assert_eq!(available.get_many(&[key(1)]), [Some(1)]);
        assert!(available.contains_key(&key(1)));
        assert_eq!(strict.get(&key(2)), None);
        assert_eq!(strict.get_many(&[key(2)]), [None]);
        assert!(!strict.contains_key(&key(2)));
    }
    assert!(available.stats().cache.unconfirmed >= 4);
    assert_eq!(strict.stats().cache.unconfirmed, 0);
    nodes.server.resume();
    until("it is confirmed", || seen(&available, 1) == Some((1, true)));
    until("the strict one has its own", || strict.get(&key(2)) == Some(2));
    until("each sees what the other wrote", || {
        available.get(&key(2)) == Some(2) && strict.get(&key(1)) == Some(1)
    });
}

#[test]
fn pending_writes_are_unconfirmed_until_reconciled() {
    let Some(mut nodes) = Nodes::start() else { return };
    let line = Proxy::to(nodes.server.port());
    let (one, cut_off) = (nodes.node(), nodes.builder().redis(line.url()).build().unwrap());
    for number in 0..PENDING {
        one.insert(key(number), 1);
    }
    // A late notice drops a copy, and with it the knowledge of the entry that a write replaces.
    (0..PENDING).for_each(|number| assert_eq!(cut_off.get(&key(number)), Some(1)));
    line.swallow(true);
    notices(&cut_off);
    for number in 0..PENDING {
        cut_off.insert(key(number), 2);
        one.insert(key(number), 3);
    }
    let acknowledged = Instant::now();
    until("the lease is over", || acknowledged.elapsed() > LEASE);
    line.swallow(false);
    line.cut();
    let mut unconfirmed = 0;
    until("it has what the other wrote", || {
        let all: Vec<_> = (0..PENDING).map(|number| seen(&cut_off, number)).collect();
        assert!(
            !all.contains(&Some((2, true))),
            "its own write, which the other had replaced a lease before"
        );
        unconfirmed += all.iter().flatten().filter(|(_, confirmed)| !confirmed).count();
        // Without a copy, the node cannot tell which write was first, and neither entry stays.
        all.iter().all(|seen| matches!(seen, None | Some((3, true))))
    });
    println!("{unconfirmed} reads were unconfirmed before it had heard");
    until("what nobody else wrote is made up for", || cut_off.stats().cache.repaired == 1);
    assert_eq!(cut_off.stats().cache.repairs_lost, PENDING);
    until("both agree", || (0..PENDING).all(|number| seen(&one, number) == seen(&cut_off, number)));
    let kept = (0..PENDING).filter(|number| seen(&one, *number) == Some((3, true))).count();
    assert!(kept as u64 > PENDING / 2, "{kept} were kept");
}

#[test]
fn pending_writes_at_close_are_counted_as_lost() {
    let Some(mut nodes) = Nodes::start() else { return };
    let node = nodes.node();
    node.insert(key(1), 1);
    nodes.server.kill();
    notices(&node);
    node.insert(key(1), 2);
    node.insert(key(2), 2);
    node.remove(&key(3));
    assert_eq!(node.stats().cache.repairs_lost, 0);
    node.close().unwrap();
    assert_eq!(node.stats().cache.repairs_lost, 4);
}

#[test]
fn changes_of_others_are_seen_while_many_writes_are_reconciled() {
    let Some(mut nodes) = Nodes::start() else { return };
    let line = Proxy::to(nodes.server.port());
    // With a long lease, no copy is read again before its notice arrives.
    let cut_off = nodes.builder().redis(line.url()).lease(LEASE * 60).build().unwrap();
    let one = nodes.node();
    line.swallow(true);
    notices(&cut_off);
    for number in 1..PENDING {
        cut_off.insert(key(number), 1);
    }
    line.swallow(false);
    line.cut();
    until("repairs begin", || cut_off.stats().cache.repaired > 0);
    let (begun, mut lags) = (Instant::now(), Vec::new());
    while cut_off.stats().cache.repaired < PENDING {
        let change = lags.len() as u64;
        one.insert(key(0), change);
        let changed = Instant::now();
        until("the change is seen", || cut_off.get(&key(0)) == Some(change));
        lags.push(changed.elapsed());
    }
    let (all, worst) = (begun.elapsed(), lags.iter().max().unwrap());
    println!("{} changes beside repairs that took {all:?}, seen within {worst:?}", lags.len());
    // Only one change would be seen if notices waited for the end of the repairs.
    assert!(lags.len() > 3, "{} changes were seen", lags.len());
}
