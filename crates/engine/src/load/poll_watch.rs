//! Detects that the future of a call is no longer polled after it was woken.
//!
//! The leader of a `get_with` call is a future that its caller owns and may stop polling. For
//! example, it is in a `buffered` stream whose consumer waits for something else, or in a branch of
//! `select!` that is kept for later. A leader that waits for its source is not woken. One that was
//! woken and is not polled has stopped. This tells a slow leader from a neglected one, without a
//! limit on how long a load takes.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::time::timeline::Timeline;

/// When the future of a call was last woken and polled.
pub struct PollWatch {
    timeline: Arc<Timeline>,
    /// The waker of the latest poll.
    waker: Mutex<Waker>,
    is_polled: AtomicBool,
    /// Time of the first wake-up since the latest poll began: milliseconds of the monotonic clock
    /// plus one. Zero for none.
    woken_at: AtomicU64,
}

impl PollWatch {
    pub(crate) fn new(timeline: &Arc<Timeline>) -> Arc<Self> {
        Arc::new(Self {
            timeline: Arc::clone(timeline),
            waker: Mutex::new(Waker::noop().clone()),
            is_polled: AtomicBool::new(false),
            woken_at: AtomicU64::new(0),
        })
    }

    /// Returns how long the future has stayed unpolled since it was woken. `None` while it is
    /// polled, or waits and was not woken.
    pub(crate) fn neglected_for(&self) -> Option<Duration> {
        if self.is_polled.load(Ordering::Acquire) {
            return None;
        }
        let woken_at = self.woken_at.load(Ordering::Acquire).checked_sub(1)?;
        Some(Duration::from_millis(self.now().saturating_sub(woken_at)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.timeline.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn note_wake(&self) {
        let now = self.now() + 1;
        // The first wake-up counts. `Err` says that there was one before.
        let _first = self.woken_at.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Calls `poll` with a context that notes wake-ups.
    fn poll(self: &Arc<Self>, context: &Context<'_>, poll: &mut dyn FnMut(&mut Context<'_>)) {
        let former = {
            let mut waker = self.waker.lock();
            (!waker.will_wake(context.waker()))
                .then(|| std::mem::replace(&mut *waker, context.waker().clone()))
        };
        // Drop the waker after the lock: it may be the last handle of a task.
        drop(former);
        self.is_polled.store(true, Ordering::Release);
        self.woken_at.store(0, Ordering::Release);
        let waker = Waker::from(Arc::clone(self));
        poll(&mut Context::from_waker(&waker));
        // A wake-up during the poll counts from the end of the poll.
        if self.woken_at.load(Ordering::Acquire) != 0 {
            self.woken_at.store(self.now() + 1, Ordering::Release);
        }
        self.is_polled.store(false, Ordering::Release);
    }
}

impl Wake for PollWatch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.note_wake();
        let waker = self.waker.lock().clone();
        waker.wake();
    }
}

/// Polls a future under a watch, if there is one.
pub async fn watched<F: Future>(watch: Option<Arc<PollWatch>>, mut future: Pin<Box<F>>) -> F::Output {
    poll_fn(|context| {
        let mut polled = Poll::Pending;
        // One call, so that the future is compiled once.
        let poll: &mut dyn FnMut(&mut Context<'_>) = &mut |context| polled = future.as_mut().poll(context);
        match &watch {
            None => poll(context),
            Some(watch) => watch.poll(context, poll),
        }
        polled
    })
    .await
}
