//! The observability layer: counts and times the calls of a tier, and puts them into
//! spans.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use larder_core::Result;
use larder_core::key::EncodedKey;
use larder_core::latency::{Histogram, TierTimes};
use larder_core::place::{Lesson, Selector};
use larder_core::stats::TierCounters;
use larder_core::tier::{
    BatchItem, BlockingTier, BoxFuture, Call, Layer, Operation, Tier, TierReply, forward_tier,
};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::breaker::Refused;
use super::lazy;
use larder_exec::uncancellable;

/// A tier whose calls are counted and timed, each in a span.
///
/// A tier that blocks is never called on an executor: the task moves to a thread that may
/// block first, unless the tier surely [lacks](Tier::lacks) the key.
///
/// Costs two clock reads and three atomic additions a call, and a check whether spans are
/// enabled.
pub struct Observe<T> {
    tier: T,
    blocks: bool,
    counters: Arc<TierCounters>,
    /// The selector, if it learns from the times.
    pupil: OnceLock<Arc<dyn Selector>>,
}

impl<T: Tier> Observe<T> {
    /// Counts the calls of `tier` in `counters`.
    pub fn new(tier: T, counters: Arc<TierCounters>) -> Self {
        Self { blocks: tier.capability().blocking, tier, counters, pupil: OnceLock::new() }
    }

    /// Tells this selector how long reads and writes take.
    pub(crate) fn teach(&self, selector: &Arc<dyn Selector>) {
        let _first_counts = self.pupil.set(Arc::clone(selector));
    }

    fn lesson<A: TierReply>(&self, call: &Call<'_>, time: Duration, answer: &A) {
        use Operation as Of;
        let (Some(pupil), tier) = (self.pupil.get(), self.tier.kind()) else { return };
        match call.operation {
            Of::Get | Of::GetVersioned if answer.is_yes() == Some(true) => {
                pupil.learn(Lesson::Read { tier, bytes: answer.bytes(), time });
            }
            Of::Put | Of::CompareAndSet if answer.is_yes() != Some(false) => {
                pupil.learn(Lesson::Written { tier, bytes: call.bytes, time });
            }
            _ => {}
        }
    }

    /// Returns the wrapped tier.
    pub(crate) fn guarded(&self) -> &T {
        &self.tier
    }

    /// As [`around`](Layer::around), without a box.
    pub(super) async fn observed<A: TierReply>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Result<A>> + Send,
    ) -> Result<A> {
        if matches!(call.operation, Operation::Append | Operation::Destroy) {
            return self.note(call.operation, call.bytes, made.await);
        }
        if let Some(absent) = self.spared(&call) {
            return Ok(absent);
        }
        self.leave_executor().await;
        self.watch(call, made).await
    }

    /// As [`around_many`](Layer::around_many), without a box.
    pub(super) async fn observed_many<K: BatchItem, A: TierReply>(
        &self,
        call: Call<'_>,
        items: &[K],
        made: impl Future<Output = Vec<Result<A>>> + Send,
    ) -> Vec<Result<A>> {
        if self.spares_all(&call, items)
            && let Some(absent) = items.iter().map(|_| A::absent()).collect::<Option<Vec<A>>>()
        {
            absent.iter().for_each(|absent| self.count(call.operation, 0, absent));
            return absent.into_iter().map(Ok).collect();
        }
        self.leave_executor().await;
        self.watch_many(call, items, made).await
    }

    /// Runs a call in its span, times it, and counts its outcome.
    async fn watch<A: TierReply>(&self, call: Call<'_>, made: impl Future<Output = Result<A>>) -> Result<A> {
        let span = self.span(&call);
        let started = Instant::now();
        let result = within(&span, made).await;
        self.ended(&call, &span, started, result)
    }

    /// Times a call that has ended, and counts its outcome.
    fn ended<A: TierReply>(
        &self,
        call: &Call<'_>,
        span: &Span,
        started: Instant,
        result: Result<A>,
    ) -> Result<A> {
        if !result.as_ref().is_err_and(is_refusal) {
            let time = self.time(call.operation, started);
            if let Ok(answer) = &result {
                self.lesson(call, time, answer);
            }
        }
        if span.is_disabled() {
            return self.note(call.operation, call.bytes, result);
        }
        span.record("outcome", outcome(call.operation, &result));
        span.in_scope(|| self.note(call.operation, call.bytes, result))
    }

    /// Runs a batch as [`watch`](Self::watch) does, with one span and one time for all.
    async fn watch_many<K: BatchItem, A: TierReply>(
        &self,
        call: Call<'_>,
        items: &[K],
        made: impl Future<Output = Vec<Result<A>>>,
    ) -> Vec<Result<A>> {
        let span = self.span(&call);
        let started = Instant::now();
        let results = within(&span, made).await;
        if !results.iter().all(|result| result.as_ref().is_err_and(is_refusal)) {
            self.time(call.operation, started);
        }
        let failed = results.iter().any(Result::is_err);
        span.record("outcome", if failed { "failed" } else { "done" });
        let _entered = span.entered();
        let results = results.into_iter().zip(items);
        results.map(|(result, item)| self.note(call.operation, item.bytes(), result)).collect()
    }

    /// Returns the answer of a call that can be skipped: the tier surely lacks the key, and the
    /// call would have to leave the executor.
    fn spared<A: TierReply>(&self, call: &Call<'_>) -> Option<A> {
        let may_be_spared = matches!(call.operation, Operation::Get | Operation::Head | Operation::Remove);
        let key = call.key.filter(|_| may_be_spared)?;
        if !self.spares(key) {
            return None;
        }
        let absent = A::absent()?;
        self.count(call.operation, 0, &absent);
        Some(absent)
    }

    fn spares(&self, key: &EncodedKey) -> bool {
        self.blocks && !uncancellable::may_block() && self.tier.lacks(key)
    }

    fn spares_all<K: BatchItem>(&self, call: &Call<'_>, items: &[K]) -> bool {
        call.operation == Operation::GetMany && items.iter().all(|item| self.spares(item.key()))
    }

    /// Moves the task to a thread that may block, if the tier blocks.
    async fn leave_executor(&self) {
        if self.blocks {
            uncancellable::on_a_thread().await;
        }
    }

    fn span(&self, call: &Call<'_>) -> Span {
        let span = tracing::trace_span!(
            target: "larder", "larder.tier",
            cache = self.counters.signals.cache(), tier = %self.tier.kind(), operation = call.operation.name(),
            keys = call.keys, key = Empty, outcome = Empty
        );
        if let Some(key) = call.key.filter(|_| !span.is_disabled()) {
            span.record("key", tracing::field::display(format_args!("{:032x}", key.digest())));
        }
        span
    }

    fn time(&self, operation: Operation, started: Instant) -> Duration {
        let time = started.elapsed();
        if let Some(times) = times(operation) {
            times(&self.counters.times).record(time);
        }
        time
    }

    /// Counts and logs a failure, or counts what an answer says.
    fn note<A: TierReply>(&self, operation: Operation, bytes: u64, result: Result<A>) -> Result<A> {
        match result {
            Ok(answer) => {
                self.count(operation, bytes, &answer);
                Ok(answer)
            }
            Err(error) => {
                let (kind, operation) = (self.tier.kind(), operation.name());
                let error = error.in_tier(kind).during(operation);
                self.counters.errors.increment();
                // A refused call is not logged: the opening of the breaker was.
                if !is_refusal(&error) {
                    let cache = self.counters.signals.cache();
                    tracing::warn!(target: "larder", cache, tier = %kind, operation, error = ?error, "a tier failed");
                }
                Err(error)
            }
        }
    }

    /// Counts what an answer says; `bytes` are those that the call wrote. An opened frame counts
    /// as fully read.
    fn count<A: TierReply>(&self, operation: Operation, bytes: u64, answer: &A) {
        use Operation as Of;
        let is_yes = answer.is_yes().unwrap_or(true);
        match operation {
            Of::Get | Of::GetMany | Of::GetVersioned | Of::GetManyVersioned | Of::Open | Of::Take => {
                match is_yes {
                    true => self.counters.hits.increment(),
                    false => self.counters.misses.increment(),
                }
                self.counters.bytes_read.add(answer.bytes());
            }
            Of::Put | Of::PutMany | Of::Publish | Of::CompareAndSet | Of::CompareAndSetMany if is_yes => {
                self.counters.puts.increment();
                self.counters.bytes_written.add(bytes);
            }
            Of::Append => self.counters.bytes_written.add(bytes),
            _ => {}
        }
        if matches!(operation, Of::Remove | Of::RemoveMany | Of::Take) && is_yes {
            self.counters.removes.increment();
        }
    }
}

