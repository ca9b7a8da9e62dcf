//! A thread pool for loads that continue without their callers.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::runtime::process_id;

/// Maximum number of threads at once. A thread counts while its loader hangs.
pub const THREADS_MAX: usize = 64;
/// Stack size of a thread, as address space. Nested loads run on this stack when the pool has no
/// thread left for them.
const STACK_BYTES: usize = 8 << 20;
/// Maximum number of loads that wait for a thread.
const QUEUE_MAX: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// A bounded thread pool. A thread ends when the queue is empty.
pub struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// The process that started the threads.
    process: u32,
    /// Number of jobs that are running.
    running: usize,
}

impl Pool {
    /// Creates an empty pool.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    /// Runs `job` on a thread of the pool, after the jobs already queued.
    ///
    /// # Errors
    /// Returns the job if the queue is full, or if the pool has no thread and can start none.
    pub fn spawn<J: FnOnce() + Send + 'static>(self: &Arc<Self>, job: J) -> Result<(), J> {
        let mut state = self.state();
        if state.queue.len() >= QUEUE_MAX {
            return Err(job);
        }
        if !self.has_thread(&mut state) && state.threads == 0 {
            return Err(job);
        }
        state.queue.push_back(Box::new(job));
        Ok(())
    }

    /// Runs `job` on a thread of the pool if one is available without waiting.
    ///
    /// # Errors
    /// Returns the job if every thread is busy and no other can be started.
    pub fn spawn_at_once<J: FnOnce() + Send + 'static>(self: &Arc<Self>, job: J) -> Result<(), J> {
        let mut state = self.state();
        if !self.has_thread(&mut state) {
            return Err(job);
        }
        state.queue.push_back(Box::new(job));
        Ok(())
    }

    /// Locks the state, and resets it in a forked child.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let process = process_id();
        if state.process != process {
            // A forked child has none of the threads, and must not run the jobs a second time.
            *state = State { process, ..State::default() };
        }
        state
    }

    /// Returns whether one more job gets a thread at once: one that is about to take a job, or a
    /// new one.
    fn has_thread(self: &Arc<Self>, state: &mut State) -> bool {
        let wanted = state.running + state.queue.len() + 1;
        wanted <= state.threads || wanted <= THREADS_MAX && self.start_thread(state)
    }

    fn start_thread(self: &Arc<Self>, state: &mut State) -> bool {
        let pool = Arc::clone(self);
        let thread = std::thread::Builder::new().name("larder-load".into()).stack_size(STACK_BYTES);
        let started = thread.spawn(move || pool.work());
        state.threads += usize::from(started.is_ok());
        started.is_ok()
    }

    fn work(&self) {
        while let Some(job) = self.next_job() {
            // Panics of loaders are caught earlier. This one comes from the value's own code, or from the
            // predicate of an invalidation.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                tracing::error!(target: "larder", "a job in the background panicked");
            }
            self.state.lock().running -= 1;
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.state.lock();
        let job = state.queue.pop_front();
        match job {
            Some(_) => state.running += 1,
            None => state.threads -= 1,
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn pool_runs_more_jobs_than_threads_although_one_panics() {
        let pool = Pool::new();
        let (done, all) = mpsc::channel();
        for number in 0..3 * THREADS_MAX {
            let done = done.clone();
            let job = move || {
                done.send(number).unwrap();
                assert!(number != 5, "job 5 panics");
            };
            assert!(pool.spawn(job).is_ok());
        }
        drop(done);
        assert_eq!(all.iter().count(), 3 * THREADS_MAX);
    }

    #[test]
    fn spawn_returns_the_job_when_hung_jobs_fill_threads_and_queue() {
        let pool = Pool::new();
        let gate = Arc::new(Mutex::new(()));
        let shut = gate.lock();
        let hung = || {
            let gate = Arc::clone(&gate);
            move || drop(gate.lock())
        };
        let taken = (0..2 * (THREADS_MAX + QUEUE_MAX)).take_while(|_| pool.spawn(hung()).is_ok()).count();
        assert!((QUEUE_MAX..=QUEUE_MAX + THREADS_MAX).contains(&taken), "{taken}");
        drop(shut);
    }

    /// Regression: nested loads each held a thread of the pool and waited for the next one. The
    /// load that found no thread waited in the queue for ever.
    #[test]
    fn spawn_at_once_returns_the_job_when_no_thread_is_free() {
        let pool = Pool::new();
        let gate = Arc::new(Mutex::new(()));
        let shut = gate.lock();
        let hung = || {
            let gate = Arc::clone(&gate);
            move || drop(gate.lock())
        };
        let taken = (0..2 * THREADS_MAX).take_while(|_| pool.spawn_at_once(hung()).is_ok()).count();
        assert_eq!(taken, THREADS_MAX);
        drop(shut);
    }
}
