//! Functions that return a stream: as with an iterator, without blocking.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use larder_core::entry_meta::EntryOptions;

use super::Boxed;
use crate::memo::attribute::bounds::{Kept, Keyed};
use crate::memo::attribute::handle::Handle;
use crate::memo::attribute::record::{Record, Recording};

/// A stream that records the items it yields, or replays a record.
pub struct RecordedStream<K, T, F, S>
where
    K: Keyed,
    T: Send + Sync + 'static,
{
    body: Option<F>,
    bytes_max: u64,
    state: State<K, T, S>,
}

enum State<K, T, S>
where
    K: Keyed,
    T: Send + Sync + 'static,
{
    /// Reads the cache, once this is polled.
    Look(Boxed<Found<K, T>>),
    Replay(Record<T>, usize),
    Run(Pin<Box<S>>, Option<Recording<K, T>>),
    Store(Boxed<()>),
    Ended,
}

/// The result of the look-up, and the state to record with on a miss.
enum Found<K, T>
where
    K: Keyed,
    T: Send + Sync + 'static,
{
    Record(Record<T>),
    Nothing(&'static Handle<K, Record<T>>, K),
    NoCache,
}

// Only boxed values in it are pinned.
impl<K, T, F, S> Unpin for RecordedStream<K, T, F, S>
where
    K: Keyed,
    T: Send + Sync + 'static,
{
}

/// Replays the cached items, or yields the items of the stream that `body` makes.
pub fn replayed<K, T, F, S>(
    open: impl Future<Output = Option<&'static Handle<K, Record<T>>>> + Send + 'static,
    key: K,
    bytes_max: u64,
    body: F,
) -> RecordedStream<K, T, F, S>
where
    K: Keyed,
    T: Kept,
    F: FnOnce() -> (EntryOptions, S),
    S: Stream<Item = T>,
{
    let look = async move {
        let Some(handle) = open.await else { return Found::NoCache };
        match handle.tasks().get(&key).await {
            Some(record) => Found::Record(record),
            None => Found::Nothing(handle, key),
        }
    };
    RecordedStream { body: Some(body), bytes_max, state: State::Look(Box::pin(look)) }
}

impl<K, T, F, S> RecordedStream<K, T, F, S>
where
    K: Keyed,
    T: Kept,
    F: FnOnce() -> (EntryOptions, S),
    S: Stream<Item = T>,
{
    fn begin(&mut self, found: Found<K, T>) -> State<K, T, S> {
        let mut recording = match found {
            Found::Record(record) => return State::Replay(record, 0),
            Found::Nothing(handle, key) => Some(Recording::new(handle, key, self.bytes_max)),
            Found::NoCache => None,
        };
        let Some((options, items)) = self.body.take().map(|body| body()) else { return State::Ended };
        if let Some(recording) = &mut recording {
            recording.options = options;
        }
        State::Run(Box::pin(items), recording)
    }
}

fn store<K, T>(recording: Recording<K, T>) -> Boxed<()>
where
    K: Keyed,
    T: Kept,
{
    let handle = recording.handle;
    let (key, load) = recording.complete();
    Box::pin(async move {
        if handle.tasks().inner.load_in_task(key, async { load() }).await.is_ok() {
            handle.stored();
        }
    })
}

impl<K, T, F, S> Stream for RecordedStream<K, T, F, S>
where
    K: Keyed,
    T: Kept,
    F: FnOnce() -> (EntryOptions, S),
    S: Stream<Item = T>,
{
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            match &mut self.state {
                State::Look(look) => {
                    let found = ready!(look.as_mut().poll(context));
                    self.state = self.begin(found);
                }
                State::Replay(record, at) => {
                    let item = record.get(*at).cloned();
                    *at += 1;
                    return Poll::Ready(item);
                }
                State::Run(items, recording) => match ready!(items.as_mut().poll_next(context)) {
                    Some(item) => {
                        *recording = recording.take().and_then(|recording| recording.with(&item));
                        return Poll::Ready(Some(item));
                    }
                    None => {
                        self.state = recording.take().map_or(State::Ended, |done| State::Store(store(done)))
                    }
                },
                State::Store(storing) => {
                    ready!(storing.as_mut().poll(context));
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl<K, T, F, S> fmt::Debug for RecordedStream<K, T, F, S>
where
    K: Keyed,
    T: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedStream").finish_non_exhaustive()
    }
}
