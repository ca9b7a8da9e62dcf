//! Functions that answer with an iterator: handed out as it comes, stored when
//! its end is reached, replayed after.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use larder_core::Bytes;
use larder_core::entry_meta::EntryOptions;
use larder_engine::WithOptions;

use super::bounds::{Kept, Keyed};
use super::handle::Handle;

/// The items of an iterator or a stream, as they are stored.
pub type Record<T> = Arc<Vec<T>>;

/// The most bytes that are recorded where nothing else is said: 16 MiB.
pub const RECORD_BYTES: u64 = 16 << 20;

/// The items of one call so far, to be stored when they are complete.
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
    /// What is to be said of the record.
    pub(super) options: EntryOptions,
    /// How often something had been taken out or invalidated when the call began.
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

    /// Takes one more item; `None` when that is too much, and nothing will be stored.
    pub(super) fn with(mut self, item: &T) -> Option<Self> {
        self.bytes = self.bytes.saturating_add(bytes(item));
        if self.bytes >= self.bytes_max {
            return None;
        }
        self.items.push(item.clone());
        Some(self)
    }

    /// The key, and a loader of the whole record: it refuses when something was
    /// taken out since the call began, for it may have been this entry. What is
    /// taken out while the loader runs supersedes it.
    pub(super) fn complete(mut self) -> (K, impl FnOnce() -> Result<WithOptions<Record<T>>, Outdated>) {
        self.items.shrink_to_fit();
        let (handle, changes) = (self.handle, self.changes);
        let record = WithOptions(Arc::new(self.items), self.options);
        let load = move || if handle.changes() == changes { Ok(record) } else { Err(Outdated) };
        (self.key, load)
    }
}

/// The record is older than a change.
#[derive(Debug)]
pub(super) struct Outdated;

/// What an item counts with: its size, and its text or bytes on the heap.
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

/// An iterator that records what it hands out, or replays what was recorded.
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

/// The items of the cache, or those of `body` as they come, which says also
/// what is to be said of the record.
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
    // What the recording remembers comes before what the function reads.
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
    if handle.cache().inner.load_here(key, load).is_ok() {
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
