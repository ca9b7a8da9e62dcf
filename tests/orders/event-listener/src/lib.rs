//! `event-listener` under the scheduler of shuttle.
//!
//! A listener receives only notifications that come after its creation. A notification goes to the
//! longest waiting listeners that have none yet. If a listener drops without taking it, the next
//! one gets it. Time stands still.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shuttle::future::block_on;
use shuttle::thread::sleep;

/// As `event_listener::Event`.
#[derive(Debug, Default)]
pub struct Event {
    queue: Arc<Queue>,
}

/// The listeners, in the order of their creation. No thread switch happens while the lock is held,
/// so no thread waits for it.
#[derive(Debug, Default)]
struct Queue {
    entries: Mutex<VecDeque<Entry>>,
    listeners: AtomicUsize,
}

#[derive(Debug, Default)]
struct Entry {
    listener: usize,
    is_notified: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies listeners until `count` of them have a notification.
    fn notify(&self, count: usize) -> usize {
        let mut entries = self.entries();
        let have = entries.iter().filter(|entry| entry.is_notified).count();
        let next = entries.iter_mut().filter(|entry| !entry.is_notified);
        let mut wakers = Vec::new();
        let mut notified = 0;
        for entry in next.take(count.saturating_sub(have)) {
            entry.is_notified = true;
            notified += 1;
            wakers.extend(entry.waker.take());
        }
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
        notified
    }
}

impl Event {
    /// As in `event_listener`.
    pub fn new() -> Self {
        Self::default()
    }

    /// As in `event_listener`.
    pub fn listen(&self) -> EventListener {
        others_may_come();
        let listener = self.queue.listeners.fetch_add(1, Ordering::Relaxed);
        self.queue.entries().push_back(Entry { listener, ..Entry::default() });
        EventListener { queue: Arc::clone(&self.queue), listener }
    }

    /// As in `event_listener`: returns the number of listeners notified by this call.
    pub fn notify(&self, count: usize) -> usize {
        others_may_come();
        self.queue.notify(count)
    }
}

fn others_may_come() {
    sleep(Duration::ZERO);
}

/// As `event_listener::EventListener`.
#[derive(Debug)]
pub struct EventListener {
    queue: Arc<Queue>,
    listener: usize,
}

impl EventListener {
    /// The entry of this listener, unless it took its notification.
    fn entry<R>(&self, then: impl FnOnce(&mut VecDeque<Entry>, usize) -> R) -> Option<R> {
        let mut entries = self.queue.entries();
        let at = entries.iter().position(|entry| entry.listener == self.listener)?;
        Some(then(&mut entries, at))
    }

    fn take_notice(&mut self, waker: &Waker) -> bool {
        let taken = self.entry(|entries, at| {
            if entries[at].is_notified {
                entries.remove(at);
                return true;
            }
            entries[at].waker = Some(waker.clone());
            false
        });
        taken.unwrap_or(true)
    }
}

impl Future for EventListener {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        others_may_come();
        if self.take_notice(context.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for EventListener {
    fn drop(&mut self) {
        let removed = self.entry(|entries, at| entries.remove(at)).flatten();
        if removed.is_some_and(|entry| entry.is_notified) {
            self.queue.notify(1);
        }
    }
}

/// As `event_listener::Listener`.
pub trait Listener: Sized {
    /// As in `event_listener`.
    fn wait(self);

    /// As in `event_listener`, but time stands still.
    fn wait_deadline(self, moment: Instant) -> Option<()>;
}

impl Listener for EventListener {
    fn wait(self) {
        block_on(self);
    }

    fn wait_deadline(mut self, moment: Instant) -> Option<()> {
        if moment <= Instant::now() {
            return self.take_notice(Waker::noop()).then_some(());
        }
        self.wait();
        Some(())
    }
}
