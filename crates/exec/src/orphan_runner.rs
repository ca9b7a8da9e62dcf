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
struct Orphans {
    sections: Vec<Arc<Inner>>,
    has_thread: bool,
    /// The waker of the thread, while it waits.
    waker: Option<Waker>,
}

static ORPHANS: Mutex<Orphans> = Mutex::new(Orphans { sections: Vec::new(), has_thread: false, waker: None });

/// Hands an abandoned section to the thread that runs it to completion.
pub(crate) fn run_orphan(section: Arc<Inner>) {
    let mut orphans = ORPHANS.lock();
    orphans.sections.push(section);
    if orphans.has_thread {
        let waker = orphans.waker.take();
        drop(orphans);
        return waker.into_iter().for_each(Waker::wake);
    }
    orphans.has_thread = std::thread::Builder::new().name("larder-sections".into()).spawn(run_all).is_ok();
    let has_thread = orphans.has_thread;
    drop(orphans);
    // No thread can be started: run the sections here, late rather than half done.
    if !has_thread {
        run_all();
    }
}

fn run_all() {
    let mut driven = Vec::new();
    runtime::block_on(poll_fn(|context| {
        take_orphans(&mut driven, context.waker());
        driven.retain(|(section, poller)| is_pending(section, poller, context));
        if driven.is_empty() && try_stop() { Poll::Ready(()) } else { Poll::Pending }
    }));
}

/// Takes the newly abandoned sections, and registers `waker` for the next ones.
fn take_orphans(driven: &mut Vec<(Arc<Inner>, Poller)>, waker: &Waker) {
    let mut orphans = ORPHANS.lock();
    let before = orphans.waker.replace(waker.clone());
    let sections = std::mem::take(&mut orphans.sections);
    drop(orphans);
    drop(before);
    driven.extend(sections.into_iter().map(|section| {
        let poller = section.poller();
        (section, poller)
    }));
}

fn is_pending(section: &Arc<Inner>, poller: &Poller, context: &mut Context<'_>) -> bool {
    let polled = section.step(poller, context);
    if polled.is_ready() {
        section.notify_end();
    }
    polled.is_pending()
}

/// Ends the thread, unless a section was added meanwhile. Returns whether it ends.
fn try_stop() -> bool {
    let mut orphans = ORPHANS.lock();
    if orphans.sections.is_empty() {
        (orphans.has_thread, orphans.waker) = (false, None);
    }
    !orphans.has_thread
}
