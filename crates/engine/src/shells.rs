//! The engine's entry points for threads and for tasks.
//!
//! The engine is generic over how a caller waits. It is compiled for both here, so that a crate
//! that uses a cache does not compile it again.

use std::any::TypeId;
use std::io::Read;
#[cfg(feature = "async")]
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use larder_core::Result;
use larder_core::clock::Time;
use larder_core::entry_meta::{EntryOptions, Tag};
use larder_core::erased::{AnyError, AnyLookup, Key, Value};
use larder_core::place::Placement;

use crate::batch::load::{Batch, BatchLoad};
use crate::engine::Engine;
use crate::listing::TaggedKey;
use crate::load::detached::LoadRequest;
use crate::load::outcome::LoadError;
#[cfg(feature = "async")]
use crate::load::poll_watch::PollWatch;
use crate::load::{Begun, Load};
use crate::read::explain::{Entry, Explanation};
use crate::write::atomic::{AnyDecide, Decide, Increment};
use crate::write::stream::{BytesOf, EntryReader, OwnedReader, StreamSource};
#[cfg(feature = "async")]
use larder_exec::runtime::Tokio;
use larder_exec::runtime::{Blocking, block_on};

/// The engine for a thread, which blocks while it waits.
#[derive(Clone, Copy)]
pub struct Threads<'a>(&'a Arc<Engine>);

/// The engine for a tokio task.
#[cfg(feature = "async")]
#[derive(Clone, Copy)]
pub struct Tasks<'a>(&'a Arc<Engine>);

/// A boxed future.
#[cfg(feature = "async")]
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Engine {
    /// Returns the engine for a thread.
    pub fn threads(self: &Arc<Self>) -> Threads<'_> {
        Threads(self)
    }

    /// Returns the engine for a task.
    #[cfg(feature = "async")]
    pub fn tasks(self: &Arc<Self>) -> Tasks<'_> {
        Tasks(self)
    }
}

impl<'a> Threads<'a> {
    /// Looks `key` up in the tiers beyond memory, for a caller that missed in memory.
    pub fn get(self, key: &'a dyn AnyLookup) -> Result<Option<Value>> {
        self.0.get_on_thread(key).unwrap_or_else(|| block_on(self.0.get::<Blocking>(key)))
    }

    /// Stores a value. Returns its placement.
    pub fn insert(self, key: Key, value: Value, options: EntryOptions) -> Result<Placement> {
        let inserted = self.0.insert_on_thread((key, value, options));
        inserted
            .unwrap_or_else(|(key, value, options)| block_on(self.0.insert::<Blocking>(key, value, options)))
    }
}

#[cfg(feature = "async")]
impl<'a> Tasks<'a> {
    /// Looks `key` up in the tiers beyond memory, for a caller that missed in memory.
    pub fn get(self, key: &'a dyn AnyLookup) -> Boxed<'a, Result<Option<Value>>> {
        Box::pin(self.0.get::<Tokio>(key))
    }

    /// Stores a value. Returns its placement.
    pub fn insert(self, key: Key, value: Value, options: EntryOptions) -> Boxed<'a, Result<Placement>> {
        Box::pin(self.0.insert::<Tokio>(key, value, options))
    }
}

/// Defines the same operations for threads and for tasks.
macro_rules! verbs {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;
    )+) => {
        impl<'a> Threads<'a> {
            $(
                $(#[$doc])*
                pub fn $name(self, $($argument: $type),*) -> $answer {
                    block_on(self.0.$name::<Blocking>($($argument),*))
                }
            )+
        }

        #[cfg(feature = "async")]
        impl<'a> Tasks<'a> {
            $(
                $(#[$doc])*
                pub fn $name(self, $($argument: $type),*) -> Boxed<'a, $answer> {
                    Box::pin(self.0.$name::<Tokio>($($argument),*))
                }
            )+
        }
    };
}

