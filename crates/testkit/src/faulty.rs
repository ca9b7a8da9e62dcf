//! A tier that fails and stalls on command.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stream::Stored;
use larder_core::tier::{BoxFuture, Capability, EntryVersion, Tier, TierKind, Upload, Usage};
use larder_core::{Bytes, Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};

/// How long [`FaultyTier::wait_for_calls`] waits before it panics.
const PATIENCE: Duration = Duration::from_secs(30);

/// An operation of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Tier::get`]
    Get,
    /// [`Tier::put`]
    Put,
    /// [`Tier::remove`]
    Remove,
    /// [`Tier::contains`]
    Contains,
    /// [`Tier::clear`]
    Clear,
    /// [`Tier::scan`]
    Scan,
    /// [`Tier::flush`]
    Flush,
    /// [`Tier::close`]
    Close,
    /// [`Tier::open`]
    Open,
    /// [`Tier::draft`]
    Upload,
    /// [`Tier::append`]
    Append,
    /// [`Tier::publish`]
    Publish,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 12] = [
        Self::Get,
        Self::Put,
        Self::Remove,
        Self::Contains,
        Self::Clear,
        Self::Scan,
        Self::Flush,
        Self::Close,
        Self::Open,
        Self::Upload,
        Self::Append,
        Self::Publish,
    ];

    /// The name of the method.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Remove => "remove",
            Self::Contains => "contains",
            Self::Clear => "clear",
            Self::Scan => "scan",
            Self::Flush => "flush",
            Self::Close => "close",
            Self::Open => "open",
            Self::Upload => "draft",
            Self::Append => "append",
            Self::Publish => "publish",
        }
    }
}

/// How often an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// This many of the next calls.
    Next(usize),
    /// Every call until [`FaultyTier::heal`].
    Forever,
}

#[derive(Debug, Default)]
struct Plan {
    calls: usize,
    stalled: usize,
    stalls: bool,
    releases: usize,
    waiting: Vec<Waker>,
    fault: Option<(Times, ErrorKind)>,
    /// The fault of calls that reach the inner tier but lose their answer.
    lost: Option<(Times, ErrorKind)>,
}

impl Plan {
    fn release(&mut self) {
        self.stalls = false;
        self.releases += 1;
    }

    fn lets_go(&self, releases: usize) -> bool {
        !self.stalls || self.releases != releases
    }
}

#[derive(Debug, Default)]
struct Control {
    plans: Mutex<[Plan; Operation::ALL.len()]>,
    changed: Condvar,
}

/// Wraps a tier, and passes calls on until it is told to fail or to stall.
///
/// Clones share one tier, so a test keeps one and gives another away. A call that
/// [`fail`](FaultyTier::fail)s does not reach the inner tier. A call whose answer is
/// [lost](FaultyTier::lose_answers) does.
///
/// ```
/// use larder_core::ErrorKind;
/// use larder_core::tier::Tier;
/// use larder_testkit::{FaultyTier, HashMapTier, Operation, Times, block_on, sample};
///
/// let tier = FaultyTier::new(HashMapTier::new());
/// tier.fail(Operation::Get, Times::Next(1), ErrorKind::Unavailable);
/// assert_eq!(block_on(tier.get(&sample::key(1))).unwrap_err().kind(), ErrorKind::Unavailable);
/// assert_eq!(block_on(tier.get(&sample::key(1))).unwrap(), None);
/// assert_eq!(tier.calls(Operation::Get), 2);
/// ```
#[derive(Debug)]
pub struct FaultyTier<T> {
    tier: Arc<T>,
    control: Arc<Control>,
}

impl<T> Clone for FaultyTier<T> {
    fn clone(&self) -> Self {
        Self { tier: Arc::clone(&self.tier), control: Arc::clone(&self.control) }
    }
}

impl<T: Tier> FaultyTier<T> {
    /// Wraps `tier`, without a fault.
    pub fn new(tier: T) -> Self {
        Self { tier: Arc::new(tier), control: Arc::default() }
    }

    /// Returns the inner tier, without faults.
    pub fn inner(&self) -> &T {
        &self.tier
    }

    /// Makes `operation` fail with `kind`, this many `times`.
    pub fn fail(&self, operation: Operation, times: Times, kind: ErrorKind) {
        self.change(operation, |plan| plan.fault = Some((times, kind)));
    }

