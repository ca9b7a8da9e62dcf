//! The static that holds the cache of a function, built at its first use.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use larder_core::stats::Stats;
use larder_core::{Error, Result};
use once_cell::sync::Lazy;
use parking_lot::Mutex;

use super::bounds::{Kept, Keyed};
use super::handle::Handle;
use crate::Cache;

/// The owner of a cache: the type whose companions use it, and the name.
///
/// A function in an `impl` block with type parameters is one function for each type, but all of them share
/// one static. The type selects the cache.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    id: TypeId,
    type_name: &'static str,
    suffix: &'static str,
    given: Option<&'static str>,
}

impl Owner {
    /// The owner `T`. The name is `given`, or that of the type and `suffix`.
    #[inline]
    pub fn of<T: ?Sized>(given: Option<&'static str>, suffix: &'static str) -> Self {
        Self { id: typeid::of::<T>(), type_name: type_name::<T>(), suffix, given }
    }

    fn name(&self) -> String {
        match self.given {
            Some(given) => given.to_owned(),
            None => format!("{}{}", self.type_name, self.suffix),
        }
    }
}

/// The caches of one function: one, or several in a generic `impl` block.
///
/// They live until the process ends.
#[derive(Debug)]
pub struct LazyCache {
    first: OnceLock<Opened>,
    others: Lazy<Mutex<HashMap<TypeId, &'static Opened>>>,
}

/// The outcome of the first use.
#[derive(Debug)]
struct Opened {
    owner: TypeId,
    /// A `Handle`, or the error of opening the cache.
    handle: Result<Box<dyn AnyHandle>, Arc<Error>>,
}

/// A type-erased handle.
trait AnyHandle: Any + Send + Sync + std::fmt::Debug {
    fn stats(&self) -> Stats;
}

impl<K, V> AnyHandle for Handle<K, V>
where
    K: Keyed,
    V: Kept,
{
    fn stats(&self) -> Stats {
        self.cache().stats()
    }
}

impl LazyCache {
    /// Creates it without a cache.
    #[expect(clippy::new_without_default, reason = "made in a static, by `const fn`")]
    pub const fn new() -> Self {
        Self { first: OnceLock::new(), others: Lazy::new(Mutex::default) }
    }

    /// Returns the statistics of the cache; all zero before its first use.
    pub fn stats(&self, owner: Owner) -> Stats {
        let handle = self.opened(owner.id).and_then(|opened| opened.handle.as_ref().ok());
        handle.map_or_else(Stats::default, |handle| handle.stats())
    }

    /// Returns the error of opening the cache, or `otherwise` if it was opened.
    pub fn why(&self, owner: Owner, otherwise: Error) -> Error {
        match self.opened(owner.id).map(|opened| &opened.handle) {
            Some(Err(error)) => Error::again(error),
            _ => otherwise,
        }
    }

    /// The outcome of the first use by this owner, if there was one.
    #[inline]
    fn opened(&self, owner: TypeId) -> Option<&Opened> {
        match self.first.get() {
            Some(first) if first.owner == owner => Some(first),
            Some(_) => self.others.lock().get(&owner).copied(),
            None => None,
        }
    }

    /// Returns the handle if the cache was used before; the inner `None` means that opening it failed.
    #[inline]
    pub(super) fn ready<K, V>(&'static self, owner: Owner) -> Option<Option<&'static Handle<K, V>>>
    where
        K: Keyed,
        V: Kept,
    {
        self.opened(owner.id).map(Opened::handle)
    }

    /// Opens the cache once, also under concurrent calls.
    #[cold]
    pub(super) fn open<K, V>(&'static self, owner: Owner, build: Build<K, V>) -> Option<&'static Handle<K, V>>
    where
        K: Keyed,
        V: Kept,
    {
        let first = self.first.get_or_init(|| Opened::new(owner, build));
        if first.owner == owner.id {
            return first.handle();
        }
        // Leaked, since the static is never dropped: one allocation for each type.
        let mut others = self.others.lock();
        let opened = others.entry(owner.id).or_insert_with(|| Box::leak(Box::new(Opened::new(owner, build))));
        opened.handle()
    }
}

/// Builds a cache of the given name.
pub(super) type Build<K, V> = fn(String) -> Result<Cache<K, V>>;

impl Opened {
    fn new<K, V>(owner: Owner, build: Build<K, V>) -> Self
    where
        K: Keyed,
        V: Kept,
    {
        let name = owner.name();
        let handle = match build(name.clone()) {
            Ok(cache) => Ok(Box::new(Handle::new(name, cache)) as Box<dyn AnyHandle>),
            Err(error) => {
                tracing::error!(target: "larder", function = name, %error, "cannot open the cache of a function; it runs uncached");
                Err(Arc::new(error))
            }
        };
        Self { owner: owner.id, handle }
    }

    #[inline]
    fn handle<K, V>(&self) -> Option<&Handle<K, V>>
    where
        K: Keyed,
        V: Kept,
    {
        let handle: &dyn Any = &**self.handle.as_ref().ok()?;
        handle.downcast_ref()
    }
}

/// Returns the handle of a function's cache, and opens the cache at the first use. `None` if that failed; it
/// is not retried.
#[inline]
pub fn open<K, V>(lazy: &'static LazyCache, owner: Owner, build: Build<K, V>) -> Option<&'static Handle<K, V>>
where
    K: Keyed,
    V: Kept,
{
    match lazy.ready(owner) {
        Some(handle) => handle,
        None => lazy.open(owner, build),
    }
}
