//! The tier: one object a frame.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, Peekable, StreamExt, TryStreamExt};
use larder_core::frame::{self, FIXED_LEN, Frame};
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Error, ErrorKind, Result};
use opendal::{Entry, Lister, Operator};

use crate::failure::{closed, failed, is_unanswered, timed_out};
use crate::io_thread::TierThread;
use crate::names::Names;
use crate::writes::{ANSWER_WITHIN, Ended, ObjectWrites, within};

/// Calls of a batch or a scan that are made at one time.
const AT_ONCE: usize = 16;
/// How often a list is begun.
const LISTS_MAX: usize = 3;
/// How often an object is read, and the pause before the second time.
const READS_MAX: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(10);
/// How long the objects are counted when the tier is opened.
const COUNT_WITHIN: Duration = Duration::from_secs(10);
/// Bytes that a scan reads of each object at first. Most heads are shorter.
const HEAD_LEN: u64 = 4 << 10;

/// A tier over the objects of a service. [`ObjectStorage`](crate::ObjectStorage) opens it.
///
/// A frame is one object, so a write replaces it as a whole, if the service writes objects as a whole. A
/// thread of the tier drives its connections.
pub struct OpendalTier {
    kind: TierKind,
    capability: Capability,
    objects: Objects,
    thread: TierThread,
    is_closed: AtomicBool,
}

/// The objects of a tier. Clones share them.
#[derive(Clone)]
struct Objects {
    operator: Operator,
    names: Names,
    writes: Arc<ObjectWrites>,
}

impl std::fmt::Debug for OpendalTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpendalTier").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Waits for the writes in progress, so that none of them overtakes one of the next tier.
impl Drop for OpendalTier {
    fn drop(&mut self) {
        if !self.is_closed.load(Ordering::Acquire) {
            let writes = Arc::clone(&self.objects.writes);
            // It only waits, so it does not fail.
            let _waited = self.thread.wait(async move { writes.alone(async { Ok(()) }).await });
        }
    }
}

impl OpendalTier {
    pub(crate) fn open(
        (kind, capability): (TierKind, Capability),
        operator: Operator,
        names: Names,
    ) -> Result<Self> {
        let objects = Objects { operator, names, writes: Arc::new(ObjectWrites::new()) };
        let thread = TierThread::start(kind.name())?;
        let tier = Self { kind, capability, objects, thread, is_closed: AtomicBool::new(false) };
        tier.count();
        Ok(tier)
    }

    /// Counts the objects. If they cannot be listed, there may be some.
    fn count(&self) {
        let objects = self.objects.clone();
        let counted = async move {
            let counted = tokio::time::timeout(COUNT_WITHIN, objects.count()).await;
            counted.unwrap_or_else(|_| Err(timed_out()))
        };
        if let Err(error) = self.thread.wait(counted) {
            self.objects.writes.reset(true);
            tracing::warn!(target: "larder", tier = %self.kind, %error, "the objects of a tier cannot be listed");
        }
    }

    /// Carries a call out on the thread of the tier.
    fn call<'a, T: Send + 'static>(
        &'a self,
        operation: &'static str,
        call: impl FnOnce(Objects) -> BoxFuture<'static, Result<T>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            let outcome = match self.is_closed.load(Ordering::Acquire) {
                true => Err(closed()),
                false => self.thread.run(call(self.objects.clone())).await,
            };
            outcome.map_err(|error| error.in_tier(self.kind).during(operation))
        })
    }

    /// Makes a call for each item of a batch, several at one time, in their order.
    async fn each<'a, I, T: Send>(
        &'a self,
        items: &'a [I],
        call: impl Fn(&'a I) -> BoxFuture<'a, Result<T>>,
    ) -> Vec<Result<T>> {
        stream::iter(items.iter().map(call).collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
    }

    fn check_len(&self, frame: &Frame) -> Result<()> {
        let (len, max) = (frame.len() as u64, self.capability.frame_bytes_max);
        if len <= max {
            return Ok(());
        }
        let message = format!("{len} bytes, allowed {max}");
        Err(Error::new(ErrorKind::TooLarge, message).in_tier(self.kind).during("put"))
    }
}