/// The histogram of an operation. `scan`, `flush`, `close` and the parts of a stream have none,
/// because their duration depends on the amount of data.
fn times(operation: Operation) -> Option<fn(&TierTimes) -> &Histogram> {
    use Operation as Of;
    match operation {
        Of::Get
        | Of::Head
        | Of::Open
        | Of::Contains
        | Of::GetMany
        | Of::GetVersioned
        | Of::GetManyVersioned => Some(|times| &times.get),
        Of::Put | Of::PutMany | Of::Publish | Of::CompareAndSet | Of::CompareAndSetMany => {
            Some(|times| &times.put)
        }
        Of::Remove | Of::RemoveMany | Of::Take => Some(|times| &times.remove),
        _ => None,
    }
}

/// Runs a call in its span, if spans are enabled.
async fn within<R>(span: &Span, made: impl Future<Output = R>) -> R {
    if span.is_disabled() {
        return made.await;
    }
    made.instrument(span.clone()).await
}

fn is_refusal(error: &larder_core::Error) -> bool {
    error.source().is_some_and(|source| source.is::<Refused>())
}

/// The word for the outcome of a call in its span.
fn outcome<A: TierReply>(operation: Operation, result: &Result<A>) -> &'static str {
    use Operation as Of;
    let Ok(answer) = result else { return "failed" };
    match (operation, answer.is_yes()) {
        (Of::Put | Of::Publish, _) | (Of::CompareAndSet, Some(true)) => "stored",
        (Of::Remove, Some(true)) => "removed",
        (Of::Remove, Some(false)) => "absent",
        (Of::LeaseLoad, Some(true)) => "taken",
        (Of::LeaseLoad | Of::CompareAndSet, Some(false)) => "kept",
        (_, Some(true)) => "hit",
        (_, Some(false)) => "miss",
        (_, None) => "done",
    }
}

impl<T: fmt::Debug> fmt::Debug for Observe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe").field("tier", &self.tier).finish_non_exhaustive()
    }
}

impl<T: Tier> Layer for Observe<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        &self.tier
    }

    fn around<'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
    ) -> BoxFuture<'a, Result<A>> {
        Box::pin(self.observed(call, lazy(make)))
    }

    fn around_blocking<A: TierReply>(&self, call: Call<'_>, make: impl FnOnce() -> Result<A>) -> Result<A> {
        let span = self.span(&call);
        let started = Instant::now();
        let result = if span.is_disabled() { make() } else { span.in_scope(make) };
        self.ended(&call, &span, started, result)
    }

    fn inner_blocking(&self) -> Option<&dyn BlockingTier> {
        self.tier.blocking()
    }

    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        Box::pin(self.observed_many(call, items, lazy(|| make(Cow::Borrowed(items)))))
    }
}

forward_tier!([T: Tier] Observe<T>);
