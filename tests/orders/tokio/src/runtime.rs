//! Runtimes: which runtime a thread or a task runs in.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use shuttle::{future, thread};

/// As `tokio::runtime::RuntimeFlavor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeFlavor {
    /// All tasks on one thread.
    CurrentThread,
    /// Every task on any thread.
    MultiThread,
}

/// As `tokio::runtime::Handle`.
#[derive(Clone, Copy, Debug)]
pub struct Handle(RuntimeFlavor);

/// As `tokio::runtime::TryCurrentError`.
#[derive(Debug)]
pub struct TryCurrentError;

/// As `tokio::runtime::EnterGuard`.
#[derive(Debug)]
pub struct EnterGuard(Option<RuntimeFlavor>);

impl Drop for EnterGuard {
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(self.0));
    }
}

shuttle::thread_local! {
    static CURRENT: Cell<Option<RuntimeFlavor>> = Cell::new(None);
}

/// Puts the calling thread or task into a runtime, until it ends.
pub fn enter(flavor: RuntimeFlavor) {
    CURRENT.with(|current| current.set(Some(flavor)));
}

impl Handle {
    /// As in `tokio`.
    ///
    /// # Errors
    /// Called outside of a runtime.
    pub fn try_current() -> Result<Self, TryCurrentError> {
        CURRENT.with(Cell::get).map(Self).ok_or(TryCurrentError)
    }

    /// As in `tokio`.
    pub fn enter(&self) -> EnterGuard {
        EnterGuard(CURRENT.with(|current| current.replace(Some(self.0))))
    }

    /// As in `tokio`.
    pub fn runtime_flavor(&self) -> RuntimeFlavor {
        self.0
    }

    /// As in `tokio`. At the end of the run, a task without a handle is waited for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let flavor = self.0;
        let joined = Arc::new(Joined::default());
        let result = Arc::clone(&joined);
        // Never dropped: that would detach the task.
        std::mem::forget(future::spawn(async move {
            enter(flavor);
            result.set(Caught(Box::pin(task)).await);
        }));
        JoinHandle(joined)
    }

    /// As in `tokio`. At the end of the run, a thread without a handle is waited for.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let flavor = self.0;
        let joined = Arc::new(Joined::default());
        let result = Arc::clone(&joined);
        std::mem::forget(thread::spawn(move || {
            enter(flavor);
            result.set(catch_unwind(AssertUnwindSafe(work)));
        }));
        JoinHandle(joined)
    }
}

type Caught1<T> = Result<T, Box<dyn Any + Send>>;

struct Joined<T>(Mutex<(Option<Caught1<T>>, Option<Waker>)>);

impl<T> Default for Joined<T> {
    fn default() -> Self {
        Self(Mutex::new((None, None)))
    }
}

impl<T> Joined<T> {
    fn state(&self) -> MutexGuard<'_, (Option<Caught1<T>>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, result: Caught1<T>) {
        let mut state = self.state();
        state.0 = Some(result);
        let waker = state.1.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// As `tokio::task::JoinHandle`.
pub struct JoinHandle<T>(Arc<Joined<T>>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state();
        match state.0.take() {
            Some(result) => Poll::Ready(result.map_err(JoinError)),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// As `tokio::task::JoinError`, of a panic.
pub struct JoinError(Box<dyn Any + Send>);

impl JoinError {
    /// As in `tokio`.
    pub fn is_panic(&self) -> bool {
        true
    }

    /// As in `tokio`.
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.0
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinError::Panic")
    }
}

struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Future for Caught<F> {
    type Output = Caught1<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
