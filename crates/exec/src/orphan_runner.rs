//! Runs abandoned sections to completion on one thread.
//!
//! The thread drives all of them at once. One section may wait for the lock that another one holds,
//! whichever was abandoned first, and a waiter does not drive a section that already has a thread.
//! A section that blocks delays the others, but waits for none of them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::runtime;
use crate::shared_future::Poller;
use crate::uncancellable::Inner;

/// Abandoned sections that the thread has not taken over yet.
struct Left {
    sections: Vec<Arc<Inner>>,
    has_thread: bool,
    /// The waker of the thread, while it waits.
    waker: Option<Waker>,
}

static LEFT: Mutex<Left> = Mutex::new(Left { sections: Vec::new(), has_thread: false, waker: None });

/// Hands an abandoned section to the thread that runs it to completion.
pub(crate) fn run_orphan(section: Arc<Inner>) {
    let mut left = LEFT.lock();
    left.sections.push(section);
    if left.has_thread {
        let waker = left.waker.take();
        drop(left);
        return waker.into_iter().for_each(Waker::wake);
    }
    left.has_thread = std::thread::Builder::new().name("larder-sections".into()).spawn(finish_all).is_ok();
    let has_thread = left.has_thread;
    drop(left);
    // No thread can be started: run the sections here, late rather than half done.
    if !has_thread {
        finish_all();
    }
}

fn finish_all() {
    let mut driven = Vec::new();
    runtime::block_on(poll_fn(|context| {
        take_over(&mut driven, context.waker());
        driven.retain(|(section, poller)| is_under_way(section, poller, context));
        if driven.is_empty() && is_all() { Poll::Ready(()) } else { Poll::Pending }
    }));
}

/// Takes over newly abandoned sections, and registers `waker` for the next ones.
fn take_over(driven: &mut Vec<(Arc<Inner>, Poller)>, waker: &Waker) {
    let mut left = LEFT.lock();
    let before = left.waker.replace(waker.clone());
    let sections = std::mem::take(&mut left.sections);
    drop(left);
    drop(before);
    driven.extend(sections.into_iter().map(|section| {
        let poller = section.poller();
        (section, poller)
    }));
}

fn is_under_way(section: &Arc<Inner>, poller: &Poller, context: &mut Context<'_>) -> bool {
    let polled = section.step(poller, context);
    if polled.is_ready() {
        section.notify_end();
    }
    polled.is_pending()
}

/// Returns whether no section was added meanwhile. The thread then ends.
fn is_all() -> bool {
    let mut left = LEFT.lock();
    if left.sections.is_empty() {
        (left.has_thread, left.waker) = (false, None);
    }
    !left.has_thread
}
