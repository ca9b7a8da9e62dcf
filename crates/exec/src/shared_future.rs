//! A future that several callers drive together: each caller that needs its end polls it.
//!
//! Only one caller polls at a time. The others register a waker, and all of them are woken after
//! that poll. They have to be: the polling caller may be dropped right afterwards, and the wake-up
//! that came during its poll would be lost with it. `Shared` of `futures-util` does not wake
//! callers that came during a poll, <https://github.com/rust-lang/futures-rs/issues/2706>.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use smallvec::SmallVec;

type BoxedFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future, and the wakers of the callers that drive it.
pub(crate) struct SharedFuture {
    state: Mutex<State>,
    wakers: Arc<Wakers>,
}

enum State {
    Idle(BoxedFuture),
    /// One caller polls the future. These wakers were registered meanwhile.
    Polled(Vec<Waker>),
    Ended,
}

/// The wakers of all pollers, by poller number. The list is short.
#[derive(Default)]
struct Wakers {
    waiting: Mutex<SmallVec<[(u64, Waker); 1]>>,
    next_number: AtomicU64,
}

/// The registration of one caller that drives the future.
pub(crate) struct Poller {
    wakers: Arc<Wakers>,
    number: u64,
}

impl SharedFuture {
    pub(crate) fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { state: Mutex::new(State::Idle(Box::pin(future))), wakers: Arc::default() }
    }

    pub(crate) fn poller(&self) -> Poller {
        let number = self.wakers.next_number.fetch_add(1, Ordering::Relaxed);
        Poller { wakers: Arc::clone(&self.wakers), number }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.state.lock(), State::Ended)
    }

    /// Polls the future once on behalf of `poller`. The future does not panic.
    pub(crate) fn poll(&self, poller: &Poller, context: &mut Context<'_>) -> Poll<()> {
        // Register first, so that no wake-up from here on is missed.
        poller.register(context.waker());
        let Some(mut future) = self.begin(context.waker()) else {
            return if self.has_ended() { Poll::Ready(()) } else { Poll::Pending };
        };
        let waker = Waker::from(Arc::clone(&self.wakers));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            self.end_poll(State::Idle(future));
            return Poll::Pending;
        }
        drop(future);
        self.end_poll(State::Ended);
        // This caller has the end. Waking it would poll its task once more for nothing.
        poller.deregister();
        self.wakers.wake_all();
        Poll::Ready(())
    }

    /// Takes the future for a poll. If another caller polls it, registers `waker` instead.
    fn begin(&self, waker: &Waker) -> Option<BoxedFuture> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Polled(others) => others.push(waker.clone()),
            State::Ended => {}
            State::Idle(_) => {
                if let State::Idle(future) = std::mem::replace(&mut *state, State::Polled(Vec::new())) {
                    return Some(future);
                }
            }
        }
        None
    }

    /// Ends a poll, and wakes the callers that registered meanwhile: the wake-up may have gone to the
    /// caller that has just polled.
    fn end_poll(&self, next: State) {
        let polled = std::mem::replace(&mut *self.state.lock(), next);
        if let State::Polled(others) = polled {
            others.into_iter().for_each(Waker::wake);
        }
    }
}

impl Wakers {
    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

impl Poller {
    fn register(&self, waker: &Waker) {
        let mut waiting = self.wakers.waiting.lock();
        match waiting.iter_mut().find(|(number, _)| *number == self.number) {
            Some((_, known)) => known.clone_from(waker),
            None => waiting.push((self.number, waker.clone())),
        }
    }

    fn deregister(&self) {
        let mut waiting = self.wakers.waiting.lock();
        let at = waiting.iter().position(|(number, _)| *number == self.number);
        // Drop the waker after the lock: it may be the last handle of a task.
        let _waker = at.map(|at| waiting.swap_remove(at));
        drop(waiting);
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.deregister();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The first caller is woken during its poll, and is dropped right after it.
    #[test]
    fn caller_that_comes_during_a_poll_is_woken_after_it() {
        let shared: Arc<std::sync::OnceLock<SharedFuture>> = Arc::default();
        let counts = [(); 2].map(|()| Arc::new(Count::default()));
        let wakers = counts.clone().map(Waker::from);
        let (inside, other) = (Arc::clone(&shared), wakers[1].clone());
        let mut polls = 0;
        let future = std::future::poll_fn(move |context| {
            polls += 1;
            if polls > 1 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            let future = inside.get().unwrap();
            // A real waiter would keep the poller. Here only the waker counts.
            let poller = future.poller();
            assert!(future.poll(&poller, &mut Context::from_waker(&other)).is_pending());
            std::mem::forget(poller);
            Poll::Pending
        });
        let future = shared.get_or_init(|| SharedFuture::new(future));
        let first = future.poller();
        assert!(future.poll(&first, &mut Context::from_waker(&wakers[0])).is_pending());
        drop(first);
        assert_eq!(counts[1].0.load(Ordering::Relaxed), 1, "nobody would poll again");
        let second = future.poller();
        assert!(future.poll(&second, &mut Context::from_waker(&wakers[1])).is_ready());
        assert!(future.has_ended());
    }

    #[test]
    fn caller_that_polls_to_the_end_is_not_woken() {
        let counts = [(); 2].map(|()| Arc::new(Count::default()));
        let wakers = counts.clone().map(Waker::from);
        let mut polls = 0;
        let shared = SharedFuture::new(std::future::poll_fn(move |_| {
            polls += 1;
            if polls > 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        let pollers = [(); 2].map(|()| shared.poller());
        for (poller, waker) in pollers.iter().zip(&wakers) {
            assert!(shared.poll(poller, &mut Context::from_waker(waker)).is_pending());
        }
        assert!(shared.poll(&pollers[0], &mut Context::from_waker(&wakers[0])).is_ready());
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [0, 1]);
    }
}
