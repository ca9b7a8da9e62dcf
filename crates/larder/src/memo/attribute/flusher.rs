//! Flushes the caches of functions in the background, soon after a write.
//!
//! One thread serves all of them. The first write starts it, and it ends after some idle time. The caches are
//! statics, which are never dropped, so no drop can flush them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long writes are collected before a flush, since a flush waits for the disk.
const GATHERING: Duration = Duration::from_millis(50);
/// How long the idle thread waits before it ends.
const IDLE: Duration = Duration::from_secs(2);

/// A cache that can be flushed.
pub(super) trait Flush: Sync {
    fn flush(&self);
}

/// The caches to flush; `running` while the thread exists.
#[derive(Default)]
struct Queue {
    waiting: Vec<&'static dyn Flush>,
    running: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { waiting: Vec::new(), running: false });
static MORE: Condvar = Condvar::new();

/// Schedules a flush of `cache`.
pub(super) fn enqueue(cache: &'static dyn Flush) {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    let mut queue = QUEUE.lock();
    queue.waiting.push(cache);
    if queue.running {
        MORE.notify_one();
        return;
    }
    let spawned = thread::Builder::new().name("larder-flush".to_owned()).spawn(run);
    queue.running = spawned.is_ok();
    if let Err(error) = spawned
        && !REFUSED.swap(true, Ordering::AcqRel)
    {
        tracing::warn!(target: "larder", %error, "cannot start the flush thread; tiers flush on their own schedule");
    }
}

fn run() {
    while let Some(caches) = next() {
        for cache in caches {
            cache.flush();
        }
    }
}

/// Waits for the next batch of caches; `None` after the idle time.
fn next() -> Option<Vec<&'static dyn Flush>> {
    let mut queue = QUEUE.lock();
    if queue.waiting.is_empty() && MORE.wait_for(&mut queue, IDLE).timed_out() && queue.waiting.is_empty() {
        queue.running = false;
        return None;
    }
    // Caches that are enqueued meanwhile join this batch: waking earlier would only add a flush.
    let until = std::time::Instant::now() + GATHERING;
    while !MORE.wait_until(&mut queue, until).timed_out() {}
    Some(std::mem::take(&mut queue.waiting))
}
