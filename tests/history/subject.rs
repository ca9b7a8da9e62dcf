//! The engine as the subject of a workload, from threads or tasks.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use larder::{EntryOptions, Error};
use larder_exec::runtime::Runtime;
use larder_testkit::workload::Subject;

use crate::fixtures::TestEngine;

/// The engine, waiting as the runtime `W` does.
pub(super) struct Under<W> {
    rig: Arc<TestEngine>,
    wait: PhantomData<W>,
}

impl<W: Runtime> Under<W> {
    pub(super) fn new(rig: &Arc<TestEngine>) -> Self {
        Self { rig: Arc::clone(rig), wait: PhantomData }
    }
}

impl<W: Runtime> Subject for Under<W> {
    type Error = Option<Error>;

    async fn insert(&self, key: u64, value: String) -> Result<(), Self::Error> {
        self.rig.insert::<W>(key, value, EntryOptions::new()).await.map(drop).map_err(Some)
    }

    async fn remove(&self, key: u64) -> Result<(), Self::Error> {
        self.rig.remove::<W>(&key).await.map(drop).map_err(Some)
    }

    async fn get(&self, key: u64) -> Result<Option<String>, Self::Error> {
        match self.rig.hit(&key) {
            Some(value) => Ok(Some(value)),
            None => self.rig.get::<W>(&key).await.map_err(Some),
        }
    }

    async fn load(
        &self,
        key: u64,
        loader: impl Future<Output = Option<String>> + Send + 'static,
    ) -> Result<Option<String>, Self::Error> {
        // A thread runs its loader in place, so the loader future must be ready.
        let loader = async {
            match W::IS_TASK {
                true => loader.await,
                false => larder_testkit::block_on(loader),
            }
            .ok_or(())
        };
        self.rig.try_get_with::<W, (), _, _>(key, || loader).await.map(Some).map_err(|_| None)
    }

    async fn take(&self, key: u64) -> Result<Option<String>, Self::Error> {
        self.rig.take::<W>(&key).await.map_err(Some)
    }

    async fn contains(&self, key: u64) -> Result<bool, Self::Error> {
        self.rig.contains_key::<W>(&key).await.map_err(Some)
    }

    async fn clear(&self) -> Result<(), Self::Error> {
        self.rig.clear::<W>().await.map_err(Some)
    }

    async fn flush(&self) -> Result<(), Self::Error> {
        self.rig.flush::<W>().await.map_err(Some)
    }
}
