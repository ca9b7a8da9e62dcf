//! A tier that fails and stalls on command.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub use larder_core::tier::Operation;
use larder_core::tier::{BatchItem, BoxFuture, Call as TierCall, Layer, Tier, TierReply, forward_tier};
use larder_core::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};

/// How long [`FaultyTier::wait_for_calls`] waits before it panics.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// So many calls reach the inner tier, and then wait with its answer.
    holds: usize,
    releases: usize,
    waiting: Vec<Waker>,
    fault: Option<(Times, ErrorKind)>,
    /// The fault of calls that reach the inner tier but lose their answer.
    lost: Option<(Times, ErrorKind)>,
}

impl Plan {
    fn release(&mut self) {
        (self.stalls, self.holds) = (false, 0);
        self.releases += 1;
    }
}

type Plans = [Plan; Operation::ALL.len()];

#[derive(Debug, Default)]
struct Control {
    plans: Mutex<Plans>,
    changed: Condvar,
}

/// Wraps a tier, and passes calls on until it is told to fail or to stall: every operation of
/// every contract.
///
/// A call on many keys, such as [`Operation::GetMany`], also counts as a call of
/// [`Operation::Get`] for each of its keys, and has its faults: some keys of a batch can fail. A
/// `head` counts as a `get` too, and `destroy` as `clear` and `close`.
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

    /// Makes `operation` reach the inner tier and still fail with `kind`, this many `times`.
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

    /// Makes the next `calls` calls of `operation` reach the inner tier, and then wait with its answer until
    /// [`release`](FaultyTier::release).
    pub fn hold_answers(&self, operation: Operation, calls: usize) {
        self.change(operation, |plan| plan.holds = calls);
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
        self.wait(operation, false).await;
        self.fault(operation)
    }

    async fn wait(&self, operation: Operation, has_answer: bool) {
        let call = Call::begin(&self.control, operation, has_answer);
        if self.tier.capability().blocking {
            call.block();
        } else {
            poll_fn(|context| call.poll(context)).await;
        }
    }

    async fn enter_all(&self, operations: &[Operation]) -> Result<()> {
        for operation in operations {
            self.enter(*operation).await?;
        }
        Ok(())
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
    waits: bool,
    releases: usize,
}

impl<'a> Call<'a> {
    /// A call before it reaches the inner tier, or one that has its answer.
    fn begin(control: &'a Control, operation: Operation, has_answer: bool) -> Self {
        let at = operation as usize;
        let mut plans = control.plans.lock();
        let plan = &mut plans[at];
        let waits = if has_answer { plan.holds > 0 } else { plan.stalls };
        match has_answer {
            true => plan.holds = plan.holds.saturating_sub(1),
            false => plan.calls += 1,
        }
        plan.stalled += usize::from(waits);
        control.changed.notify_all();
        Self { control, at, waits, releases: plan.releases }
    }

    fn may_go(&self, plan: &Plan) -> bool {
        !self.waits || plan.releases != self.releases
    }

    fn block(&self) {
        let mut plans = self.control.plans.lock();
        while !self.may_go(&plans[self.at]) {
            self.control.changed.wait(&mut plans);
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut plans = self.control.plans.lock();
        let plan = &mut plans[self.at];
        if self.may_go(plan) {
            return Poll::Ready(());
        }
        plan.waiting.push(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.control.plans.lock()[self.at].stalled -= usize::from(self.waits);
        self.control.changed.notify_all();
    }
}

impl<T: Tier> Layer for FaultyTier<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        &self.tier
    }

    fn around<'a, A: TierReply + 'a>(
        &'a self,
        call: TierCall<'a>,
        make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
    ) -> BoxFuture<'a, Result<A>> {
        Box::pin(async move {
            self.enter(call.operation).await?;
            self.enter_all(includes(call.operation)).await?;
            let done = make().await;
            self.wait(call.operation, true).await;
            let done = includes(call.operation).iter().fold(done, |done, meant| self.answer(*meant, done));
            self.answer(call.operation, done)
        })
    }

    /// A key whose own call fails is not passed on. The others are, in one batch.
    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        call: TierCall<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        Box::pin(async move {
            if let Err(error) = self.enter(call.operation).await {
                return items.iter().map(|_| Err(again(&error))).collect();
            }
            let (mut faults, mut passed) = (Vec::with_capacity(items.len()), Vec::new());
            for item in items {
                let fault = self.enter_all(includes(call.operation)).await.err();
                if fault.is_none() {
                    passed.push(item.clone());
                }
                faults.push(fault);
            }
            let passes_all = passed.len() == items.len();
            let passed = if passes_all { Cow::Borrowed(items) } else { Cow::Owned(passed) };
            let mut done = make(passed).await.into_iter();
            self.wait(call.operation, true).await;
            let lost = self.answer(call.operation, Ok(())).err();
            let results = faults.into_iter().map(|fault| match fault {
                Some(error) => Err(error),
                None => {
                    let done = done.next().unwrap_or_else(|| Err(too_few(call.operation)));
                    let lost = lost.as_ref().map_or(Ok(()), |lost| Err(again(lost)));
                    let meant = includes(call.operation).iter();
                    meant.fold(lost.and(done), |done, meant| self.answer(*meant, done))
                }
            });
            results.collect()
        })
    }
}

