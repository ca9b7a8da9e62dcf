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
//! Where a section comes to work that blocks, [`on_a_thread`], it is handed to
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

use crate::left::leave;
use crate::timer::Alarm;
use crate::wait;
use crate::work::{Seat, Work};

/// Bytes that are encoded or decoded where a task is polled.
const IN_PLACE_MAX: u64 = 64 << 10;

/// A value of its own, or what a panic left.
type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// What those who drive a section share.
pub(crate) struct Inner {
    work: Work,
    /// It came to work that blocks.
    wants_thread: AtomicBool,
    /// A thread drives it to its end.
    has_thread: AtomicBool,
    ended: Event,
}

/// The section that holds a ticket, for who waits for that.
#[derive(Clone)]
pub(crate) struct Holder(Weak<Inner>);

std::thread_local! {
    /// The section that this thread polls.
    static PRESENT: RefCell<Option<Holder>> = const { RefCell::new(None) };
    /// Whether this thread does nothing but drive a future of ours.
    static ON_A_THREAD: Cell<bool> = const { Cell::new(false) };
}

impl Holder {
    /// The section that is polled now.
    pub(crate) fn present() -> Option<Self> {
        PRESENT.try_with(|present| present.borrow().clone()).ok().flatten()
    }

    /// Whether anybody can still drive it.
    pub(crate) fn is_live(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Drives the section, until it ends or was given up.
    pub(crate) async fn help(self) {
        let Some(inner) = self.0.upgrade() else { return };
        let mut driver = Driver::new(inner);
        poll_fn(|context| driver.poll(context)).await;
    }
}

/// Ready where this thread may block; elsewhere once the section goes on in one
/// that may.
pub(crate) async fn on_a_thread() {
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
pub(crate) async fn if_large(bytes: u64) {
    if bytes > IN_PLACE_MAX {
        on_a_thread().await;
    }
}

/// Whether this thread may block: it drives no executor of others.
pub(crate) fn may_block() -> bool {
    ON_A_THREAD.get() || Handle::try_current().is_err()
}

/// Says that this thread may block, as long as the guard lives.
pub(crate) fn in_a_thread() -> InAThread {
    InAThread(ON_A_THREAD.replace(true), set_present(None))
}

/// Says which section this thread polls; which one it was before. In the
/// destructor of a thread-local that is unknown, and a ticket is then held by none.
fn set_present(section: Option<Holder>) -> Option<Holder> {
    PRESENT.try_with(|present| present.replace(section)).ok().flatten()
}

pub(crate) struct InAThread(bool, Option<Holder>);

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
    pub(crate) fn step(self: &Arc<Self>, seat: &Seat, context: &mut Context<'_>) -> Poll<()> {
        let _within = Within(set_present(Some(Holder(Arc::downgrade(self)))));
        self.work.poll(seat, context)
    }

    /// A place to drive it from.
    pub(crate) fn seat(&self) -> Seat {
        self.work.seat()
    }

    /// Drives it to its end from this thread.
    fn finish(self: &Arc<Self>) {
        let seat = self.seat();
        wait::block_on(poll_fn(|context| self.step(&seat, context)));
        self.tell_end();
    }

    /// For who had a thread drive it, when that has done so.
    pub(crate) fn tell_end(&self) {
        self.ended.notify(usize::MAX);
    }

    fn has_ended(&self) -> bool {
        self.work.has_ended()
    }
}

/// A section on its way to a thread. Where a runtime that shuts down drops it,
/// it goes to one of ours.
struct Passage(Arc<Inner>);

impl Drop for Passage {
    fn drop(&mut self) {
        if !self.0.has_ended() {
            leave(Arc::clone(&self.0));
        }
    }
}

/// Polls a section for one of those who need its end.
struct Driver {
    inner: Arc<Inner>,
    seat: Seat,
    ended: Option<EventListener>,
    alarm: Option<Alarm>,
}

impl Driver {
    fn new(inner: Arc<Inner>) -> Self {
        Self { seat: inner.seat(), inner, ended: None, alarm: None }
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
            return self.inner.step(&self.seat, context);
        }
        let (polled, deadline) = wait::alarmed(|| self.inner.step(&self.seat, context));
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
pub(crate) struct Driven<T> {
    driver: Driver,
    outcome: Arc<Mutex<Option<Outcome<T>>>>,
    /// It only reads: nobody minds where it is given up.
    reads: bool,
    done: bool,
}

impl<T: Send + 'static> Driven<T> {
    pub(crate) fn new(section: impl Future<Output = T> + Send + 'static, reads: bool) -> Self {
        let outcome = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&outcome);
        let work = async move {
            let ended = AssertUnwindSafe(section).catch_unwind().await;
            *kept.lock() = Some(ended);
        };
        let inner = Arc::new(Inner {
            work: Work::new(work),
            wants_thread: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            ended: Event::new(),
        });
        Self { driver: Driver::new(inner), outcome, reads, done: false }
    }
}

impl<T> Future for Driven<T> {
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

impl<T> Drop for Driven<T> {
    fn drop(&mut self) {
        let inner = &self.driver.inner;
        if !self.done && !self.reads && !inner.has_thread.swap(true, Ordering::AcqRel) {
            leave(Arc::clone(inner));
        }
    }
}
