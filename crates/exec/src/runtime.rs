//! How a caller waits: as a thread or as a task.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use event_listener::{EventListener, Listener};
#[cfg(not(feature = "async"))]
use larder_core::Result;
#[cfg(feature = "async")]
use larder_core::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};
#[cfg(feature = "async")]
use tracing::Instrument;

use crate::background::Pool;
#[cfg(feature = "async")]
use crate::timer::Alarm;
#[cfg(feature = "async")]
use crate::uncancellable::{Uncancellable, in_a_thread};

mod sealed {
    pub trait Sealed {}
}

/// Where a thread runs a flight of its own. A task always spawns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// On the thread of its caller, which keeps to no limits.
    Here,
    /// On a thread of the pool, after those that wait for one.
    Queued,
    /// On a thread of the pool if one can be had at once, else here: the caller is part
    /// of a loader, which may keep a thread of the pool until this has ended.
    Nested,
    /// On a thread of the pool if one can be had at once, else not at all.
    Refresh,
}

/// The two ways of waiting.
pub trait Runtime: sealed::Sealed + Send + Sync + 'static {
    /// Whether loads of this caller are polled by an executor.
    const IS_TASK: bool;

    /// Waits until the listener is notified.
    fn event(listener: EventListener) -> impl Future<Output = ()> + Send;

    /// Waits until the listener is notified, or until the moment.
    fn event_until(listener: EventListener, until: Option<Instant>) -> impl Future<Output = ()> + Send;

    /// Starts a flight that does not depend on its caller, as `launch` says.
    fn launch(
        pool: &Arc<Pool>,
        launch: Launch,
        flight: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send;

    /// Whether a flight that is launched goes on when its caller is not polled.
    fn launches() -> bool;

    /// Runs a section that may block. Once begun it runs to its end, even when
    /// the future returned here is dropped. `blocks` false promises that it
    /// does not block, so that it may run in place.
    fn section<T: Send + 'static>(
        blocks: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Runs a section that waits for tiers, where its caller is. In a task it goes
    /// on elsewhere when it comes to future that blocks. Once begun it runs to its
    /// end, unless it only `reads`.
    fn drive<T: Send + 'static>(
        reads: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Whether this caller may wait for a flight that a task leads, or a thread.
    ///
    /// A thread in a runtime may not wait for a task, which could need that
    /// very thread to be polled. In a runtime of one thread it waits for nobody:
    /// another thread's loader, too, may need that runtime.
    fn may_wait(led_by_task: bool) -> bool;
}

/// A thread: blocks where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Blocking;

impl sealed::Sealed for Blocking {}

impl Runtime for Blocking {
    const IS_TASK: bool = false;

    async fn event(listener: EventListener) {
        Listener::wait(listener);
    }

    async fn event_until(listener: EventListener, until: Option<Instant>) {
        match until {
            Some(moment) => drop(Listener::wait_deadline(listener, moment)),
            None => Listener::wait(listener),
        }
    }

    async fn launch(pool: &Arc<Pool>, launch: Launch, flight: impl Future<Output = ()> + Send + 'static) {
        if launch == Launch::Here {
            return flight.await;
        }
        let job = move || block_on(flight);
        let queued = if launch == Launch::Queued { pool.spawn(job) } else { pool.spawn_at_once(job) };
        match queued {
            // A refresh that finds no thread is left to a later hit, or to a miss.
            Err(job) if launch != Launch::Refresh => job(),
            _ => {}
        }
    }

    fn launches() -> bool {
        true
    }

    async fn section<T: Send + 'static>(
        _: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        Ok(section.await)
    }

    async fn drive<T: Send + 'static>(
        _: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        Ok(section.await)
    }

    #[cfg(feature = "async")]
    fn may_wait(led_by_task: bool) -> bool {
        use tokio::runtime::{Handle, RuntimeFlavor};
        Handle::try_current()
            .map_or(true, |runtime| !led_by_task && runtime.runtime_flavor() != RuntimeFlavor::CurrentThread)
    }

    #[cfg(not(feature = "async"))]
    fn may_wait(_: bool) -> bool {
        true
    }
}

/// A task of tokio: never blocks its executor.
///
/// Outside a runtime sections run in place, and block there.
#[cfg(feature = "async")]
#[derive(Clone, Copy, Debug)]
pub struct Tokio;

#[cfg(feature = "async")]
impl sealed::Sealed for Tokio {}

#[cfg(feature = "async")]
impl Runtime for Tokio {
    const IS_TASK: bool = true;

    async fn event(listener: EventListener) {
        listener.await;
    }

