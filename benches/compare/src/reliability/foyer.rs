//! foyer's hybrid cache, with the tombstone log that its documentation recommends for caches whose entries
//! change, under both of its write policies.
#![allow(clippy::expect_used, reason = "a contender that cannot be opened has lost")]

use std::future::Future;
use std::path::Path;

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
};
use larder_testkit::workload::Subject;

use super::{DISK_BYTES, MEMORY_BYTES, Rival};

type Hybrid = HybridCache<u64, String>;

async fn open(dir: &Path, policy: HybridCachePolicy) -> Hybrid {
    let device = FsDeviceBuilder::new(dir).with_capacity(DISK_BYTES as usize).build().expect("a device");
    HybridCacheBuilder::new()
        .with_policy(policy)
        .memory(MEMORY_BYTES as usize)
        .with_weighter(|_, value: &String| value.len())
        .storage()
        .with_engine_config(BlockEngineConfig::new(device).with_tombstone_log(true))
        .build()
        .await
        .expect("it opens")
}

macro_rules! rival {
    ($(#[$doc:meta])* $name:ident, $policy:expr) => {
        $(#[$doc])*
        pub(super) struct $name(Hybrid);

        impl Rival for $name {
            async fn open(dir: &Path) -> Self {
                Self(open(dir, $policy).await)
            }

            async fn close(self) {
                self.0.close().await.expect("it closes");
            }
        }

        impl Subject for $name {
            type Error = foyer::Error;

            async fn insert(&self, key: u64, value: String) -> Result<(), foyer::Error> {
                self.0.insert(key, value);
                Ok(())
            }

            async fn remove(&self, key: u64) -> Result<(), foyer::Error> {
                self.0.remove(&key);
                Ok(())
            }

            async fn get(&self, key: u64) -> Result<Option<String>, foyer::Error> {
                Ok(self.0.get(&key).await?.map(|entry| entry.value().clone()))
            }

            async fn load(
                &self,
                key: u64,
                loader: impl Future<Output = Option<String>> + Send + 'static,
            ) -> Result<Option<String>, foyer::Error> {
                let fetch = || async { loader.await.ok_or(std::fmt::Error) };
                Ok(Some(self.0.get_or_fetch(&key, fetch).await?.value().clone()))
            }

            async fn take(&self, key: u64) -> Result<Option<String>, foyer::Error> {
                let found = self.get(key).await;
                self.0.remove(&key);
                found
            }

            async fn contains(&self, key: u64) -> Result<bool, foyer::Error> {
                Ok(self.0.contains(&key))
            }

            async fn clear(&self) -> Result<(), foyer::Error> {
                self.0.clear().await
            }

            async fn flush(&self) -> Result<(), foyer::Error> {
                self.0.flush_if(|_, _| true).await;
                Ok(())
            }
        }
    };
}

rival!(
    /// Entries go to disk when memory evicts them: the default.
    OnEviction,
    HybridCachePolicy::WriteOnEviction
);
rival!(
    /// Entries go to disk when they are inserted.
    OnInsertion,
    HybridCachePolicy::WriteOnInsertion
);