forward_tier!([T: Tier] FaultyTier<T>);

/// The operations that a call of `operation` counts as too, once for each of its keys. What fails
/// them fails it.
fn includes(operation: Operation) -> &'static [Operation] {
    match operation {
        Operation::Head | Operation::GetMany => &[Operation::Get],
        Operation::PutMany => &[Operation::Put],
        Operation::RemoveMany => &[Operation::Remove],
        Operation::GetManyVersioned => &[Operation::GetVersioned],
        Operation::CompareAndSetMany => &[Operation::CompareAndSet],
        Operation::LeaseLoads => &[Operation::LeaseLoad],
        Operation::Destroy => &[Operation::Clear, Operation::Close],
        _ => &[],
    }
}

/// The same fault, for another key of the batch.
fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string())
}

fn too_few(operation: Operation) -> Error {
    Error::new(ErrorKind::Io, "the inner tier has too few answers").during(operation.name())
}

#[cfg(test)]
mod tests {
    use larder_core::frame::Frame;
    use larder_core::key::EncodedKey;
    use larder_core::tier::{ConditionalPut, EntryVersion, PutOptions};

    use super::*;
    use crate::{HashMapTier, SharedMapTier, block_on, sample};

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

    #[test]
    fn held_answer_is_that_of_before_the_release() {
        let tier = FaultyTier::new(HashMapTier::new());
        let key = sample::key(1);
        tier.hold_answers(Operation::Get, 1);
        std::thread::scope(|scope| {
            let get = scope.spawn(|| block_on(tier.get(&key)));
            tier.wait_until_stalled(Operation::Get, 1);
            block_on(tier.put(&key, &sample::frame(&key, sample::payload(1, 10)))).unwrap();
            tier.release();
            assert_eq!(get.join().unwrap().unwrap(), None);
        });
        assert!(block_on(tier.get(&key)).unwrap().is_some());
    }

    fn entry(number: u64) -> (EncodedKey, Frame) {
        let key = sample::key(number);
        let frame = sample::frame(&key, sample::payload(number, 10));
        (key, frame)
    }

    #[test]
    fn keys_of_a_batch_fail_on_their_own() {
        let tier = FaultyTier::new(HashMapTier::new());
        let entries = [entry(1), entry(2), entry(3)];
        tier.fail(Operation::Put, Times::Next(2), ErrorKind::Io);
        let stored = block_on(tier.put_many(&entries));
        assert_eq!(stored.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!((tier.calls(Operation::PutMany), tier.calls(Operation::Put)), (1, 3));
        assert_eq!(tier.inner().usage().entries, 1);
        tier.fail(Operation::PutMany, Times::Next(1), ErrorKind::Io);
        assert!(block_on(tier.put_many(&entries)).iter().all(Result::is_err));
        tier.lose_answers(Operation::PutMany, Times::Next(1), ErrorKind::Io);
        assert!(block_on(tier.put_many(&entries)).iter().all(Result::is_err));
        assert_eq!(tier.inner().usage().entries, 3, "stored, without an answer");
    }

    #[test]
    fn faults_reach_what_nodes_share() {
        let tier = FaultyTier::new(SharedMapTier::default());
        let (shared, (key, frame)) = (tier.shared().unwrap(), entry(1));
        let version = || block_on(shared.get_versioned(&key)).unwrap().version.unwrap();
        let store = || block_on(shared.compare_and_set(&key, &frame, PutOptions::if_version(version())));
        tier.fail(Operation::CompareAndSet, Times::Next(1), ErrorKind::Unavailable);
        assert_eq!(store().unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(!block_on(tier.contains(&key)).unwrap());
        tier.lose_answers(Operation::CompareAndSet, Times::Next(1), ErrorKind::Unavailable);
        assert!(store().is_err() && block_on(tier.contains(&key)).unwrap());
        tier.fail(Operation::LeaseLoad, Times::Next(1), ErrorKind::Unavailable);
        let keys = [key.clone(), sample::key(2)];
        let leases = block_on(shared.lease_loads(&keys, PATIENCE));
        assert!(leases[0].is_err() && matches!(leases[1], Ok(Some(_))));
        tier.fail(Operation::Take, Times::Next(1), ErrorKind::Unavailable);
        assert!(block_on(shared.take(&key)).is_err() && block_on(shared.take(&key)).unwrap().is_some());
    }

    #[test]
    fn every_operation_can_fail() {
        let tier = FaultyTier::new(SharedMapTier::default());
        let (shared, (key, frame)) = (tier.shared().unwrap(), entry(1));
        tier.fail_all(ErrorKind::Io);
        let keys = std::slice::from_ref(&key);
        assert!(block_on(tier.head(&key)).is_err() && block_on(tier.get_many(keys))[0].is_err());
        assert!(block_on(tier.remove_many(keys))[0].is_err() && block_on(tier.destroy()).is_err());
        assert!(block_on(shared.get_many_versioned(keys))[0].is_err());
        let options = PutOptions::if_version(EntryVersion::new(1).unwrap());
        let put = ConditionalPut { key: key.clone(), frame, options };
        assert!(block_on(shared.compare_and_set_many(&[put]))[0].is_err());
        assert!(block_on(shared.lease_load(&key, PATIENCE)).is_err());
    }
}
