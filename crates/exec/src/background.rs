//! Threads for loads that go on without their callers.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// Threads at once. One that a hung loader keeps counts until that ends.
pub const THREADS_MAX: usize = 64;
/// Address space for the stack of a thread: loads within loads run on it where no thread
/// is left for them.
const STACK_BYTES: usize = 8 << 20;
/// Loads that wait for a thread.
const QUEUE_MAX: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// A bounded pool whose threads end when there is nothing to do.
pub struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// The process that has the threads.
    process: u32,
    /// Jobs that run.
    running: usize,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    /// Runs `job` on a thread of the pool; gives it back where there is no room.
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

    /// As [`spawn`](Self::spawn), where `job` need not wait for a thread; gives it
    /// back otherwise.
    pub fn spawn_at_once<J: FnOnce() + Send + 'static>(self: &Arc<Self>, job: J) -> Result<(), J> {
        let mut state = self.state();
        if !self.has_thread(&mut state) {
            return Err(job);
        }
        state.queue.push_back(Box::new(job));
        Ok(())
    }

    /// The state, as it is in this process.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let process = std::process::id();
        if state.process != process {
            // A child that was forked has none of the threads, and does not run jobs twice.
            *state = State { process, ..State::default() };
        }
        state
    }

    /// Whether one more job has a thread of its own: one that is about to look for a
    /// job, or a new one.
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
            // A panic of the loader was caught before; this one is of a value's own code.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                tracing::error!(target: "larder", "a background load panicked while it was stored");
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
    fn jobs_run_beyond_the_number_of_threads_and_panics() {
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
    fn hung_jobs_leave_the_rest_to_their_callers() {
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

    /// Loads within loads, each on a thread of the pool that waits for the next:
    /// the one that found no thread waited in the queue for ever.
    #[test]
    fn a_job_that_others_wait_for_is_given_back_rather_than_queued() {
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
