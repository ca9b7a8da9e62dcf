//! `compute`: read, decide, and write or remove in one step.

use std::hash::Hash;

use larder_core::Result;
use larder_core::erased::{Key, Value};
use larder_engine::Compute;

use crate::Cache;
use crate::typed::typed;

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Lets `decide` change the entry of `key` in one atomic step: it gets the value that is there, and
    /// returns what to do. Returns the value after the step.
    ///
    /// No other call changes the entry meanwhile, on this node or, with Redis, on another. The function
    /// runs while the key is locked, so it should be short; a call of a cache inside it fails with
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) where it would have to wait. Among nodes it runs again
    /// whenever another node changed the entry in between, and its last answer counts.
    ///
    /// A load of the key that is in progress is not stored afterwards, even if the step keeps the entry; its
    /// waiters get its value. An expired entry counts as absent. Costs a read of the nearest tier that has the
    /// entry, even if memory does not, and a write or a removal.
    ///
    /// # Errors
    /// The errors of [`try_insert`](Self::try_insert) and [`remove`](Self::remove). If a tier failed that may
    /// have the entry, or while Redis cannot be reached, nothing changes.
    ///
    /// ```
    /// use larder::Compute;
    ///
    /// let stock = larder::mcache::<&str, u32>("stock").build()?;
    /// let mut sell = |name| {
    ///     stock.compute(name, |left| match left {
    ///         Some(1) => Compute::Remove,
    ///         Some(left) => Compute::Put(left - 1),
    ///         None => Compute::Keep,
    ///     })
    /// };
    /// stock.insert("pear", 2);
    /// assert_eq!((sell("pear")?, sell("pear")?, sell("fig")?), (Some(1), None, None));
    /// assert!(!stock.contains_key(&"pear"));
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[doc(alias = "entry")]
    #[doc(alias = "and_compute_with")]
    #[doc(alias = "and_upsert_with")]
    pub fn compute(&self, key: K, decide: impl FnMut(Option<V>) -> Compute<V> + Send) -> Result<Option<V>> {
        let value = self.inner.threads().compute_borrowed(Key::new(key), &mut erased(decide))?;
        Ok(value.map(typed))
    }
}

/// Erases the type of the value that a function decides on.
fn erased<V: Clone + Send + Sync + 'static>(
    mut decide: impl FnMut(Option<V>) -> Compute<V> + Send,
) -> impl FnMut(Option<&Value>) -> Result<Compute<Value>> + Send {
    move |found| Ok(decide(found.cloned().map(typed)).erased())
}

#[cfg(feature = "async")]
mod tasks {
    use larder_engine::AnyDecide;

    use super::{Compute, Hash, Key, Result, erased, typed};
    use crate::AsyncCache;

    impl<K, V> AsyncCache<K, V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        /// See [`Cache::compute`](crate::Cache::compute). The function runs on the executor.
        pub async fn compute(
            &self,
            key: K,
            decide: impl FnMut(Option<V>) -> Compute<V> + Send + 'static,
        ) -> Result<Option<V>> {
            let value = self.inner.tasks().compute(Key::new(key), AnyDecide::new(erased(decide))).await?;
            Ok(value.map(typed))
        }
    }
}
