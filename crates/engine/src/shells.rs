//! The two shells of the engine: for threads and for tasks.
//!
//! The engine is generic over how a caller waits. Here it is compiled for both, so that
//! a crate that uses a cache compiles none of it.

use std::any::TypeId;
use std::future::Future;
use std::io::Read;
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
use crate::load::detached::LoadRequest;
use crate::load::outcome::LoadError;
#[cfg(feature = "async")]
use crate::load::poll_watch::PollWatch;
use crate::load::{Begun, Load};
use crate::read::explain::{Entry, Explanation};
use crate::write::atomic::Increment;
use crate::write::stream::{BytesOf, EntryReader, OwnedReader, Source};
#[cfg(feature = "async")]
use larder_exec::runtime::Tokio;
use larder_exec::runtime::{Blocking, block_on};

/// The engine for a thread, which blocks where it stands.
#[derive(Clone, Copy)]
pub struct Threads<'a>(&'a Arc<Engine>);

/// The engine for a task of tokio.
#[cfg(feature = "async")]
#[derive(Clone, Copy)]
pub struct Tasks<'a>(&'a Arc<Engine>);

/// A future on the heap.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Engine {
    /// The engine for a thread.
    pub fn threads(self: &Arc<Self>) -> Threads<'_> {
        Threads(self)
    }

    /// The engine for a task.
    #[cfg(feature = "async")]
    pub fn tasks(self: &Arc<Self>) -> Tasks<'_> {
        Tasks(self)
    }
}

/// Writes the same verbs for both.
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
    /// The value of `key` beyond memory, for a caller that missed there.
    fn get(key: &'a dyn AnyLookup) -> Result<Option<Value>>;
    /// The values of keys that memory does not have, in their order.
    fn get_many(keys: &'a [&'a dyn AnyLookup]) -> Vec<Option<Value>>;
    /// Whether some tier has an entry for `key`.
    fn contains_key(key: &'a dyn AnyLookup) -> Result<bool>;
    /// The value with its provenance.
    fn inspect(key: &'a dyn AnyLookup) -> Result<Option<Entry<Value>>>;
    /// Where the entry of `key` is and why.
    fn explain(key: &'a dyn AnyLookup) -> Result<Explanation>;
    /// A reader of the value of `key`.
    fn open(key: &'a dyn AnyLookup, bytes_of: BytesOf) -> Result<Option<EntryReader>>;
    /// Stores a value and says where.
    fn insert(key: Key, value: Value, options: EntryOptions) -> Result<Placement>;
    /// Stores entries, and goes on where one fails.
    fn insert_many(entries: Vec<(Key, Value)>, options: EntryOptions) -> Result<()>;
    /// Stores a value unless there is an entry; whether it was stored.
    fn insert_if_absent(key: Key, value: Value, options: EntryOptions) -> Result<bool>;
    /// Stores what a reader gives.
    fn insert_from_owned(key: Key, source: Source<OwnedReader>) -> Result<Placement>;
    /// Adds to a counter, and returns the sum.
    fn increment(key: Key, increment: Increment) -> Result<Value>;
    /// The value of `key`; where it is missing, from a loader.
    fn load(key: Key, request: LoadRequest) -> Result<Option<Value>, LoadError<AnyError>>;
    /// Removes `key` everywhere; whether there was an entry that could be served.
    fn remove(key: &'a dyn AnyLookup) -> Result<bool>;
    /// Removes keys everywhere; how many were anywhere.
    fn remove_many(keys: &'a [&'a dyn AnyLookup]) -> Result<u64>;
    /// Removes `key` everywhere and returns its value.
    fn take(key: &'a dyn AnyLookup) -> Result<Option<Value>>;
    /// Begins the lifecycle of an entry anew; whether it was there.
    fn touch(key: &'a Key) -> Result<bool>;
    /// Has an entry live for `span` from now on; whether it was there.
    fn expire_in(key: &'a Key, span: Duration) -> Result<bool>;
    /// Has an entry live until `time`; whether it was there.
    fn expire_at(key: &'a Key, time: Time) -> Result<bool>;
    /// Ends the lifecycle of an entry, which may still serve as stale.
    fn invalidate(key: &'a Key) -> Result<()>;
    /// Ends the lifecycle of all entries with one of these tags.
    fn invalidate_tags(tags: Vec<Tag>) -> Result<()>;
    /// Ends the lifecycle of all entries.
    fn invalidate_all() -> Result<()>;
    /// The keys of all entries that may be served.
    fn keys(in_memory: Vec<Key>) -> Result<Vec<Key>>;
    /// Removes every entry.
    fn clear() -> Result<()>;
    /// Writes down what tiers have buffered.
    fn flush() -> Result<()>;
    /// Ends the cache.
    fn close() -> Result<()>;
    /// Ends the cache and removes what it stored.
    fn destroy() -> Result<()>;
    /// Switches the cache on or off.
    fn set_enabled(enabled: bool) -> Result<()>;
}

impl Threads<'_> {
    /// Stores what a reader gives that may borrow.
    pub fn insert_from(self, key: Key, source: Source<&mut dyn Read>) -> Result<Placement> {
        block_on(self.0.insert_from(key, source))
    }

    /// What a caller that missed in memory is to do about `key`. Its loader fails with
    /// errors of the type `error`.
    pub fn begin_load(self, key: Key, error: TypeId) -> Begun {
        block_on(self.0.begin_load::<Blocking>(key, error, None))
    }

    /// Begins to load the keys that are missing.
    pub fn begin_batch(self, keys: Vec<Key>, error: TypeId) -> Batch {
        block_on(Batch::begin::<Blocking>(self.0, keys, error))
    }
}

impl Load {
    /// Stores what a thread loaded, and hands it to those who wait.
    pub fn finish(self, value: Value, options: EntryOptions) {
        block_on(self.store::<Blocking>(value, options));
    }

    /// As [`finish`](Self::finish), for a task.
    #[cfg(feature = "async")]
    pub fn finish_task(self, value: Value, options: EntryOptions) -> Boxed<'static, ()> {
        Box::pin(self.store::<Tokio>(value, options))
    }
}

/// One entry of the answer of a loader of many keys.
pub type AnsweredEntry = (Key, Value, EntryOptions);

impl Batch {
    /// The keys that a thread is to load next; `None` when nothing is left to load.
    ///
    /// # Errors
    /// That of the load of another call.
    pub fn next_load(&mut self) -> Result<Option<BatchLoad>, AnyError> {
        block_on(self.next::<Blocking>(&None))
    }

    /// Stores what a thread loaded.
    pub fn finish(&mut self, load: BatchLoad, answered: Vec<AnsweredEntry>) {
        block_on(self.store::<Blocking>(load, answered));
    }
}

/// What a call of a task that loads is watched by: whether it is polled.
#[cfg(feature = "async")]
pub type Watched = Option<Arc<PollWatch>>;

#[cfg(feature = "async")]
impl<'a> Tasks<'a> {
    /// Watches a call that loads, for those who wait for it.
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
    /// That of the load of another call.
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
