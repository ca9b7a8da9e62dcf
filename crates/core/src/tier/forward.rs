//! Forwarding from a layer to its inner tier. It is written here once, for every layer and pointer.
//!
//! The lint on the generated code makes the build fail if a method of a contract is not forwarded.

use std::borrow::Cow;

use super::{BatchItem, BoxFuture, Operation, TierKind, unsupported};
use crate::Result;

/// Makes a call on a borrowed batch, or on one that the future owns.
#[doc(hidden)]
pub fn batch<'a, I, K, A>(
    inner: &'a I,
    items: Cow<'a, [K]>,
    call: impl for<'b> Fn(&'b I, &'b [K]) -> BoxFuture<'b, Vec<Result<A>>> + Send + 'a,
) -> BoxFuture<'a, Vec<Result<A>>>
where
    I: Sync + ?Sized,
    K: BatchItem + 'a,
    A: 'a,
{
    match items {
        Cow::Borrowed(items) => call(inner, items),
        Cow::Owned(items) => Box::pin(async move { call(inner, &items).await }),
    }
}

/// The error of an operation that the inner tier does not have.
#[doc(hidden)]
pub fn refused<'a, A: Send + 'a>(tier: TierKind, operation: Operation) -> BoxFuture<'a, Result<A>> {
    Box::pin(std::future::ready(Err(unsupported(tier, operation))))
}

/// The error of an operation that the inner tier does not have, without a future.
#[doc(hidden)]
pub fn refused_now<A>(tier: TierKind, operation: Operation) -> Result<A> {
    Err(unsupported(tier, operation))
}

/// The errors of a batch that the inner tier does not have.
#[doc(hidden)]
pub fn refused_many<'a, A: Send + 'a>(
    tier: TierKind,
    operation: Operation,
    count: usize,
) -> BoxFuture<'a, Vec<Result<A>>> {
    Box::pin(std::future::ready((0..count).map(|_| Err(unsupported(tier, operation))).collect()))
}

