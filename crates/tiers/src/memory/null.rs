//! A memory store that stores nothing.

use std::sync::Arc;

use larder_core::Result;
use larder_core::erased::{AnyForm, Key, Memory, Value, VisitKey};
use larder_core::memory::{Bounds, Lifetimes, Record, Removed, StoreFacts};
use larder_core::tier::{TierKind, Usage};

/// No memory: every look-up misses, every insert is dropped.
#[derive(Clone, Copy, Debug, Default)]
struct NullStore;

/// Creates a store that stores nothing.
pub fn null_store() -> Arc<dyn Memory> {
    Arc::new(NullStore)
}

impl Memory for NullStore {
    fn attach(&self, _: Arc<dyn Lifetimes>) {}

    fn get(&self, _: &dyn AnyForm) -> Option<Record<Value>> {
        None
    }

    fn peek(&self, _: &dyn AnyForm) -> Option<Record<Value>> {
        None
    }

    fn insert(&self, _: Key, _: Record<Value>) -> bool {
        false
    }

    fn remove(&self, _: &dyn AnyForm) -> Option<Removed> {
        None
    }

    fn clear(&self) {}

    fn sweep(&self) -> u64 {
        0
    }

    fn set_bounds(&self, _: Bounds) -> Result<()> {
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        Bounds::entries(0)
    }

    fn count(&self, _: Option<TierKind>) -> u64 {
        0
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn settle(&self) {}

    fn facts(&self) -> Option<StoreFacts> {
        None
    }

    fn for_each_key(&self, _: &mut VisitKey<'_>) {}
}
