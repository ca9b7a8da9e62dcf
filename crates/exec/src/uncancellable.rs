//! Sections of tasks that wait: whoever needs the end of one can drive it.
//!
//! A section over a tier that does not block is polled by the task that asked
//! for it, which saves the way to another thread and back. It may hold the
//! ticket of a key meanwhile, and its task may stop polling it: dropped, held
//! up, or itself waiting for that ticket, in a thread or in a future beside. So
//! a ticket knows the section that took it, and who waits for the ticket polls
//! that section as well. One that is dropped before its end is driven by a
//! thread of ours, unless it only reads.
//!
//! Where a section comes to future that blocks, [`on_a_thread`], it is handed to
//! the blocking pool of the runtime, and stays there.

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

/// Bytes that are encoded or decoded where a task is polled.
const IN_PLACE_MAX: u64 = 64 << 10;

/// A value of its own, or what a panic left.
type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// What those who drive a section share.
pub struct Inner {
    future: SharedFuture,
    /// It came to future that blocks.
    wants_thread: AtomicBool,
    /// A thread drives it to its end.
    has_thread: AtomicBool,
    ended: Event,
}

/// The section that holds a ticket, for who waits for that.
#[derive(Clone)]
pub struct Holder(Weak<Inner>);

std::thread_local! {
    /// The section that this thread polls.
    static PRESENT: RefCell<Option<Holder>> = const { RefCell::new(None) };
    /// Whether this thread does nothing but drive a future of ours.
    static ON_A_THREAD: Cell<bool> = const { Cell::new(false) };
}

impl Holder {
    /// The section that is polled now.
    pub fn present() -> Option<Self> {
        PRESENT.try_with(|present| present.borrow().clone()).ok().flatten()
    }

    /// Whether anybody can still drive it.
    pub fn is_live(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Drives the section, until it ends or was given up.
    pub async fn help(self) {
        let Some(inner) = self.0.upgrade() else { return };
        let mut driver = Driver::new(inner);
        poll_fn(|context| driver.poll(context)).await;
    }
}

/// Ready where this thread may block; elsewhere once the section goes on in one
/// that may.
pub async fn on_a_thread() {
    poll_fn(|context| {
        if may_block() {
            return Poll::Ready(());
        }
        if let Some(inner) = Holder::present().and_then(|holder| holder.0.upgrade()) {
            inner.wants_thread.store(true, Ordering::Release);
        }
        // A thread may have tried meanwhile, and found it being polled.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// As [`on_a_thread`], where this many bytes are to be encoded or decoded and
/// that is long for an executor.
pub async fn if_large(bytes: u64) {
    if bytes > IN_PLACE_MAX {
        on_a_thread().await;
    }
}

/// Whether this thread may block: it drives no executor of others.
pub fn may_block() -> bool {
    ON_A_THREAD.get() || Handle::try_current().is_err()
}

/// Says that this thread may block, as long as the guard lives.
pub fn in_a_thread() -> InAThread {
    InAThread(ON_A_THREAD.replace(true), set_present(None))
}

/// Says which section this thread polls; which one it was before. In the
/// destructor of a thread-local that is unknown, and a ticket is then held by none.
fn set_present(section: Option<Holder>) -> Option<Holder> {
    PRESENT.try_with(|present| present.replace(section)).ok().flatten()
}

/// See [`in_a_thread`].
pub struct InAThread(bool, Option<Holder>);

impl Drop for InAThread {
    fn drop(&mut self) {
        ON_A_THREAD.set(self.0);
        drop(set_present(self.1.take()));
    }
}

/// Restores which section was polled.
struct Within(Option<Holder>);

impl Drop for Within {
    fn drop(&mut self) {
        drop(set_present(self.0.take()));
    }
}

impl Inner {
    /// One poll, by whoever it is.
    pub(crate) fn step(self: &Arc<Self>, poller: &Poller, context: &mut Context<'_>) -> Poll<()> {
        let _within = Within(set_present(Some(Holder(Arc::downgrade(self)))));
        self.future.poll(poller, context)
    }

    /// A place to drive it from.
    pub(crate) fn poller(&self) -> Poller {
        self.future.poller()
    }

    /// Drives it to its end from this thread.
    fn finish(self: &Arc<Self>) {
        let poller = self.poller();
        runtime::block_on(poll_fn(|context| self.step(&poller, context)));
        self.notify_end();
    }

    /// For who had a thread drive it, when that has done so.
    pub fn notify_end(&self) {
        self.ended.notify(usize::MAX);
    }

    fn has_ended(&self) -> bool {
        self.future.has_ended()
    }
}

/// A section on its way to a thread. Where a runtime that shuts down drops it,
/// it goes to one of ours.
struct Passage(Arc<Inner>);

impl Drop for Passage {
    fn drop(&mut self) {
        if !self.0.has_ended() {
            run_orphan(Arc::clone(&self.0));
        }
    }
}

/// Polls a section for one of those who need its end.
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
                let passage = Passage(Arc::clone(&self.inner));
                match Handle::try_current() {
                    Ok(runtime) => drop(runtime.spawn_blocking(move || passage.0.finish())),
                    Err(_) => drop(passage),
                }
            }
        }
        self.wait(context)
    }

    /// Polls the section; whom it asks for an alarm depends on who polls.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if ON_A_THREAD.get() {
            return self.inner.step(&self.poller, context);
        }
        let (polled, deadline) = runtime::alarmed(|| self.inner.step(&self.poller, context));
        self.alarm = deadline.map(|deadline| Alarm::wakes_at(deadline, context.waker()));
        polled
    }

    /// A thread drives it: nothing is left but to wait.
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

/// A section as who asked for it has it.
pub struct Uncancellable<T> {
    driver: Driver,
    outcome: Arc<Mutex<Option<Outcome<T>>>>,
    /// It only reads: nobody minds where it is given up.
    reads: bool,
    done: bool,
}

impl<T: Send + 'static> Uncancellable<T> {
    /// Runs a section; one that only `reads` may be given up.
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
            // Taken before: as with any future that is polled after its end.
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
