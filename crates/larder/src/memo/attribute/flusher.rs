//! Flushes what functions have stored, soon after.
//!
//! One thread for all of them. It comes with the first entry and goes when
//! nothing was stored for a while: nobody drops a static, so there is no end to
//! tie it to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long entries gather before they are flushed: a flush waits for the medium.
const GATHERING: Duration = Duration::from_millis(50);
/// How long the thread stays without anything to do.
const IDLE: Duration = Duration::from_secs(2);

/// What can be flushed.
pub(super) trait Flush: Sync {
    fn flush(&self);
}

/// Those who wait for their turn; `running` while there is a thread.
#[derive(Default)]
struct Queue {
    waiting: Vec<&'static dyn Flush>,
    running: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { waiting: Vec::new(), running: false });
static MORE: Condvar = Condvar::new();

/// Has `cache` flushed soon.
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
        tracing::warn!(target: "larder", %error, "no thread to flush in: tiers flush in their own time");
    }
}

fn run() {
    while let Some(caches) = next() {
        for cache in caches {
            cache.flush();
        }
    }
}

/// What has gathered; `None` when there was nothing for a while.
fn next() -> Option<Vec<&'static dyn Flush>> {
    let mut queue = QUEUE.lock();
    if queue.waiting.is_empty() && MORE.wait_for(&mut queue, IDLE).timed_out() && queue.waiting.is_empty() {
        queue.running = false;
        return None;
    }
    // Whoever comes meanwhile joins, so waking early would only flush twice.
    let until = std::time::Instant::now() + GATHERING;
    while !MORE.wait_until(&mut queue, until).timed_out() {}
    Some(std::mem::take(&mut queue.waiting))
}