    /// Makes `operation` change the inner tier and still fail with `kind`, this many
    /// `times`. Applies to `put`, `remove`, `clear` and `publish`; it has no effect on
    /// others.
    pub fn lose_answers(&self, operation: Operation, times: Times, kind: ErrorKind) {
        self.change(operation, |plan| plan.lost = Some((times, kind)));
    }

    /// Makes every operation fail with `kind` until [`heal`](FaultyTier::heal).
    pub fn fail_all(&self, kind: ErrorKind) {
        Operation::ALL.into_iter().for_each(|operation| self.fail(operation, Times::Forever, kind));
    }

    /// Ends all failures. Stalled calls stay stalled.
    pub fn heal(&self) {
        Operation::ALL.into_iter().for_each(|operation| {
            self.change(operation, |plan| (plan.fault, plan.lost) = (None, None));
        });
    }

    /// Makes calls of `operation` wait until [`release`](FaultyTier::release). A tier
    /// that declares itself blocking blocks its thread.
    pub fn stall(&self, operation: Operation) {
        self.change(operation, |plan| plan.stalls = true);
    }

    /// Releases every stalled call, and stalls no further ones.
    pub fn release(&self) {
        Operation::ALL.into_iter().for_each(|operation| self.change(operation, Plan::release));
    }

    /// Returns the number of calls of `operation` so far, including failed and stalled
    /// ones.
    pub fn calls(&self, operation: Operation) -> usize {
        self.control.plans.lock()[operation as usize].calls
    }

    /// Returns the number of calls of `operation` that stall now.
    pub fn stalled(&self, operation: Operation) -> usize {
        self.control.plans.lock()[operation as usize].stalled
    }

    /// Blocks until `operation` was called `calls` times.
    ///
    /// # Panics
    /// After 30 seconds.
    pub fn wait_for_calls(&self, operation: Operation, calls: usize) {
        self.wait_until(|plans| plans[operation as usize].calls >= calls);
    }

    /// Blocks until `calls` calls of `operation` stall.
    ///
    /// # Panics
    /// After 30 seconds.
    pub fn wait_until_stalled(&self, operation: Operation, calls: usize) {
        self.wait_until(|plans| plans[operation as usize].stalled >= calls);
    }

    fn wait_until(&self, is_so: impl Fn(&[Plan]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut plans = self.control.plans.lock();
        while !is_so(&plans[..]) {
            let late = self.control.changed.wait_until(&mut plans, deadline).timed_out();
            assert!(!late, "nothing happened within {PATIENCE:?}: {plans:?}");
        }
    }

    fn change(&self, operation: Operation, change: impl FnOnce(&mut Plan)) {
        let mut plans = self.control.plans.lock();
        let plan = &mut plans[operation as usize];
        change(plan);
        let waiting = std::mem::take(&mut plan.waiting);
        drop(plans);
        self.control.changed.notify_all();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Counts a call, then stalls it or makes it fail as planned.
    async fn enter(&self, operation: Operation) -> Result<()> {
        let call = Call::begin(&self.control, operation);
        if self.tier.capability().blocking {
            call.block();
        } else {
            poll_fn(|context| call.poll(context)).await;
        }
        drop(call);
        self.fault(operation)
    }

    fn fault(&self, operation: Operation) -> Result<()> {
        let mut plans = self.control.plans.lock();
        self.spend(operation, &mut plans[operation as usize].fault)
    }

    /// Returns the result of a call, unless its answer is to be lost.
    fn answer<R>(&self, operation: Operation, done: Result<R>) -> Result<R> {
        let mut plans = self.control.plans.lock();
        self.spend(operation, &mut plans[operation as usize].lost)?;
        done
    }

    /// Fails if a fault is planned, and uses one of its times up.
    fn spend(&self, operation: Operation, fault: &mut Option<(Times, ErrorKind)>) -> Result<()> {
        match fault {
            None | Some((Times::Next(0), _)) => Ok(()),
            Some((times, kind)) => {
                let error = Error::new(*kind, "a fault that was asked for");
                if let Times::Next(left) = times {
                    *left -= 1;
                }
                Err(error.in_tier(self.tier.kind()).during(operation.name()))
            }
        }
    }
}

/// Waits while a call is stalled. The call counts as stalled until this is dropped.
struct Call<'a> {
    control: &'a Control,
    at: usize,
    releases: usize,
}

impl<'a> Call<'a> {
    fn begin(control: &'a Control, operation: Operation) -> Self {
        let at = operation as usize;
        let mut plans = control.plans.lock();
        plans[at].calls += 1;
        plans[at].stalled += 1;
        control.changed.notify_all();
        Self { control, at, releases: plans[at].releases }
    }

