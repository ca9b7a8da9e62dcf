//! The typed front of the engine.
//!
//! A hit in memory uses the types of the key and the value. Every other call erases them and calls the
//! engine, which is compiled once for all caches.

use std::any::{Any, TypeId};
use std::hash::Hash;
use std::sync::Arc;

use larder_core::entry_meta::EntryOptions;
use larder_core::erased::{AnyError, AnyLookup, Borrowed, Key, Value};
use larder_core::key::Lookup;
use larder_core::memory::Miss;
#[cfg(feature = "async")]
use larder_engine::watched;
use larder_engine::{
    AnsweredEntry, BatchLoad, Begun, Engine, Invalidating, Load, LoadNow, Loads, LoadsEntry, Threads,
};
use larder_tiers::memory::ShardedStore;

/// A handle of a cache.
pub(crate) struct TypedEngine<K, V> {
    pub(crate) engine: Arc<Engine>,
    /// The memory store, if it is typed. Without it the engine has one for keys and values of any type.
    memory: Option<Arc<ShardedStore<K, V>>>,
}

impl<K, V> Clone for TypedEngine<K, V> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.engine), self.memory.clone())
    }
}

impl<K, V> Drop for TypedEngine<K, V> {
    fn drop(&mut self) {
        self.engine.remove_handle();
    }
}

/// Downcasts a value. All values of an engine have the type of its handles.
pub(crate) fn typed<V: Clone + Send + Sync + 'static>(value: Value) -> V {
    match value.into_inner() {
        Some(value) => value,
        None => unreachable!("the value is not of the type {} of the cache", std::any::type_name::<V>()),
    }
}

/// Downcasts an error. The engine returns errors of the requested type only.
fn typed_error<E: Send + Sync + 'static>(error: AnyError) -> Arc<E> {
    match error.into_shared() {
        Some(error) => error,
        None => unreachable!("the error is not of the type {}", std::any::type_name::<E>()),
    }
}

impl<K, V> TypedEngine<K, V> {
    pub(crate) fn new(engine: Arc<Engine>, memory: Option<Arc<ShardedStore<K, V>>>) -> Self {
        engine.add_handle();
        Self { engine, memory }
    }
}

