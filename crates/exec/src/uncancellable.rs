//! Uncancellable futures of tasks, called sections: every caller that needs the end of one can
//! drive it.
//!
//! A section over a tier that does not block is polled by the task that began it. That saves a hop
//! to another thread and back. The section may hold the lock of a key meanwhile, and its task may
//! stop polling it: the task is dropped, is delayed, or waits for that same lock in a thread or in
//! a sibling future. Therefore a lock records the section that holds it, and a waiter for the lock
//! polls that section too. A section that is dropped before its end is finished by a thread of this
//! crate, unless it only reads.
//!
//! When a section reaches work that blocks, it calls [`on_a_thread`]. It then moves to the blocking
//! pool of the runtime and stays there.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use event_listener::{Event, EventListener};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::orphan_runner::run_orphan;
use crate::runtime;
use crate::shared_future::{Poller, SharedFuture};
use crate::timer::Alarm;

/// Maximum bytes that are encoded or decoded on an executor thread.
const IN_PLACE_MAX: u64 = 64 << 10;

/// The value of a section, or the payload of its panic.
type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// The state that all drivers of a section share.
pub struct Inner {
    future: SharedFuture,
    /// The section has reached work that blocks.
    wants_thread: AtomicBool,
    /// A thread drives the section to its end.
    has_thread: AtomicBool,
    ended: Event,
}

/// The section that holds a lock. A waiter for the lock can drive it.
#[derive(Clone)]
pub struct Holder(Weak<Inner>);

std::thread_local! {
    /// The section that this thread polls.
    static PRESENT: RefCell<Option<Holder>> = const { RefCell::new(None) };
    /// Whether this thread only drives a future of this crate, and so may block.
    static ON_A_THREAD: Cell<bool> = const { Cell::new(false) };
}

impl Holder {
    /// Returns the section that this thread polls now.
    pub fn present() -> Option<Self> {
        PRESENT.try_with(|present| present.borrow().clone()).ok().flatten()
    }