    fn block(&self) {
        let mut plans = self.control.plans.lock();
        while !plans[self.at].lets_go(self.releases) {
            self.control.changed.wait(&mut plans);
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut plans = self.control.plans.lock();
        let plan = &mut plans[self.at];
        if plan.lets_go(self.releases) {
            return Poll::Ready(());
        }
        plan.waiting.push(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.control.plans.lock()[self.at].stalled -= 1;
        self.control.changed.notify_all();
    }
}

impl<T: Tier> Tier for FaultyTier<T> {
    fn kind(&self) -> TierKind {
        self.tier.kind()
    }

    fn capability(&self) -> Capability {
        self.tier.capability()
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            self.enter(Operation::Get).await?;
            self.tier.get(key).await
        })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Operation::Put).await?;
            let done = self.tier.put(key, frame).await;
            self.answer(Operation::Put, done)
        })
    }

    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        Box::pin(async move {
            self.enter(Operation::Open).await?;
            self.tier.open(key).await
        })
    }

    fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        Box::pin(async move {
            self.enter(Operation::Upload).await?;
            self.tier.draft(key, head_len).await
        })
    }

    fn append<'a>(&'a self, draft: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Operation::Append).await?;
            self.tier.append(draft, bytes).await
        })
    }

    fn publish<'a>(
        &'a self,
        key: &'a EncodedKey,
        draft: Upload,
        head: &'a [u8],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Operation::Publish).await?;
            let done = self.tier.publish(key, draft, head).await;
            self.answer(Operation::Publish, done)
        })
    }

    fn stamp(&self, key: &EncodedKey) -> Option<EntryVersion> {
        self.tier.stamp(key)
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.enter(Operation::Remove).await?;
            let done = self.tier.remove(key).await;
            self.answer(Operation::Remove, done)
        })
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.enter(Operation::Contains).await?;
            self.tier.contains(key).await
        })
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.enter(Operation::Clear).await?;
            let done = self.tier.clear().await;
            self.answer(Operation::Clear, done)
        })
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Operation::Scan).await?;
            self.tier.scan(visit).await
        })
    }

    fn usage(&self) -> Usage {
        self.tier.usage()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.enter(Operation::Flush).await?;
            self.tier.flush().await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.enter(Operation::Close).await?;
            self.tier.close().await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HashMapTier, block_on, sample};

    #[test]
    fn failures_end_after_their_times_or_on_healing() {
        let tier = FaultyTier::new(HashMapTier::new());
        let contains = || block_on(tier.contains(&sample::key(1))).map_err(|error| error.kind());
        tier.fail(Operation::Contains, Times::Next(2), ErrorKind::Io);
        assert_eq!([contains(), contains(), contains()], [Err(ErrorKind::Io), Err(ErrorKind::Io), Ok(false)]);
        tier.fail_all(ErrorKind::Full);
        assert_eq!([contains(), contains()], [Err(ErrorKind::Full), Err(ErrorKind::Full)]);
        tier.heal();
        assert_eq!(contains(), Ok(false));
        assert_eq!((tier.calls(Operation::Contains), tier.calls(Operation::Get)), (6, 0));
    }

    #[test]
    fn change_with_lost_answer_is_applied() {
        let tier = FaultyTier::new(HashMapTier::new());
        let key = sample::key(1);
        let frame = sample::frame(&key, sample::payload(1, 10));
        tier.lose_answers(Operation::Put, Times::Next(1), ErrorKind::Unavailable);
        assert_eq!(block_on(tier.put(&key, &frame)).unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(block_on(tier.contains(&key)).unwrap());
        block_on(tier.put(&key, &frame)).unwrap();
    }

    #[test]
    fn stalled_call_continues_after_release() {
        let tier = FaultyTier::new(HashMapTier::new());
        let key = sample::key(1);
        tier.stall(Operation::Put);
        std::thread::scope(|scope| {
            let frame = sample::frame(&key, sample::payload(1, 10));
            let (given, key) = (tier.clone(), &key);
            let put = scope.spawn(move || block_on(given.put(key, &frame)));
            tier.wait_until_stalled(Operation::Put, 1);
            assert_eq!(block_on(tier.get(key)).unwrap(), None);
            tier.release();
            put.join().unwrap().unwrap();
        });
        assert!(block_on(tier.contains(&key)).unwrap());
        assert_eq!(tier.stalled(Operation::Put), 0);
    }
}
