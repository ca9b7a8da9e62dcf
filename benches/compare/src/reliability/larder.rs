//! Larder: on disk, in files, and in the tiers that its selector chooses.
#![allow(clippy::expect_used, reason = "a contender that cannot be opened has lost")]

use std::future::Future;
use std::path::Path;

use larder::{Cache, Durability, Error, Persistence, Result};
use larder_testkit::block_on;
use larder_testkit::workload::Subject;

use super::{DISK_BYTES, MEMORY_BYTES, Rival};

macro_rules! rival {
    ($(#[$doc:meta])* $name:ident, $build:expr) => {
        $(#[$doc])*
        pub(super) struct $name(Cache<u64, String>);

        impl Rival for $name {
            async fn open(dir: &Path) -> Self {
                let build: fn(&Path) -> Result<Cache<u64, String>> = $build;
                Self(build(dir).expect("it opens"))
            }

            async fn close(self) {
                self.0.close().expect("it closes");
            }
        }

        impl Subject for $name {
            type Error = Error;

            async fn insert(&self, key: u64, value: String) -> Result<()> {
                self.0.try_insert(key, value).map(drop)
            }

            async fn remove(&self, key: u64) -> Result<()> {
                self.0.remove(&key);
                Ok(())
            }

            async fn get(&self, key: u64) -> Result<Option<String>> {
                self.0.try_get(&key)
            }

            async fn load(
                &self,
                key: u64,
                loader: impl Future<Output = Option<String>> + Send + 'static,
            ) -> Result<Option<String>> {
                Ok(self.0.try_get_with(key, || block_on(loader).ok_or(())).ok())
            }

            async fn take(&self, key: u64) -> Result<Option<String>> {
                self.0.take(&key)
            }

            async fn contains(&self, key: u64) -> Result<bool> {
                Ok(self.0.contains_key(&key))
            }

            async fn clear(&self) -> Result<()> {
                self.0.clear()
            }

            async fn flush(&self) -> Result<()> {
                self.0.flush()
            }
        }
    };
}

rival!(
    /// sled with segments beside it.
    Disk,
    |dir| larder::bcache("compare").dir(dir).memory_bytes(MEMORY_BYTES).disk_bytes(DISK_BYTES).build()
);
rival!(
    /// The same, with each change passed to the operating system before it is acknowledged.
    DiskFlushed,
    |dir| {
        let cache = larder::bcache("compare").dir(dir).memory_bytes(MEMORY_BYTES).disk_bytes(DISK_BYTES);
        cache.durability(Durability::Flushed).build()
    }
);
rival!(
    /// One file for each entry.
    Files,
    |dir| larder::fcache("compare").dir(dir).memory_bytes(MEMORY_BYTES).disk_bytes(DISK_BYTES).build()
);
rival!(
    /// Every tier.
    Universal,
    |dir| {
        let cache = larder::ucache("compare").dir(dir).memory_bytes(MEMORY_BYTES).disk_bytes(DISK_BYTES);
        cache.persistence(Persistence::LongTerm).build()
    }
);