    /// Returns whether the section can still be driven.
    pub fn is_live(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Drives the section until it ends or is dropped.
    pub async fn help(self) {
        let Some(inner) = self.0.upgrade() else { return };
        let mut driver = Driver::new(inner);
        poll_fn(|context| driver.poll(context)).await;
    }
}

/// Waits until the section runs on a thread that may block. Ready at once where this thread may
/// block.
pub async fn on_a_thread() {
    poll_fn(|context| {
        if may_block() {
            return Poll::Ready(());
        }
        if let Some(inner) = Holder::present().and_then(|holder| holder.0.upgrade()) {
            inner.wants_thread.store(true, Ordering::Release);
        }
        // A driver on a thread may have tried meanwhile and found the section being polled.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// As [`on_a_thread`], if `bytes` are too many to encode or decode on an executor thread (over 64
/// KiB).
pub async fn if_large(bytes: u64) {
    if bytes > IN_PLACE_MAX {
        on_a_thread().await;
    }
}

/// Returns whether so many bytes may be encoded or decoded on this thread.
pub fn is_in_place(bytes: u64) -> bool {
    bytes <= IN_PLACE_MAX || may_block()
}

/// Runs one poll. On an executor thread, keeps an alarm for the deadline it asked for.
pub(crate) fn alarmed_in_task<R>(
    alarm: &mut Option<Alarm>,
    context: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> R,
) -> R {
    if ON_A_THREAD.get() {
        return poll(context);
    }
    let (polled, deadline) = runtime::alarmed(|| poll(context));
    *alarm = deadline.map(|deadline| Alarm::wakes_at(deadline, context.waker()));
    polled
}

/// Returns whether this thread may block: it drives no foreign executor.
pub fn may_block() -> bool {
    ON_A_THREAD.get() || Handle::try_current().is_err()
}

/// Marks this thread as one that may block, until the returned guard is dropped.
pub fn in_a_thread() -> InAThread {
    InAThread(ON_A_THREAD.replace(true), set_present(None))
}

/// Sets the section that this thread polls, and returns the former one. In the destructor of a
/// thread-local the section is unknown; a lock that is taken there records none.
fn set_present(section: Option<Holder>) -> Option<Holder> {
    PRESENT.try_with(|present| present.replace(section)).ok().flatten()
}

/// Guard of [`in_a_thread`].
pub struct InAThread(bool, Option<Holder>);

impl Drop for InAThread {
    fn drop(&mut self) {
        ON_A_THREAD.set(self.0);
        drop(set_present(self.1.take()));
    }
}

/// Restores the former section when it is dropped.
struct RestorePresent(Option<Holder>);

impl Drop for RestorePresent {
    fn drop(&mut self) {
        drop(set_present(self.0.take()));
    }
}

impl Inner {
    /// Polls the section once on behalf of `poller`.
    pub(crate) fn step(self: &Arc<Self>, poller: &Poller, context: &mut Context<'_>) -> Poll<()> {
        let _restore = RestorePresent(set_present(Some(Holder(Arc::downgrade(self)))));
        self.future.poll(poller, context)
    }

    /// Registers a caller that drives the section.
    pub(crate) fn poller(&self) -> Poller {
        self.future.poller()
    }

    /// Drives the section to its end on this thread.
    fn finish(self: &Arc<Self>) {
        let poller = self.poller();
        runtime::block_on(poll_fn(|context| self.step(&poller, context)));
        self.notify_end();
    }

    /// Wakes the waiters after the helper thread has finished the section.
    pub fn notify_end(&self) {
        self.ended.notify(usize::MAX);
    }

    fn has_ended(&self) -> bool {
        self.future.has_ended()
    }
}

/// A section on its way to the blocking pool. If a runtime that shuts down drops it, the orphan
/// runner takes it over.
struct HandOff(Arc<Inner>);

impl Drop for HandOff {
    fn drop(&mut self) {
        if !self.0.has_ended() {
            run_orphan(Arc::clone(&self.0));
        }
    }
}

/// Polls a section for one caller that needs its end.
struct Driver {
    inner: Arc<Inner>,
    poller: Poller,
    ended: Option<EventListener>,
    alarm: Option<Alarm>,
}

impl Driver {
    fn new(inner: Arc<Inner>) -> Self {
        Self { poller: inner.poller(), inner, ended: None, alarm: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.inner.has_thread.load(Ordering::Acquire) {
            if self.step(context).is_ready() {
                return Poll::Ready(());
            }
            if !self.inner.wants_thread.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            self.alarm = None;
            if !self.inner.has_thread.swap(true, Ordering::AcqRel) {
                let hand_off = HandOff(Arc::clone(&self.inner));
                match Handle::try_current() {
                    Ok(runtime) => drop(runtime.spawn_blocking(move || hand_off.0.finish())),
                    Err(_) => drop(hand_off),
                }
            }
        }
        self.wait(context)
    }

    /// Polls the section. On an executor thread, sets an alarm for the deadline it asked for.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<()> {
        alarmed_in_task(&mut self.alarm, context, |context| self.inner.step(&self.poller, context))
    }

    /// Waits for the thread that drives the section.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let ended = self.ended.get_or_insert_with(|| self.inner.ended.listen());
            if self.inner.has_ended() {
                return Poll::Ready(());
            }
            if Pin::new(ended).poll(context).is_pending() {
                return Poll::Pending;
            }
            self.ended = None;
        }
    }
}

/// A section as its caller awaits it.
pub struct Uncancellable<T> {
    driver: Driver,
    outcome: Arc<Mutex<Option<Outcome<T>>>>,
    /// The section only reads, so it may be dropped before its end.
    reads: bool,
    done: bool,
}

impl<T: Send + 'static> Uncancellable<T> {
    /// Creates a section. One that only `reads` may be dropped before its end.
    pub fn new(section: impl Future<Output = T> + Send + 'static, reads: bool) -> Self {
        let outcome = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&outcome);
        let future = async move {
            let ended = AssertUnwindSafe(section).catch_unwind().await;
            *kept.lock() = Some(ended);
        };
        let inner = Arc::new(Inner {
            future: SharedFuture::new(future),
            wants_thread: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            ended: Event::new(),
        });
        Self { driver: Driver::new(inner), outcome, reads, done: false }
    }
}

impl<T> Future for Uncancellable<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if !self.done {
            std::task::ready!(self.driver.poll(context));
            self.done = true;
        }
        match self.outcome.lock().take() {
            Some(Ok(value)) => Poll::Ready(value),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            // Already taken: the future was polled after its end.
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Uncancellable<T> {
    fn drop(&mut self) {
        let inner = &self.driver.inner;
        if !self.done && !self.reads && !inner.has_thread.swap(true, Ordering::AcqRel) {
            run_orphan(Arc::clone(inner));
        }
    }
}
