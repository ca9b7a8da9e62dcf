//! Explores every schedule of a few tasks, one after another.
//!
//! [`explore`] runs a scene repeatedly. Wherever more than one task could continue, each
//! run makes another choice, until every order was tried. Tasks switch only where they
//! wait; the order of single instructions of threads is not explored.
//!
//! ```
//! use std::cell::RefCell;
//! use larder_testkit::schedule::{Task, explore, turn};
//!
//! let orders = RefCell::new(std::collections::HashSet::new());
//! let schedules = explore(1000, |scene| {
//!     let told = RefCell::new(String::new());
//!     let say = async |letter: char| {
//!         told.borrow_mut().push(letter);
//!         turn().await;
//!         told.borrow_mut().push(letter.to_ascii_uppercase());
//!     };
//!     scene.play(vec![Task::new(say('a')), Task::new(say('b'))]);
//!     orders.borrow_mut().insert(told.take());
//! });
//! assert_eq!((schedules, orders.borrow().len()), (6, 6));
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A task of a scene.
pub struct Task<'a> {
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    mortal: bool,
}

impl<'a> Task<'a> {
    /// A task that runs to its end.
    pub fn new(future: impl Future<Output = ()> + 'a) -> Self {
        Self { future: Box::pin(future), mortal: false }
    }

    /// A task that may be dropped at any point where it waits.
    pub fn mortal(future: impl Future<Output = ()> + 'a) -> Self {
        Self { mortal: true, ..Self::new(future) }
    }
}

/// One run of a scene: the choices to make, and how many there were at each point.
#[derive(Debug, Default)]
pub struct Scene {
    /// The choice at each point, and the number of choices there.
    turns: Vec<(usize, usize)>,
    next: usize,
}

impl Scene {
    /// Chooses one of `count` ways to continue; another one in another run.
    pub fn choose(&mut self, count: usize) -> usize {
        if self.next == self.turns.len() {
            self.turns.push((0, count));
        }
        let (chosen, out_of) = self.turns[self.next];
        assert_eq!(out_of, count, "a scene must not depend on anything but its turns: {self}");
        self.next += 1;
        chosen
    }

    /// Runs tasks until all have ended or were dropped.
    ///
    /// # Panics
    /// If every task waits and none is woken: they hang.
    pub fn play(&mut self, tasks: Vec<Task<'_>>) {
        let mut stage: Vec<_> = tasks.into_iter().map(|task| (Some(task), Flag::new())).collect();
        loop {
            let can: Vec<(usize, bool)> = stage.iter().enumerate().flat_map(ways).collect();
            if can.is_empty() {
                let left = stage.iter().filter(|(task, _)| task.is_some()).count();
                assert_eq!(left, 0, "{left} tasks wait for one another: {self}");
                return;
            }
            let (at, dies) = can[self.choose(can.len())];
            let (task, flag) = &mut stage[at];
            if dies || task.as_mut().is_some_and(|task| flag.poll(task)) {
                *task = None;
            }
        }
    }

    /// Prepares the next run. Returns whether there is one.
    fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some((chosen, count)) = self.turns.pop() {
            if chosen + 1 < count {
                self.turns.push((chosen + 1, count));
                return true;
            }
        }
        false
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("turns")?;
        self.turns.iter().take(self.next).try_for_each(|(chosen, count)| write!(f, " {chosen}/{count}"))
    }
}

/// The ways a task can continue: be polled if it was woken, or be dropped if it began and
/// is mortal.
fn ways((at, (task, flag)): (usize, &(Option<Task<'_>>, Arc<Flag>))) -> Vec<(usize, bool)> {
    let Some(task) = task else { return Vec::new() };
    let polled = flag.woken.load(Ordering::SeqCst).then_some((at, false));
    let dropped = (task.mortal && flag.began.load(Ordering::SeqCst)).then_some((at, true));
    polled.into_iter().chain(dropped).collect()
}

/// Whether a task has begun, and whether it was woken since its last poll.
struct Flag {
    began: AtomicBool,
    woken: AtomicBool,
}

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Self { began: AtomicBool::new(false), woken: AtomicBool::new(true) })
    }

    /// Polls a task. Returns whether it has ended.
    fn poll(self: &Arc<Self>, task: &mut Task<'_>) -> bool {
        self.began.store(true, Ordering::SeqCst);
        self.woken.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(self));
        task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
    }
}

/// Yields: a point where the schedule may switch to another task.
pub async fn turn() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs `scene` under every schedule. Returns the number of schedules.
///
/// # Panics
/// If the scene panics, or there are more than `most` schedules.
pub fn explore(most: usize, mut scene: impl FnMut(&mut Scene)) -> usize {
    let mut turns = Scene::default();
    for schedules in 1..=most {
        scene(&mut turns);
        if !turns.advance() {
            return schedules;
        }
    }
    panic!("more than {most} schedules");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "1 tasks wait for one another: turns 0/1")]
    fn task_that_is_never_woken_hangs() {
        explore(10, |scene| scene.play(vec![Task::new(std::future::pending())]));
    }

    #[test]
    fn mortal_task_is_dropped_at_every_point_where_it_waits() {
        let mut ends = Vec::new();
        let schedules = explore(10, |scene| {
            let steps = std::cell::Cell::new(0);
            scene.play(vec![Task::mortal(async {
                for step in 1..=3 {
                    steps.set(step);
                    turn().await;
                }
                steps.set(4);
            })]);
            ends.push(steps.get());
        });
        assert_eq!((schedules, ends), (4, vec![4, 3, 2, 1]));
    }
}
