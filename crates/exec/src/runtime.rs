//! How a caller waits, as a thread or as a task, and where its work runs.
//!
//! A *section* is a future that runs to completion once begun, even if its caller is cancelled.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use event_listener::EventListener;
#[cfg(not(target_family = "wasm"))]
use event_listener::Listener;
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
use crate::uncancellable::{Uncancellable, alarmed_in_task, in_a_thread};

mod sealed {
    pub trait Sealed {}
}

/// Where a thread runs a flight that it leads. A task always spawns its flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// On the caller's thread. No time limit applies to this flight.
    Here,
    /// On a thread of the pool, after the flights already queued.
    Queued,
    /// On a thread of the pool if one is available at once, otherwise on the caller's thread. For a
    /// caller inside a loader: that loader may keep a pool thread busy until this flight ends.
    Nested,
    /// On a thread of the pool if one is available at once, otherwise not at all.
    Refresh,
}

/// How a caller waits: [`Blocking`] for threads, `Tokio` for tasks.
pub trait Runtime: sealed::Sealed + Send + Sync + 'static {
    /// Whether an executor polls the loads of this caller.
    const IS_TASK: bool;

    /// Waits until the listener is notified.
    fn event(listener: EventListener) -> impl Future<Output = ()> + Send;

    /// Waits until the listener is notified or the moment `until` has come.
    fn event_until(listener: EventListener, until: Option<Instant>) -> impl Future<Output = ()> + Send;

    /// Starts a flight that does not depend on its caller, where `launch` says.
    fn launch(
        pool: &Arc<Pool>,
        launch: Launch,
        flight: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send;

    /// Returns whether a launched flight makes progress while its caller is not polled.
    fn launches() -> bool;

    /// Runs a section that may block. Once begun it runs to completion, even if the returned future
    /// is dropped. `blocks: false` promises that it does not block, so that it may run in place.
    fn section<T: Send + 'static>(
        blocks: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Runs a section that waits for tiers, in its caller's thread or task. In a task, the section
    /// moves to the blocking pool when it reaches work that blocks. Once begun it runs to
    /// completion, unless it only `reads`.
    fn drive<T: Send + 'static>(
        reads: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Waits for calls of tiers that do not block, outside a section. Honors [`alarm`].
    fn wait<T: Send>(calls: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send;

    /// Returns whether this caller may wait for a flight that a task (`led_by_task`) or a thread
    /// leads.
    ///
    /// A thread inside a runtime must not wait for a task, because the task may need that very
    /// thread to be polled. In a single-threaded runtime it waits for no flight: the loader of
    /// another thread may also need that runtime.
    fn may_wait(led_by_task: bool) -> bool;
}

/// The runtime of a thread: it blocks while it waits.
#[derive(Clone, Copy, Debug)]
pub struct Blocking;

impl sealed::Sealed for Blocking {}

impl Runtime for Blocking {
    const IS_TASK: bool = false;

    async fn event(listener: EventListener) {
        wait(listener, None);
    }

    async fn event_until(listener: EventListener, until: Option<Instant>) {
        wait(listener, until);
    }

    async fn launch(pool: &Arc<Pool>, launch: Launch, flight: impl Future<Output = ()> + Send + 'static) {
        if launch == Launch::Here {
            return flight.await;
        }
        let job = move || block_on(flight);
        let queued = if launch == Launch::Queued { pool.spawn(job) } else { pool.spawn_at_once(job) };
        match queued {
            // A refresh that finds no thread is dropped. A later hit or miss starts it again.
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

    async fn wait<T: Send>(calls: impl Future<Output = T> + Send) -> T {
        calls.await
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

/// Blocks until the listener is notified or the moment `until` has come.
#[cfg(not(target_family = "wasm"))]
fn wait(listener: EventListener, until: Option<Instant>) {
    match until {
        Some(moment) => drop(listener.wait_deadline(moment)),
        None => listener.wait(),
    }
}

/// As on other systems. There is a single thread, so that nothing is notified while it sleeps.
#[cfg(target_family = "wasm")]
fn wait(listener: EventListener, until: Option<Instant>) {
    match until {
        Some(moment) => std::thread::sleep(moment.saturating_duration_since(Instant::now())),
        None => block_on(listener),
    }
}

/// The runtime of a tokio task: it never blocks its executor.
///
/// Outside a tokio runtime, sections run in place and block there.
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
            // The section can only wait for the lock of a key. Threads hold those, and only
            // briefly. It runs to completion here, so that a cancelled caller cannot leave it half
            // done.
            return Ok(block_on(section));
        }
        // A section keeps the tracing span of its caller, wherever it runs.
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

    async fn wait<T: Send>(calls: impl Future<Output = T> + Send) -> T {
        let (mut calls, mut alarm) = (pin!(calls), None);
        std::future::poll_fn(|context| {
            alarmed_in_task(&mut alarm, context, |context| calls.as_mut().poll(context))
        })
        .await
    }

    fn may_wait(_: bool) -> bool {
        true
    }
}

/// Returns the number of this process, which tells a forked child from its parent; 0 on WebAssembly,
/// where there is neither. Costs a system call.
pub fn process_id() -> u32 {
    if cfg!(target_family = "wasm") { 0 } else { std::process::id() }
}

/// Number of caches that were dropped and are not closed yet.
static CLOSING: Mutex<usize> = Mutex::new(0);
static CLOSING_CHANGED: Condvar = Condvar::new();

/// Runs a closure that may block and that no caller waits for: in place on a plain thread, on the
/// blocking pool inside a tokio runtime. A runtime that shuts down drops the closure without
/// running it.
pub fn hand_off(future: impl FnOnce() + Send + 'static) {
    #[cfg(feature = "async")]
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn_blocking(future);
        return;
    }
    future();
}

/// Waits until the caches that were dropped inside a runtime are closed, for `limit` at most.
pub fn dropped_are_closed(limit: std::time::Duration) {
    let deadline = Instant::now() + limit;
    let mut closing = CLOSING.lock();
    while *closing > 0 {
        if CLOSING_CHANGED.wait_until(&mut closing, deadline).timed_out() {
            return;
        }
    }
}

/// Marks a dropped cache that is not closed yet. Dropping the marker says that it is.
pub struct Leaving;

impl Default for Leaving {
    fn default() -> Self {
        Self::new()
    }
}

impl Leaving {
    /// Counts one more cache that is closing.
    pub fn new() -> Self {
        *CLOSING.lock() += 1;
        Self
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        *CLOSING.lock() -= 1;
        CLOSING_CHANGED.notify_all();
    }
}

/// Drives a future to completion on this thread. A future that is ready at once costs a single
/// poll; every future of [`Blocking`] over blocking tiers is.
///
/// Polls again at the deadline that the future has set with [`alarm`].
pub fn block_on<F: Future>(future: F) -> F::Output {
    #[cfg(feature = "async")]
    let _here = in_a_thread();
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => park_on(future),
    }
}

/// Runs a closure that may block this thread.
pub fn on_this_thread<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(feature = "async")]
    let _here = in_a_thread();
    work()
}

std::thread_local! {
    /// The earliest deadline set by the future that this thread polls.
    static ALARM: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Requests another poll of the current future at `deadline`.
///
/// [`block_on`] and the drivers of sections honor the request. A foreign executor does not know of
/// it.
pub fn alarm(deadline: Instant) {
    let earlier = ALARM.get().map_or(deadline, |set| set.min(deadline));
    ALARM.set(Some(earlier));
}

/// Runs one poll, and returns the deadline that it set with [`alarm`], if any.
pub fn alarmed<R>(poll: impl FnOnce() -> R) -> (R, Option<Instant>) {
    let outer = ALARM.take();
    let polled = poll();
    (polled, ALARM.replace(outer))
}

/// Whether a parked thread was woken. Each `block_on` has its own signal, so that a nested one does
/// not consume the wake-up of the outer one.
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
