//! A future that several drive.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

pub use real::future::BoxFuture;
use shuttle::thread::sleep;

/// As `futures_util::future::Shared`: one polls at a time, and who comes meanwhile
/// leaves a waker and goes. When the future is woken, and at its end, all are woken.
pub struct Shared<F: Future> {
    inner: Arc<Inner<F>>,
    /// Which of the wakers is this one's.
    seat: Option<usize>,
}

struct Inner<F: Future> {
    /// `None` while somebody polls it, and when it has ended.
    future: Mutex<Option<Pin<Box<F>>>>,
    output: OnceLock<F::Output>,
    wakers: Arc<Wakers>,
}

#[derive(Default)]
struct Wakers(Mutex<BTreeMap<usize, Option<Waker>>>);

/// Locks of this file are never held where others may come in between.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn others_may_come() {
    sleep(Duration::ZERO);
}

impl Wakers {
    fn wake_all(&self) {
        let wakers: Vec<Waker> = hold(&self.0).values_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn leave(&self, seat: &mut Option<usize>, waker: &Waker) {
        let mut wakers = hold(&self.0);
        let next = wakers.last_key_value().map_or(0, |(last, _)| last + 1);
        wakers.insert(*seat.get_or_insert(next), Some(waker.clone()));
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        others_may_come();
        self.wake_all();
    }
}

impl<F: Future> Shared<F> {
    pub(crate) fn new(future: F) -> Self {
        let future = Mutex::new(Some(Box::pin(future)));
        let inner = Inner { future, output: OnceLock::new(), wakers: Arc::default() };
        Self { inner: Arc::new(inner), seat: None }
    }

    /// As in `futures_util`.
    pub fn peek(&self) -> Option<&F::Output> {
        others_may_come();
        self.inner.output.get()
    }
}

impl<F: Future<Output: Clone>> Future for Shared<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let inner = Arc::clone(&self.inner);
        others_may_come();
        if let Some(output) = inner.output.get() {
            return Poll::Ready(output.clone());
        }
        inner.wakers.leave(&mut self.seat, context.waker());
        others_may_come();
        let Some(mut future) = hold(&inner.future).take() else {
            return inner.output.get().cloned().map_or(Poll::Pending, Poll::Ready);
        };
        let waker = Waker::from(Arc::clone(&inner.wakers));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        others_may_come();
        match polled {
            Poll::Pending => {
                *hold(&inner.future) = Some(future);
                Poll::Pending
            }
            Poll::Ready(output) => {
                drop(future);
                let output = inner.output.get_or_init(|| output).clone();
                inner.wakers.wake_all();
                Poll::Ready(output)
            }
        }
    }
}

impl<F: Future> Clone for Shared<F> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), seat: None }
    }
}

impl<F: Future> Drop for Shared<F> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat {
            hold(&self.inner.wakers.0).remove(&seat);
        }
    }
}