impl<K, V> TypedEngine<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn threads(&self) -> Threads<'_> {
        self.engine.threads()
    }

    #[cfg(feature = "async")]
    pub(crate) fn tasks(&self) -> larder_engine::Tasks<'_> {
        self.engine.tasks()
    }

    #[inline]
    pub(crate) fn hit<Q: Lookup<K> + Sync + ?Sized>(&self, key: &Q) -> Option<V> {
        match &self.memory {
            Some(memory) => self.engine.hit(&**memory, key),
            None => self.engine.hit_of_any(&Borrowed::<K, Q>::new(key), false).map(typed),
        }
    }

    /// As [`hit`](Self::hit), and returns what is known after a miss.
    #[inline]
    pub(crate) fn hit_or_miss<Q: Lookup<K> + Sync + ?Sized>(&self, key: &Q) -> Result<V, Option<Miss>> {
        match &self.memory {
            Some(memory) => self.engine.hit_or_miss(&**memory, key),
            None => self.hit(key).ok_or(None),
        }
    }

    /// Returns the value in memory for `load`, unless a refresh is due.
    pub(crate) fn hit_of_load(&self, key: &K) -> Option<V> {
        match &self.memory {
            Some(memory) => self.engine.hit_unless_due(&**memory, key),
            None => self.engine.hit_of_any(&Borrowed::<K, K>::new(key), true).map(typed),
        }
    }

    /// Stores a value. Returns key and value if the write needs the general path.
    #[inline]
    pub(crate) fn insert_at_once(&self, key: K, value: V) -> Option<(K, V)> {
        match &self.memory {
            Some(memory) => self.engine.insert_at_once(&**memory, key, value),
            None => Some((key, value)),
        }
    }

    pub(crate) fn remove_at_once<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<bool> {
        self.engine.remove_at_once(&**self.memory.as_ref()?, key)
    }

    /// The values in memory, and the positions of the keys that are not there.
    pub(crate) fn hits<Q: Lookup<K> + Sync>(&self, keys: &[Q]) -> (Vec<Option<V>>, Vec<usize>) {
        let values: Vec<Option<V>> = keys.iter().map(|key| self.hit(key)).collect();
        let missing = (0..keys.len()).filter(|at| values[*at].is_none()).collect();
        (values, missing)
    }

    /// Stores what the engine found at the positions of the missing keys.
    pub(crate) fn fill(values: &mut [Option<V>], missing: &[usize], found: Vec<Option<Value>>) {
        for (at, value) in missing.iter().zip(found) {
            values[*at] = value.map(typed);
        }
    }

    /// The keys in memory whose entries may be served.
    pub(crate) fn keys_in_memory(&self) -> Vec<Key>
    where
        K: Clone,
    {
        self.engine.memory().keys(cloned::<K>)
    }

    /// Starts to invalidate the entries that the predicate picks.
    pub(crate) fn invalidate_if(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> Invalidating
    where
        K: Clone,
    {
        let engine = Arc::clone(&self.engine);
        let keys = move || engine.memory().keys(cloned::<K>);
        self.engine.invalidate_if(keys, Box::new(of_entry(predicate)))
    }

    pub(crate) fn hottest(&self, n: usize) -> Vec<Arc<K>>
    where
        K: Clone,
    {
        let own = |key: &(dyn Any + Send + Sync)| key.downcast_ref().cloned().map(Arc::new);
        self.engine.memory().hottest_keys(n, own)
    }

    /// Returns the value of `key` after a miss, from the engine, from another caller's load, or from the loader.
    pub(crate) fn load_in_thread<E, L>(
        &self,
        (key, miss): (K, Option<Miss>),
        loader: impl FnOnce() -> L,
    ) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        L: Loads<V, E>,
    {
        if let Some(memory) = &self.memory {
            let miss = miss.unwrap_or_else(|| self.engine.unknown_miss(&key));
            // Changed where it is: it is moved only to the general path.
            let mut begun = self.engine.load_now(miss, &Borrowed::<K, K>::new(&key));
            if let Some(load) = &mut begun {
                let (value, options) =
                    load.call(loader).parts().map_err(|error| fail_now(load, &key, error))?;
                let rest = if options.is_unset() { load.finish(&**memory, key, &value) } else { Some(key) };
                let Some(key) = rest else { return Ok(value) };
                return Ok(match begun {
                    Some(load) => store(load.into_load(Key::new(key)), value, options),
                    None => value,
                });
            }
        }
        match self.threads().begin_load(Key::new(key), TypeId::of::<E>()) {
            Begun::Value(value) => Ok(typed(value)),
            Begun::Failed(error) => Err(typed_error(error)),
            Begun::Load(load) => match load.call(loader).parts() {
                Ok((value, options)) => Ok(store(load, value, options)),
                Err(error) => Err(fail(load, error)),
            },
        }
    }

    /// As [`load_in_thread`](Self::load_in_thread), for a task.
    #[cfg(feature = "async")]
    pub(crate) async fn load_in_task<E, L>(
        &self,
        key: K,
        loader: impl Future<Output = L>,
    ) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        L: Loads<V, E>,
    {
        let watch = self.tasks().watch();
        let at_once = self.engine.begin_load_at_once(Key::new(key), watch.as_ref());
        let watched_by = watch.clone();
        let call = async {
            let begun = match at_once {
                Ok(begun) => begun,
                Err(key) => self.tasks().begin_load(key, TypeId::of::<E>(), watched_by).await,
            };
            match begun {
                Begun::Value(value) => Ok(typed(value)),
                Begun::Failed(error) => Err(typed_error(error)),
                Begun::Load(mut load) => match load.run(loader).await.parts() {
                    Ok((value, options)) => {
                        if let Some(memory) = &self.memory
                            && load.finish_at_once(&**memory, &value, &options)
                        {
                            return Ok(value);
                        }
                        let value = Value::new(value);
                        load.finish_task(value.clone(), options).await;
                        Ok(typed(value))
                    }
                    Err(error) => Err(fail(load, error)),
                },
            }
        };
        // Boxed: a loader that loads other keys has this future in its frame.
        watched(watch, Box::pin(call)).await
    }

    /// Returns the values of `keys`; loads the missing ones with a batch loader.
    pub(crate) fn load_many_in_thread<E, L>(
        &self,
        keys: Vec<K>,
        mut loader: impl FnMut(Vec<K>) -> Result<L, E>,
    ) -> Result<Vec<Option<V>>, Arc<E>>
    where
        K: Clone,
        E: Send + Sync + 'static,
        L: IntoIterator<Item: LoadsEntry<K, V>>,
    {
        let keys = keys.into_iter().map(Key::cloneable).collect();
        let mut batch = self.threads().begin_batch(keys, TypeId::of::<E>());
        while let Some(load) = batch.next_load().map_err(typed_error)? {
            let keys = keys_of(&load);
            match load.call(|| loader(keys)) {
                Ok(entries) => batch.finish(load, answered(entries)),
                Err(error) => return Err(fail_many(load, error)),
            }
        }
        Ok(batch.into_values().into_iter().map(|value| value.map(typed)).collect())
    }

    /// As [`load_many_in_thread`](Self::load_many_in_thread), for a task.
    #[cfg(feature = "async")]
    pub(crate) async fn load_many_in_task<E, L, Fut>(
        &self,
        keys: Vec<K>,
        mut loader: impl FnMut(Vec<K>) -> Fut,
    ) -> Result<Vec<Option<V>>, Arc<E>>
    where
        K: Clone,
        E: Send + Sync + 'static,
        L: IntoIterator<Item: LoadsEntry<K, V>>,
        Fut: Future<Output = Result<L, E>>,
    {
        let watch = self.tasks().watch();
        let keys = keys.into_iter().map(Key::cloneable).collect();
        let call = async {
            let mut batch = self.tasks().begin_batch(keys, TypeId::of::<E>()).await;
            while let Some(load) = batch.next_task_load(&watch).await.map_err(typed_error)? {
                let keys = keys_of(&load);
                match load.run(async { loader(keys).await }).await {
                    Ok(entries) => batch.finish_task(load, answered(entries)).await,
                    Err(error) => return Err(fail_many(load, error)),
                }
            }
            Ok(batch.into_values().into_iter().map(|value| value.map(typed)).collect())
        };
        watched(watch.clone(), Box::pin(call)).await
    }
}

