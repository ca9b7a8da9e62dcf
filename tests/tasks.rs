//! The cache for tasks: the same verbs, and no executor blocked.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use larder::{AsyncCache, Bytes, Persistence, TierKind};
use larder_core::tier::Tier;
use larder_engine::wait::Tokio;
use larder_testkit::{FaultyTier, HashMapTier, Operation};

use crate::rig::Plan;

fn tiered(dir: &std::path::Path) -> AsyncCache<u32, Bytes> {
    let cache = larder::ucache("tasks").dir(dir).persistence(Persistence::LongTerm);
    cache.build().unwrap().to_async()
}

#[tokio::test]
async fn every_verb_over_tiers() {
    let dir = tempfile::tempdir().unwrap();
    let cache = tiered(dir.path());
    let large = Bytes::from(vec![3; 2 << 20]);
    assert_eq!(cache.try_insert(1, Bytes::from_static(b"small")).await.unwrap().home, TierKind::Disk);
    assert_eq!(cache.try_insert(2, large.clone()).await.unwrap().home, TierKind::File);
    assert_eq!(cache.get(&2).await, Some(large.clone()));
    assert_eq!(cache.try_get(&3).await.unwrap(), None);
    assert_eq!(cache.inspect(&1).await.unwrap().unwrap().home, TierKind::Disk);
    assert_eq!(cache.explain(&2).await.unwrap().home, Some(TierKind::File));
    assert!(cache.contains_key(&1).await && !cache.contains_key(&9).await);
    assert_eq!(cache.get_with(3, async { Bytes::from_static(b"three") }).await, "three");
    let failed = cache.try_get_with(4, async { Err::<Bytes, _>("no") }).await;
    assert_eq!(*failed.unwrap_err(), "no");
    assert_eq!(cache.load(5, |_| async { Ok::<_, ()>(Bytes::from_static(b"five")) }).await.unwrap(), "five");
    assert_eq!(cache.len(), 4);
    assert_eq!(cache.keys().await.unwrap().len(), 4);
    assert_eq!(cache.take(&5).await.unwrap().unwrap(), "five");
    assert!(cache.remove(&3).await && !cache.remove(&3).await);
    cache.flush().await.unwrap();
    cache.close().await.unwrap();

    let cache = tiered(dir.path());
    assert_eq!(cache.get(&2).await, Some(large));
    assert_eq!(cache.get(&1).await.unwrap(), "small");
    assert_eq!(cache.get(&3).await, None);
    cache.clear().await.unwrap();
    assert!(cache.is_empty() && cache.to_sync().is_empty());
    cache.close().await.unwrap();
}

#[test]
fn outside_a_runtime_it_works_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let cache = tiered(dir.path());
    larder_testkit::block_on(async {
        cache.insert(1, Bytes::from_static(b"small")).await;
        assert_eq!(cache.get(&1).await.unwrap(), "small");
        assert_eq!(cache.load(2, |_| async { Ok::<_, ()>(Bytes::new()) }).await.unwrap(), "");
        cache.close().await.unwrap();
    });
}

#[test]
fn a_stalled_tier_does_not_stall_the_executor() {
    let tier = FaultyTier::new(HashMapTier::new());
    let rig = Plan::over(vec![Arc::new(tier.clone()) as Arc<dyn Tier>]).without_memory().build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tier.stall(Operation::Get);
        let reading = tokio::spawn({
            let rig = Arc::clone(&rig);
            async move { rig.get::<Tokio, u64>(&1).await }
        });
        // The only thread of the runtime is free while the tier hangs.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!reading.is_finished());
        tier.release();
        assert_eq!(reading.await.unwrap().unwrap(), None);
    });
}

#[test]
fn a_write_that_began_is_finished_when_its_future_is_dropped() {
    let tier = FaultyTier::new(HashMapTier::new());
    let rig = Plan::over(vec![Arc::new(tier.clone()) as Arc<dyn Tier>]).without_memory().build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        tier.stall(Operation::Put);
        {
            let mut write = pin!(rig.insert::<Tokio>(1, "written".to_owned(), larder::EntryOptions::new()));
            assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        tier.wait_until_stalled(Operation::Put, 1);
        tier.release();
        // A second write of the key waits for the first: both are done here.
        rig.insert::<Tokio>(2, "another".to_owned(), larder::EntryOptions::new()).await.unwrap();
        let found = loop {
            if let Some(found) = rig.get::<Tokio, u64>(&1).await.unwrap() {
                break found;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(found, "written");
    });
}