impl Objects {
    /// Reads an object, or its first bytes.
    async fn read(&self, path: &str, first: Option<u64>) -> Result<Option<Bytes>> {
        let read = || async {
            match first {
                Some(len) => self.operator.read_with(path).range(..len).await,
                None => self.operator.read(path).await,
            }
        };
        match repeated(read).await {
            Ok(bytes) => Ok(Some(bytes.to_bytes())),
            Err(Ended::Failed(error)) if error.kind() == opendal::ErrorKind::NotFound => Ok(None),
            Err(ended) => Err(ended.into_error()),
        }
    }

    /// Reads the head of a frame.
    async fn head(&self, path: &str, len: u64) -> Result<Option<Bytes>> {
        // A range beyond the end of an object is an error for some services.
        let Some(front) = self.read(path, Some(len.min(HEAD_LEN))).await? else { return Ok(None) };
        let head = frame::lens(&front).map_or(0, |lens| lens.head);
        if head <= front.len() as u64 || len <= HEAD_LEN {
            return Ok(Some(front));
        }
        self.read(path, Some(head.min(len))).await
    }

    /// The length of an object. `None` if there is none.
    async fn len(&self, path: &str) -> std::result::Result<Option<u64>, Ended> {
        match repeated(|| self.operator.stat(path)).await {
            Ok(meta) => Ok(Some(meta.content_length())),
            Err(Ended::Failed(error)) if error.kind() == opendal::ErrorKind::NotFound => Ok(None),
            Err(ended) => Err(ended),
        }
    }

    async fn put(self, digest: u128, path: String, bytes: Vec<u8>) -> Result<()> {
        let (writes, len) = (Arc::clone(&self.writes), bytes.len() as u64);
        writes
            .write(digest, async move {
                within(self.operator.write(&path, bytes)).await?;
                self.writes.stored(digest, len);
                Ok(())
            })
            .await
    }

    async fn remove(self, digest: u128, path: String) -> Result<bool> {
        let writes = Arc::clone(&self.writes);
        writes
            .write(digest, async move {
                if self.len(&path).await?.is_none() {
                    self.writes.removed(digest);
                    return Ok(false);
                }
                within(self.operator.delete(&path)).await?;
                self.writes.removed(digest);
                Ok(true)
            })
            .await
    }

    /// Every object of the tier, page by page.
    async fn list(&self) -> Result<impl futures_util::Stream<Item = Result<Entry>> + Send + use<>> {
        let names = self.names.clone();
        let mut lister = self.lister().await?;
        for _ in 1..LISTS_MAX {
            // A list that failed before its first object can begin again.
            match tokio::time::timeout(ANSWER_WITHIN, lister.as_mut().peek()).await {
                Ok(Some(Err(error))) if error.is_temporary() => lister = self.lister().await?,
                Ok(_) => break,
                Err(_) => return Err(timed_out()),
            }
        }
        Ok(lister.map_err(failed).try_filter(move |entry| {
            let is_ours = entry.metadata().is_file() && names.is_ours(entry.path());
            std::future::ready(is_ours)
        }))
    }

    async fn lister(&self) -> Result<Pin<Box<Peekable<Lister>>>> {
        let lister = self.operator.lister_with(self.names.folder()).recursive(true).into_future();
        Ok(Box::pin(within(lister).await.map_err(Ended::into_error)?.peekable()))
    }

    async fn count(&self) -> Result<()> {
        let mut list = Box::pin(self.list().await?);
        while let Some(entry) = next(&mut list).await? {
            let len = match entry.metadata().content_length() {
                // Some services do not list lengths.
                0 => self.len(entry.path()).await.map_err(Ended::into_error)?.unwrap_or(0),
                len => len,
            };
            let digest: String = entry.path().chars().rev().filter(|c| *c != '/').take(32).collect();
            let digest: String = digest.chars().rev().collect();
            self.writes.stored(u128::from_str_radix(&digest, 16).unwrap_or(0), len);
        }
        Ok(())
    }

    /// Removes every object.
    async fn clear(self) -> Result<()> {
        let writes = Arc::clone(&self.writes);
        writes
            .alone(async {
                let mut list = Box::pin(self.list().await?);
                let mut deleter = within(self.operator.deleter()).await.map_err(Ended::into_error)?;
                while let Some(entry) = next(&mut list).await? {
                    within(deleter.delete(entry.path())).await.map_err(Ended::into_error)?;
                }
                within(deleter.close()).await.map_err(Ended::into_error)?;
                self.writes.reset(false);
                Ok(())
            })
            .await
    }