    async fn event_until(mut listener: EventListener, until: Option<Instant>) {
        let Some(moment) = until else { return listener.await };
        let mut _set = None;
        std::future::poll_fn(|context| {
            if Pin::new(&mut listener).poll(context).is_ready() || Instant::now() >= moment {
                return Poll::Ready(());
            }
            _set = Some(Alarm::wakes_at(moment, context.waker()));
            Poll::Pending
        })
        .await;
    }

    async fn launch(_: &Arc<Pool>, _: Launch, flight: impl Future<Output = ()> + Send + 'static) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(flight)),
            Err(_) => flight.await,
        }
    }

    fn launches() -> bool {
        tokio::runtime::Handle::try_current().is_ok()
    }

    async fn section<T: Send + 'static>(
        blocks: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        if !blocks {
            // All that it can wait for is a ticket, which a thread has and nobody
            // for long: not to be kept half done by who polls no more.
            return Ok(block_on(section));
        }
        // The spans of a section are those of its caller, wherever it runs.
        let section = section.in_current_span();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => match runtime.spawn_blocking(|| block_on(section)).await {
                Ok(value) => Ok(value),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(Error::new(ErrorKind::Closed, "the runtime is shutting down")),
            },
            Err(_) => Ok(block_on(section)),
        }
    }

    async fn drive<T: Send + 'static>(
        reads: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        Ok(Uncancellable::new(section.in_current_span(), reads).await)
    }

    fn may_wait(_: bool) -> bool {
        true
    }
}

/// Caches that were dropped and are not closed yet.
static LEAVING: Mutex<usize> = Mutex::new(0);
static LEAVING_CHANGED: Condvar = Condvar::new();

/// Does future that may block where nobody waits for it: in place in a thread,
/// on the blocking pool where this thread drives a runtime. A runtime that
/// shuts down drops the future undone.
pub fn hand_off(future: impl FnOnce() + Send + 'static) {
    #[cfg(feature = "async")]
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn_blocking(future);
        return;
    }
    future();
}

/// Waits until the caches that were dropped inside a runtime are closed, at
/// most for `limit`.
pub fn dropped_are_closed(limit: std::time::Duration) {
    let deadline = Instant::now() + limit;
    let mut leaving = LEAVING.lock();
    while *leaving > 0 {
        if LEAVING_CHANGED.wait_until(&mut leaving, deadline).timed_out() {
            return;
        }
    }
}

/// A cache that was dropped, until it is closed.
pub struct Leaving;

impl Default for Leaving {
    fn default() -> Self {
        Self::new()
    }
}

impl Leaving {
    /// Counts one more.
    pub fn new() -> Self {
        *LEAVING.lock() += 1;
        Self
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        *LEAVING.lock() -= 1;
        LEAVING_CHANGED.notify_all();
    }
}

/// Drives a future from this thread. One that is ready at once, as all of
/// [`Blocking`] over blocking tiers are, costs a single poll.
///
/// Polls again at the deadline that the future set by `alarm`.
pub fn block_on<F: Future>(future: F) -> F::Output {
    #[cfg(feature = "async")]
    let _here = in_a_thread();
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => park_on(future),
    }
}

std::thread_local! {
    /// The earliest deadline of what this thread polls.
    static ALARM: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Asks whoever drives the present future to poll it again at `deadline`.
///
/// [`block_on`] does, and so do those who drive a section; an executor of others
/// does not know of it.
pub fn alarm(deadline: Instant) {
    let earlier = ALARM.get().map_or(deadline, |set| set.min(deadline));
    ALARM.set(Some(earlier));
}

/// Polls something, and takes the deadline that it asked to be polled again at.
pub fn alarmed<R>(poll: impl FnOnce() -> R) -> (R, Option<Instant>) {
    let outer = ALARM.take();
    let polled = poll();
    (polled, ALARM.replace(outer))
}

/// Whether a parked thread was woken. A value of its own for each `block_on`,
/// so that one that is nested in another does not take its signal.
#[derive(Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }
}

impl Signal {
    fn wait(&self, deadline: Option<Instant>) {
        let mut woken = self.woken.lock();
        while !*woken {
            match deadline {
                None => self.changed.wait(&mut woken),
                Some(deadline) => {
                    if self.changed.wait_until(&mut woken, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        *woken = false;
    }
}

fn park_on<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(Arc::clone(&signal));
    loop {
        let (polled, deadline) = alarmed(|| future.as_mut().poll(&mut Context::from_waker(&waker)));
        match polled {
            Poll::Ready(value) => return value,
            Poll::Pending => signal.wait(deadline),
        }
    }
}
