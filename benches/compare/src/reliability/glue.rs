//! A hand-written combination of moka and a sled tree. Writes go to sled and then to moka. Reads go to moka,
//! which loads misses from sled, once for concurrent callers.
#![allow(clippy::expect_used, reason = "a contender that cannot be opened has lost")]

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use larder_testkit::block_on;
use larder_testkit::workload::Subject;
use sled::{Db, IVec};

use super::{MEMORY_BYTES, Rival};

pub(super) struct MokaSled {
    front: moka::sync::Cache<u64, Arc<str>>,
    tree: Db,
}

fn text(bytes: IVec) -> Option<Arc<str>> {
    std::str::from_utf8(&bytes).ok().map(Arc::from)
}

impl Rival for MokaSled {
    async fn open(dir: &Path) -> Self {
        let weigher = |_: &u64, value: &Arc<str>| u32::try_from(value.len()).unwrap_or(u32::MAX);
        let front = moka::sync::Cache::builder().max_capacity(MEMORY_BYTES).weigher(weigher).build();
        Self { front, tree: sled::open(dir.join("sled")).expect("it opens") }
    }

    async fn close(self) {
        self.tree.flush().expect("it flushes");
    }
}

impl MokaSled {
    fn read(&self, key: u64) -> Option<Arc<str>> {
        self.tree.get(key.to_be_bytes()).ok().flatten().and_then(text)
    }
}

impl Subject for MokaSled {
    type Error = sled::Error;

    async fn insert(&self, key: u64, value: String) -> sled::Result<()> {
        self.tree.insert(key.to_be_bytes(), value.as_bytes())?;
        self.front.insert(key, value.into());
        Ok(())
    }

    async fn remove(&self, key: u64) -> sled::Result<()> {
        self.tree.remove(key.to_be_bytes())?;
        self.front.invalidate(&key);
        Ok(())
    }

    async fn get(&self, key: u64) -> sled::Result<Option<String>> {
        Ok(self.front.optionally_get_with(key, || self.read(key)).map(|value| value.to_string()))
    }

    async fn load(
        &self,
        key: u64,
        loader: impl Future<Output = Option<String>> + Send + 'static,
    ) -> sled::Result<Option<String>> {
        let read_or_load = || {
            self.read(key).or_else(|| {
                let loaded: Arc<str> = block_on(loader)?.into();
                self.tree.insert(key.to_be_bytes(), loaded.as_bytes()).ok()?;
                Some(loaded)
            })
        };
        Ok(self.front.optionally_get_with(key, read_or_load).map(|value| value.to_string()))
    }

    async fn take(&self, key: u64) -> sled::Result<Option<String>> {
        let taken = self.tree.remove(key.to_be_bytes())?.and_then(text);
        self.front.invalidate(&key);
        Ok(taken.map(|value| value.to_string()))
    }

    async fn contains(&self, key: u64) -> sled::Result<bool> {
        self.tree.contains_key(key.to_be_bytes())
    }

    async fn clear(&self) -> sled::Result<()> {
        self.tree.clear()?;
        self.front.invalidate_all();
        Ok(())
    }

    async fn flush(&self) -> sled::Result<()> {
        self.tree.flush().map(drop)
    }
}