    /// The heads of a page of objects, as far as they can be read.
    async fn heads(self, entries: Vec<Entry>) -> Vec<Bytes> {
        let heads = entries.into_iter().map(|entry| {
            let objects = self.clone();
            async move {
                let len = match entry.metadata().content_length() {
                    0 => objects.len(entry.path()).await.ok()??,
                    len => len,
                };
                objects.head(entry.path(), len).await.ok()?
            }
        });
        let heads: Vec<_> = heads.collect();
        stream::iter(heads).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }
}

/// Makes a call that changes nothing, and again if the service says that it may succeed then.
async fn repeated<T, F>(call: impl Fn() -> F) -> std::result::Result<T, Ended>
where
    F: Future<Output = std::result::Result<T, opendal::Error>>,
{
    for attempt in 1..READS_MAX {
        match within(call()).await {
            Err(Ended::Failed(error)) if is_to_be_repeated(&error) => {
                tokio::time::sleep(READ_PAUSE * attempt).await;
            }
            ended => return ended,
        }
    }
    within(call()).await
}

/// Whether the service answered with an error that passes. One that wants less to do gets that.
fn is_to_be_repeated(error: &opendal::Error) -> bool {
    error.is_temporary() && !is_unanswered(error) && error.kind() != opendal::ErrorKind::RateLimited
}

/// The next object of a list, unless the service takes too long.
async fn next<S>(list: &mut S) -> Result<Option<Entry>>
where
    S: futures_util::Stream<Item = Result<Entry>> + Unpin,
{
    match tokio::time::timeout(ANSWER_WITHIN, list.try_next()).await {
        Ok(entry) => entry,
        Err(_) => Err(timed_out()),
    }
}

fn boxed<T>(call: impl Future<Output = Result<T>> + Send + 'static) -> BoxFuture<'static, Result<T>> {
    Box::pin(call)
}

impl Tier for OpendalTier {
    fn kind(&self) -> TierKind {
        self.kind
    }

    fn capability(&self) -> Capability {
        self.capability
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.call("get", move |objects| {
            let path = objects.names.of(key);
            boxed(async move { objects.read(&path, None).await })
        })
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.call("contains", move |objects| {
            let path = objects.names.of(key);
            boxed(async move { Ok(objects.len(&path).await.map_err(Ended::into_error)?.is_some()) })
        })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        if let Err(error) = self.check_len(frame) {
            return Box::pin(std::future::ready(Err(error)));
        }
        self.call("put", move |objects| {
            let (digest, path) = (key.digest(), objects.names.of(key));
            boxed(objects.put(digest, path, frame.to_vec()))
        })
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.call("remove", move |objects| {
            let (digest, path) = (key.digest(), objects.names.of(key));
            boxed(objects.remove(digest, path))
        })
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.call("clear", |objects| boxed(objects.clear()))
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let list = self.call("scan", |objects| {
                boxed(async move { Ok(Box::pin(objects.list().await?.chunks(AT_ONCE))) })
            });
            let mut pages = list.await?;
            loop {
                let page = self.call("scan", |objects| {
                    boxed(async move {
                        let Some(page) = pages.next().await else { return Ok(None) };
                        let entries = page.into_iter().collect::<Result<Vec<_>>>()?;
                        Ok(Some((objects.heads(entries).await, pages)))
                    })
                });
                let Some((heads, rest)) = page.await? else { return Ok(()) };
                pages = rest;
                heads.iter().filter(|head| head.len() >= FIXED_LEN).for_each(|head| visit(head));
            }
        })
    }

    fn usage(&self) -> Usage {
        match self.is_closed.load(Ordering::Acquire) {
            true => Usage::default(),
            false => self.objects.writes.usage(),
        }
    }

    /// Waits for the writes in progress. One that was acknowledged is durable.
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.call("flush", |objects| boxed(async move { objects.writes.alone(async { Ok(()) }).await }))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.is_closed.load(Ordering::Acquire) {
                return Ok(());
            }
            let ended = self.flush().await;
            self.is_closed.store(true, Ordering::Release);
            self.thread.stop();
            ended
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
        Box::pin(self.each(keys, |key| self.get(key)))
    }

    fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(self.each(entries, |(key, frame)| self.put(key, frame)))
    }

    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(self.each(keys, |key| self.remove(key)))
    }
}