verbs! {
    /// Looks up keys that memory does not have. Returns the values in the order of the keys.
    fn get_many(keys: &'a [&'a dyn AnyLookup]) -> Vec<Option<Value>>;
    /// Returns whether a tier has an entry for `key`.
    fn contains_key(key: &'a dyn AnyLookup) -> Result<bool>;
    /// Returns the value and its provenance.
    fn inspect(key: &'a dyn AnyLookup) -> Result<Option<Entry<Value>>>;
    /// Returns where the entry of `key` is, and why.
    fn explain(key: &'a dyn AnyLookup) -> Result<Explanation>;
    /// Opens a reader of the value of `key`.
    fn open(key: &'a dyn AnyLookup, bytes_of: BytesOf) -> Result<Option<EntryReader>>;
    /// Stores entries. Continues after a failure. Returns the outcome of each, in order.
    fn insert_many(entries: Vec<(Key, Value)>, options: EntryOptions) -> Vec<Result<Placement>>;
    /// Stores a value unless there is an entry. Returns whether it was stored.
    fn insert_if_absent(key: Key, value: Value, options: EntryOptions) -> Result<bool>;
    /// Stores the bytes of a reader as a value.
    fn insert_from_owned(key: Key, source: StreamSource<OwnedReader>) -> Result<Placement>;
    /// Adds to a counter. Returns the sum.
    fn increment(key: Key, increment: Increment) -> Result<Value>;
    /// Lets a function change the entry of `key` in one step. Returns the value after it.
    fn compute(key: Key, decide: AnyDecide) -> Result<Option<Value>>;
    /// Returns the value of `key`. Loads it if it is missing.
    fn load(key: Key, request: LoadRequest) -> Result<Option<Value>, LoadError<AnyError>>;
    /// Removes `key` from every tier. Returns whether an entry could be served before.
    fn remove(key: &'a dyn AnyLookup) -> Result<bool>;
    /// Removes keys from every tier. Returns how many of them had an entry.
    fn remove_many(keys: &'a [&'a dyn AnyLookup]) -> Result<u64>;
    /// Removes `key` from every tier. Returns its value.
    fn take(key: &'a dyn AnyLookup) -> Result<Option<Value>>;
    /// Restarts the time to live of an entry. Returns whether it exists.
    fn touch(key: &'a Key) -> Result<bool>;
    /// Sets an entry to expire after `span`. Returns whether it exists.
    fn expire_in(key: &'a Key, span: Duration) -> Result<bool>;
    /// Sets an entry to expire at `time`. Returns whether it exists.
    fn expire_at(key: &'a Key, time: Time) -> Result<bool>;
    /// Expires an entry. It may still be served as stale.
    fn invalidate(key: &'a Key) -> Result<()>;
    /// Expires all entries with one of these tags.
    fn invalidate_tags(tags: Vec<Tag>) -> Result<()>;
    /// Expires all entries.
    fn invalidate_all() -> Result<()>;
    /// Returns the keys of all entries that may be served.
    fn keys(in_memory: Vec<Key>) -> Result<Vec<Key>>;
    /// Removes the entries that are over. Returns how many.
    fn sweep() -> Result<u64>;
    /// Returns the keys of the entries that have tags, with their tags.
    fn tagged_keys(in_memory: Vec<Key>) -> Result<Vec<TaggedKey>>;
    /// Removes every entry.
    fn clear() -> Result<()>;
    /// Writes buffered data of the tiers.
    fn flush() -> Result<()>;
    /// Writes the hottest keys down. Returns their number.
    fn snapshot() -> Result<u64>;
    /// Closes the cache.
    fn close() -> Result<()>;
    /// Closes the cache and removes what it has stored.
    fn destroy() -> Result<()>;
    /// Switches the cache on or off.
    fn set_enabled(enabled: bool) -> Result<()>;
}

impl Threads<'_> {
    /// Stores the bytes of a reader that may borrow.
    pub fn insert_from(self, key: Key, source: StreamSource<&mut dyn Read>) -> Result<Placement> {
        block_on(self.0.insert_from(key, source))
    }

    /// Lets a function that may borrow change the entry of `key`. Returns the value after it.
    pub fn compute_borrowed(self, key: Key, decide: &mut dyn Decide) -> Result<Option<Value>> {
        block_on(self.0.compute_borrowed(key, decide))
    }

    /// Decides what a caller that missed `key` in memory has to do. `error` is the error type of
    /// its loader.
    pub fn begin_load(self, key: Key, error: TypeId) -> Begun {
        block_on(self.0.begin_load::<Blocking>(key, error, None))
    }

    /// Begins to load the keys that are missing.
    pub fn begin_batch(self, keys: Vec<Key>, error: TypeId) -> Batch {
        block_on(Batch::begin::<Blocking>(self.0, keys, error))
    }
}

impl Load {
    /// Stores a value that a thread has loaded, and hands it to the waiters.
    pub fn finish(self, value: Value, options: EntryOptions) {
        block_on(self.store::<Blocking>(value, options));
    }

    /// As [`finish`](Self::finish), for a task.
    #[cfg(feature = "async")]
    pub fn finish_task(self, value: Value, options: EntryOptions) -> Boxed<'static, ()> {
        Box::pin(self.store::<Tokio>(value, options))
    }
}

/// One entry that a loader of many keys returned.
pub type AnsweredEntry = (Key, Value, EntryOptions);

impl Batch {
    /// Returns the keys that a thread has to load next. `None` if nothing is left to load.
    ///
    /// # Errors
    /// The error of another call's load.
    pub fn next_load(&mut self) -> Result<Option<BatchLoad>, AnyError> {
        block_on(self.next::<Blocking>(&None))
    }

    /// Stores what a thread has loaded.
    pub fn finish(&mut self, load: BatchLoad, answered: Vec<AnsweredEntry>) {
        block_on(self.store::<Blocking>(load, answered));
    }
}

/// Watches whether a loading task's call is polled.
#[cfg(feature = "async")]
pub type Watched = Option<Arc<PollWatch>>;

#[cfg(feature = "async")]
impl<'a> Tasks<'a> {
    /// Starts to watch a call that loads, on behalf of its waiters.
    pub fn watch(self) -> Watched {
        self.0.watch::<Tokio>()
    }

    /// As [`Threads::begin_load`].
    pub fn begin_load(self, key: Key, error: TypeId, watch: Watched) -> Boxed<'a, Begun> {
        Box::pin(self.0.begin_load::<Tokio>(key, error, watch))
    }

    /// As [`Threads::begin_batch`].
    pub fn begin_batch(self, keys: Vec<Key>, error: TypeId) -> Boxed<'a, Batch> {
        Box::pin(Batch::begin::<Tokio>(self.0, keys, error))
    }
}

#[cfg(feature = "async")]
impl Batch {
    /// As [`next_load`](Self::next_load), for a task.
    ///
    /// # Errors
    /// The error of another call's load.
    pub fn next_task_load<'a>(
        &'a mut self,
        watch: &'a Watched,
    ) -> Boxed<'a, Result<Option<BatchLoad>, AnyError>> {
        Box::pin(self.next::<Tokio>(watch))
    }

    /// As [`finish`](Self::finish), for a task.
    pub fn finish_task(&mut self, load: BatchLoad, answered: Vec<AnsweredEntry>) -> Boxed<'_, ()> {
        Box::pin(self.store::<Tokio>(load, answered))
    }
}