fn store<V: Clone + Send + Sync + 'static>(load: Load, value: V, options: EntryOptions) -> V {
    let value = Value::new(value);
    load.finish(value.clone(), options);
    typed(value)
}

fn fail_now<K, E>(load: &mut LoadNow<'_>, key: &K, error: E) -> Arc<E>
where
    K: Eq + 'static,
    E: Send + Sync + 'static,
{
    let error = AnyError::new(error);
    load.fail(key, &error);
    typed_error(error)
}

fn fail<E: Send + Sync + 'static>(load: Load, error: E) -> Arc<E> {
    let error = AnyError::new(error);
    load.fail(error.clone());
    typed_error(error)
}

fn fail_many<E: Send + Sync + 'static>(load: BatchLoad, error: E) -> Arc<E> {
    let error = AnyError::new(error);
    load.fail(&error);
    typed_error(error)
}

fn keys_of<K: Send + Sync + 'static>(load: &BatchLoad) -> Vec<K> {
    load.keys().iter().cloned().filter_map(Key::into_inner).collect()
}

fn answered<K, V>(entries: impl IntoIterator<Item: LoadsEntry<K, V>>) -> Vec<AnsweredEntry>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let entry = |entry: (K, V, EntryOptions)| (Key::cloneable(entry.0), Value::new(entry.1), entry.2);
    entries.into_iter().map(|loaded| entry(loaded.parts())).collect()
}

/// Clones a key of the cache.
fn cloned<K: Hash + Eq + Clone + Send + Sync + 'static>(key: &(dyn Any + Send + Sync)) -> Option<Key> {
    key.downcast_ref::<K>().map(|key| Key::cloneable(key.clone()))
}

/// Borrows forms of keys for the engine.
pub(crate) fn borrowed<'a, K, Q: 'a>(keys: impl IntoIterator<Item = &'a Q>) -> Vec<Borrowed<'a, K, Q>> {
    keys.into_iter().map(Borrowed::new).collect()
}

/// Borrows forms of keys as trait objects.
pub(crate) fn any<'a, K, Q>(keys: &'a [Borrowed<'_, K, Q>]) -> Vec<&'a dyn AnyLookup>
where
    K: Hash + Eq + Send + Sync + 'static,
    Q: Lookup<K> + Sync,
{
    keys.iter().map(|key| key as &dyn AnyLookup).collect()
}

/// Erases the types of a function of a key and a value.
pub(crate) fn of_entry<K: 'static, V: 'static, T: Default>(
    function: impl Fn(&K, &V) -> T,
) -> impl Fn(&dyn Any, &dyn Any) -> T {
    move |key, value| match (key.downcast_ref(), value.downcast_ref()) {
        (Some(key), Some(value)) => function(key, value),
        _ => T::default(),
    }
}

/// Makes an owned key from a borrowed form.
pub(crate) fn own<K, Q>(key: &Q) -> Key
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    Q: Lookup<K> + ?Sized,
{
    key.with_key(|key| Key::cloneable(key.clone()))
}