/// Implements [`Tier`](super::Tier), [`StreamingTier`](super::StreamingTier), [`BlockingTier`](super::BlockingTier),
/// [`VersionedTier`](super::VersionedTier) and [`SharedTier`](super::SharedTier) for a
/// [`Layer`](super::Layer): each call reaches the inner tier through the layer. Takes the generic parameters in brackets, then the type.
#[macro_export]
macro_rules! forward_tier {
    ([$($generics:tt)*] $layer:ty) => {
        const _: () = {
            use ::std::option::Option::{self, None, Some};
            use ::std::primitive::{bool, u8, u64, usize};
            use ::std::sync::Arc;
            use ::std::time::Duration;
            use ::std::vec::Vec;

            use $crate::clock::Time;
            use $crate::frame::Frame;
            use $crate::key::EncodedKey;
            use $crate::stats::ServerFacts;
            use $crate::stream::Stored;
            use $crate::tier::{
                BlockingTier, BoxFuture, Call, Capability, ConditionalPut, EntryVersion, Layer, LoadLease, Operation,
                PartitionEpoch, PutOptions, RemovalCause, SharedTier, StreamingTier, Tier, TierKind, Upload, Usage,
                VersionedFrame, VersionedTier, forward::{batch, refused, refused_many, refused_now},
            };
            use $crate::{Bytes, Result};

            #[deny(clippy::missing_trait_methods, reason = "each method of a contract is forwarded")]
            impl<$($generics)*> Tier for $layer {
                fn kind(&self) -> TierKind {
                    Layer::inner(self).kind()
                }
                fn capability(&self) -> Capability {
                    Layer::declared_capability(self)
                }
                fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
                    let inner = Layer::inner(self);
                    self.around(Call::of(Operation::Get, key), move || inner.get(key))
                }
                fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
                    let inner = Layer::inner(self);
                    self.around(Call::of(Operation::Head, key), move || inner.head(key))
                }
                fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
                    let inner = Layer::inner(self);
                    let call = Call::of(Operation::Put, key).writing(frame.len());
                    self.around(call, move || inner.put(key, frame))
                }
                fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
                    let inner = Layer::inner(self);
                    self.around(Call::of(Operation::Remove, key), move || inner.remove(key))
                }
                fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
                    let inner = Layer::inner(self);
                    self.around(Call::of(Operation::Contains, key), move || inner.contains(key))
                }
                fn clear(&self) -> BoxFuture<'_, Result<()>> {
                    let inner = Layer::inner(self);
                    self.around(Call::new(Operation::Clear), move || inner.clear())
                }
                fn scan<'a>(
                    &'a self,
                    visit: &'a mut (dyn FnMut(&[u8]) + Send),
                ) -> BoxFuture<'a, Result<()>> {
                    let inner = Layer::inner(self);
                    self.around(Call::new(Operation::Scan), move || inner.scan(visit))
                }
                fn usage(&self) -> Usage {
                    Layer::inner(self).usage()
                }
                fn flush(&self) -> BoxFuture<'_, Result<()>> {
                    let inner = Layer::inner(self);
                    self.around(Call::new(Operation::Flush), move || inner.flush())
                }
                fn close(&self) -> BoxFuture<'_, Result<()>> {
                    let inner = Layer::inner(self);
                    self.around(Call::new(Operation::Close), move || inner.close())
                }
                fn destroy(&self) -> BoxFuture<'_, Result<()>> {
                    let inner = Layer::inner(self);
                    self.around(Call::new(Operation::Destroy), move || inner.destroy())
                }
                fn get_many<'a>(
                    &'a self,
                    keys: &'a [EncodedKey],
                ) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
                    let (inner, call) =
                        (Layer::inner(self), Call::of_many(Operation::GetMany, keys.len()));
                    self.around_many(call, keys, move |keys| {
                        batch(inner, keys, |inner, keys| inner.get_many(keys))
                    })
                }
                fn put_many<'a>(
                    &'a self,
                    entries: &'a [(EncodedKey, Frame)],
                ) -> BoxFuture<'a, Vec<Result<()>>> {
                    let (inner, call) =
                        (Layer::inner(self), Call::of_many(Operation::PutMany, entries.len()));
                    self.around_many(call, entries, move |entries| {
                        batch(inner, entries, |inner, entries| inner.put_many(entries))
                    })
                }
                fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
                    let (inner, call) =
                        (Layer::inner(self), Call::of_many(Operation::RemoveMany, keys.len()));
                    self.around_many(call, keys, move |keys| {
                        batch(inner, keys, |inner, keys| inner.remove_many(keys))
                    })
                }
                fn lacks(&self, key: &EncodedKey) -> bool {
                    Layer::inner(self).lacks(key)
                }
                fn servers(&self) -> Vec<ServerFacts> {
                    Layer::inner(self).servers()
                }
                fn trouble(&self) -> Option<Arc<str>> {
                    Layer::inner(self).trouble()
                }
                fn healthy(&self) -> bool {
                    Layer::is_usable(self)
                }
                fn streaming(&self) -> Option<&dyn StreamingTier> {
                    Layer::inner_streaming(self).map(|_| self as &dyn StreamingTier)
                }
                fn blocking(&self) -> Option<&dyn BlockingTier> {
                    Layer::inner_blocking(self).map(|_| self as &dyn BlockingTier)
                }
                fn versioned(&self) -> Option<&dyn VersionedTier> {
                    Layer::inner(self).versioned().map(|_| self as &dyn VersionedTier)
                }
                fn shared(&self) -> Option<&dyn SharedTier> {
                    Layer::inner(self).shared().map(|_| self as &dyn SharedTier)
                }
            }

            #[deny(clippy::missing_trait_methods, reason = "each method of a contract is forwarded")]
            impl<$($generics)*> StreamingTier for $layer {
                fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
                    let (kind, inner) = (self.kind(), Layer::inner_streaming(self));
                    self.around(Call::of(Operation::Open, key), move || match inner {
                        Some(inner) => inner.open(key),
                        None => refused(kind, Operation::Open),
                    })
                }
                fn begin_upload<'a>(
                    &'a self,
                    key: &'a EncodedKey,
                    head_len: usize,
                ) -> BoxFuture<'a, Result<Upload>> {
                    let (kind, inner) = (self.kind(), Layer::inner_streaming(self));
                    self.around(Call::of(Operation::BeginUpload, key), move || match inner {
                        Some(inner) => inner.begin_upload(key, head_len),
                        None => refused(kind, Operation::BeginUpload),
                    })
                }
                fn append<'a>(
                    &'a self,
                    upload: &'a mut Upload,
                    bytes: &'a [u8],
                ) -> BoxFuture<'a, Result<()>> {
                    let (kind, inner) = (self.kind(), Layer::inner_streaming(self));
                    let call = Call::new(Operation::Append).writing(bytes.len());
                    self.around(call, move || match inner {
                        Some(inner) => inner.append(upload, bytes),
                        None => refused(kind, Operation::Append),
                    })
                }
                fn publish<'a>(
                    &'a self,
                    key: &'a EncodedKey,
                    upload: Upload,
                    head: &'a [u8],
                ) -> BoxFuture<'a, Result<()>> {
                    let (kind, inner) = (self.kind(), Layer::inner_streaming(self));
                    let call = Call::of(Operation::Publish, key).writing(head.len());
                    self.around(call, move || match inner {
                        Some(inner) => inner.publish(key, upload, head),
                        None => refused(kind, Operation::Publish),
                    })
                }
            }

            #[deny(clippy::missing_trait_methods, reason = "each method of a contract is forwarded")]
            impl<$($generics)*> BlockingTier for $layer {
                fn get_blocking(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
                    let inner = Layer::inner_blocking(self);
                    self.around_blocking(Call::of(Operation::Get, key), move || match inner {
                        Some(inner) => inner.get_blocking(key),
                        None => refused_now(self.kind(), Operation::Get),
                    })
                }
                fn put_blocking(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
                    let inner = Layer::inner_blocking(self);
                    let call = Call::of(Operation::Put, key).writing(frame.len());
                    self.around_blocking(call, move || match inner {
                        Some(inner) => inner.put_blocking(key, frame),
                        None => refused_now(self.kind(), Operation::Put),
                    })
                }
                fn remove_blocking(&self, key: &EncodedKey) -> Result<bool> {
                    let inner = Layer::inner_blocking(self);
                    self.around_blocking(Call::of(Operation::Remove, key), move || match inner {
                        Some(inner) => inner.remove_blocking(key),
                        None => refused_now(self.kind(), Operation::Remove),
                    })
                }
            }

            #[deny(clippy::missing_trait_methods, reason = "each method of a contract is forwarded")]
            impl<$($generics)*> VersionedTier for $layer {
                fn version(&self, key: &EncodedKey) -> Option<EntryVersion> {
                    Layer::inner(self).versioned()?.version(key)
                }
                fn compare_and_set<'a>(
                    &'a self,
                    key: &'a EncodedKey,
                    frame: &'a Frame,
                    options: PutOptions,
                ) -> BoxFuture<'a, Result<bool>> {
                    let (kind, inner) = (self.kind(), Layer::inner(self).versioned());
                    let call = Call::of(Operation::CompareAndSet, key).writing(frame.len());
                    self.around(call, move || match inner {
                        Some(inner) => inner.compare_and_set(key, frame, options),
                        None => refused(kind, Operation::CompareAndSet),
                    })
                }
            }

            #[deny(clippy::missing_trait_methods, reason = "each method of a contract is forwarded")]
            impl<$($generics)*> SharedTier for $layer {
                fn get_versioned<'a>(
                    &'a self,
                    key: &'a EncodedKey,
                ) -> BoxFuture<'a, Result<VersionedFrame>> {
                    let (kind, inner) = (self.kind(), Layer::inner(self).shared());
                    self.around(Call::of(Operation::GetVersioned, key), move || match inner {
                        Some(inner) => inner.get_versioned(key),
                        None => refused(kind, Operation::GetVersioned),
                    })
                }
                fn get_many_versioned<'a>(
                    &'a self,
                    keys: &'a [EncodedKey],
                ) -> BoxFuture<'a, Vec<Result<VersionedFrame>>> {
                    let (kind, inner) = (self.kind(), Layer::inner(self).shared());
                    let call = Call::of_many(Operation::GetManyVersioned, keys.len());
                    self.around_many(call, keys, move |keys| match inner {
                        Some(inner) => batch(inner, keys, |inner, keys| inner.get_many_versioned(keys)),
                        None => refused_many(kind, Operation::GetManyVersioned, keys.len()),
                    })
                }
                fn compare_and_set<'a>(
                    &'a self,
                    key: &'a EncodedKey,
                    frame: &'a Frame,
                    options: PutOptions,
                ) -> BoxFuture<'a, Result<bool>> {
                    let (kind, inner) = (self.kind(), Layer::inner(self).shared());
                    let call = Call::of(Operation::CompareAndSet, key).writing(frame.len());
                    self.around(call, move || match inner {
                        Some(inner) => inner.compare_and_set(key, frame, options),
                        None => refused(kind, Operation::CompareAndSet),
                    })
                }
                fn compare_and_set_many<'a>(
                    &'a self,
                    puts: &'a [ConditionalPut],
                ) -> BoxFuture<'a, Vec<Result<bool>>> {
                    let (kind, inner) = (self.kind(), Layer::inner(self).shared());
                    let call = Call::of_many(Operation::CompareAndSetMany, puts.len());
                    self.around_many(call, puts, move |puts| match inner {
                        Some(inner) => batch(inner, puts, |inner, puts| inner.compare_and_set_many(puts)),
                        None => refused_many(kind, Operation::CompareAndSetMany, puts.len()),
                    })
                }
                fn compare_and_remove<'a>(
                    &'a self,
                    key: &'a EncodedKey,
                    if_version: EntryVersion,
                    cause: RemovalCause,
                ) -> BoxFuture<'a, Result<bool>> {
                    let (kind, inner) = (self.kind(), Layer::inner(self).shared());
                    self.around(Call::of(Operation::CompareAndRemove, key), move || match inner {
                        Some(inner) => inner.compare_and_remove(key, if_version, cause),
                        None => refused(kind, Operation::CompareAndRemove),
                    })
                }
                fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
                    let (kind, inner) = (self.kind(), Layer::inner(self).shared());
                    self.around(Call::of(Operation::Take, key), move || match inner {
                        Some(inner) => inner.take(key),
                        None => refused(kind, Operation::Take),
                    })
                }
                fn lease_load<'a>(
                    &'a self,
                    key: &'a EncodedKey,
                    span: Duration,
                ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
                    let (kind, inner) = (self.kind(), Layer::inner(self).shared());
                    self.around(Call::of(Operation::LeaseLoad, key), move || match inner {
                        Some(inner) => inner.lease_load(key, span),
                        None => refused(kind, Operation::LeaseLoad),
                    })
                }
                fn lease_loads<'a>(
                    &'a self,
                    keys: &'a [EncodedKey],
                    span: Duration,
                ) -> BoxFuture<'a, Vec<Result<Option<LoadLease>>>> {
                    let (kind, inner) = (self.kind(), Layer::inner(self).shared());
                    let call = Call::of_many(Operation::LeaseLoads, keys.len());
                    self.around_many(call, keys, move |keys| match inner {
                        Some(inner) => batch(inner, keys, move |inner, keys| inner.lease_loads(keys, span)),
                        None => refused_many(kind, Operation::LeaseLoads, keys.len()),
                    })
                }
                fn release_loads(&self, leases: Vec<(EncodedKey, u64)>) {
                    if let Some(inner) = Layer::inner(self).shared() {
                        inner.release_loads(leases);
                    }
                }
                fn epoch(&self, key: &EncodedKey) -> PartitionEpoch {
                    Layer::inner(self).shared().map_or_else(PartitionEpoch::default, |inner| inner.epoch(key))
                }
                fn server_time(&self, key: &EncodedKey) -> Option<Time> {
                    Layer::inner(self).shared()?.server_time(key)
                }
                fn removals_remembered(&self) -> Duration {
                    Layer::inner(self).shared().map_or(Duration::ZERO, |inner| inner.removals_remembered())
                }
            }
        };
    };
}

forward_tier!([T: Tier + ?Sized] Arc<T>);
forward_tier!([T: Tier + ?Sized] Box<T>);
