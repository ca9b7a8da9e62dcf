//! Functions that return an iterator: items are passed on as they come, stored once the iterator has ended,
//! and replayed by later calls.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use larder_core::Bytes;
use larder_core::entry_meta::EntryOptions;
use larder_engine::WithOptions;

use super::bounds::{Kept, Keyed};
use super::handle::Handle;

/// The stored items of an iterator or a stream.
pub type Record<T> = Arc<Vec<T>>;

/// The most bytes that are recorded by default: 16 MiB.
pub const RECORD_BYTES: u64 = 16 << 20;

/// The recording of one call, which is stored when it is complete.
pub(super) struct Recording<K, T>
where
    K: Keyed,
    T: Send + Sync + 'static,
{
    pub(super) handle: &'static Handle<K, Record<T>>,
    key: K,
    items: Vec<T>,
    bytes: u64,
    bytes_max: u64,
    /// The options of the entry: its tags.
    pub(super) options: EntryOptions,
    /// The numbers of removals and invalidations when the call began.
    changes: [u64; 2],
}

impl<K, T> Recording<K, T>
where
    K: Keyed,
    T: Kept,
{
    pub(super) fn new(handle: &'static Handle<K, Record<T>>, key: K, bytes_max: u64) -> Self {
        let changes = handle.changes();
        Self { handle, key, items: Vec::new(), bytes: 0, bytes_max, options: EntryOptions::new(), changes }
    }

    /// Adds an item; `None` if the recording exceeds its limit, and nothing is stored.
    pub(super) fn with(mut self, item: &T) -> Option<Self> {
        self.bytes = self.bytes.saturating_add(bytes(item));
        if self.bytes >= self.bytes_max {
            return None;
        }
        self.items.push(item.clone());
        Some(self)
    }

    /// Returns the key and a loader of the record. The loader fails if something was removed or invalidated
    /// since the call began, since that may concern this entry. A removal while the loader runs supersedes
    /// its value.
    pub(super) fn complete(mut self) -> (K, impl FnOnce() -> Result<WithOptions<Record<T>>, Outdated>) {
        self.items.shrink_to_fit();
        let (handle, changes) = (self.handle, self.changes);
        let record = WithOptions(Arc::new(self.items), self.options);
        let load = move || if handle.changes() == changes { Ok(record) } else { Err(Outdated) };
        (self.key, load)
    }
}

/// Error: the record is older than a removal or an invalidation.
#[derive(Debug)]
pub(super) struct Outdated;

/// The weight of an item: its size, and its text or bytes on the heap.
fn bytes<T: 'static>(item: &T) -> u64 {
    let item_any: &dyn Any = item;
    let heap = if let Some(text) = item_any.downcast_ref::<String>() {
        text.len()
    } else if let Some(bytes) = item_any.downcast_ref::<Vec<u8>>() {
        bytes.len()
    } else if let Some(bytes) = item_any.downcast_ref::<Bytes>() {
        bytes.len()
    } else {
        0
    };
    (size_of::<T>() + heap) as u64
}

/// An iterator that records the items it yields, or replays a record.
pub struct Recorded<K, T, I>(State<K, T, I>)
where
    K: Keyed,
    T: Send + Sync + 'static;

enum State<K, T, I>
where
    K: Keyed,
    T: Send + Sync + 'static,
{
    Replay(Record<T>, usize),
    Run(I, Option<Recording<K, T>>),
    Ended,
}

/// Replays the cached items, or yields the items of `body`, which also returns the options of the entry.
pub fn replayed<K, T, I>(
    handle: Option<&'static Handle<K, Record<T>>>,
    key: K,
    bytes_max: u64,
    body: impl FnOnce() -> (EntryOptions, I),
) -> Recorded<K, T, I>
where
    K: Keyed,
    T: Kept,
    I: Iterator<Item = T>,
{
    let Some(handle) = handle else { return Recorded(State::Run(body().1, None)) };
    if let Some(record) = handle.cache().get(&key) {
        return Recorded(State::Replay(record, 0));
    }
    // The recording takes its counts before the function reads its data.
    let mut recording = Recording::new(handle, key, bytes_max);
    let (options, items) = body();
    recording.options = options;
    Recorded(State::Run(items, Some(recording)))
}

impl<K, T, I> Iterator for Recorded<K, T, I>
where
    K: Keyed,
    T: Kept,
    I: Iterator<Item = T>,
{
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            State::Replay(record, at) => {
                let item = record.get(*at).cloned();
                *at += 1;
                item
            }
            State::Run(items, recording) => match items.next() {
                Some(item) => {
                    *recording = recording.take().and_then(|recording| recording.with(&item));
                    Some(item)
                }
                None => {
                    let recording = recording.take();
                    self.0 = State::Ended;
                    store(recording);
                    None
                }
            },
            State::Ended => None,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            State::Replay(record, at) => {
                let left = record.len().saturating_sub(*at);
                (left, Some(left))
            }
            State::Run(items, _) => items.size_hint(),
            State::Ended => (0, Some(0)),
        }
    }
}

fn store<K, T>(recording: Option<Recording<K, T>>)
where
    K: Keyed,
    T: Kept,
{
    let Some(recording) = recording else { return };
    let handle = recording.handle;
    let (key, load) = recording.complete();
    if handle.cache().inner.load_in_thread((key, None), load).is_ok() {
        handle.stored();
    }
}

impl<K, T, I> fmt::Debug for Recorded<K, T, I>
where
    K: Keyed,
    T: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").finish_non_exhaustive()
    }
}
