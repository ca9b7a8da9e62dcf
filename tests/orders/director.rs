//! How a scene is run: in many orders, one after another.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use shuttle::future::JoinHandle;
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use tokio::runtime::{RuntimeFlavor, enter};

/// Orders of each kind, where nothing else is said.
const ORDERS: usize = 400;
/// In one run of a scene: far more than any has.
const STEPS_MAX: usize = 200_000;
/// Changes of who goes on that PCT places.
const CHANGES: usize = 3;
/// Stacks of debug builds are deep.
const STACK_BYTES: usize = 1 << 20;

/// Statics are those of the process: one scene at a time.
static SCENE: Mutex<()> = Mutex::new(());

/// Runs a scene in orders at random, and in orders with few changes.
pub(crate) fn orders(scene: fn()) {
    run_orders(scene, 1);
}

fn run_orders(scene: fn(), share: usize) {
    let _alone = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(order) = std::env::var("LARDER_ORDER") {
        return shuttle::replay(scene, &order);
    }
    let count = std::env::var("LARDER_ORDERS").map_or(ORDERS, |count| count.parse().unwrap());
    let count = count.div_ceil(share);
    println!("{} at random", run(RandomScheduler::new(count), scene));
    println!("{} with few changes", run(PctScheduler::new(CHANGES, count), scene));
}

/// As [`orders`], for a scene that opens files: a tenth of them.
pub(crate) fn few_orders(scene: fn()) {
    run_orders(scene, 10);
}

/// Runs a scene in every order.
pub(crate) fn every_order(scene: fn()) {
    let _alone = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
    println!("all {}", run(DfsScheduler::new(None, false), scene));
}

fn run(scheduler: impl Scheduler + 'static, scene: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scene)
}

/// Whether some order of a scene fails, and how: for scenes that have to.
pub(crate) fn failure(scene: fn()) -> Option<String> {
    let found = catch_unwind(|| orders(scene)).err()?;
    Some(message(&*found))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// A thread.
pub(crate) fn thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> shuttle::thread::JoinHandle<T> {
    shuttle::thread::spawn(work)
}

/// A task of a runtime with many threads.
pub(crate) fn task<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    shuttle::future::spawn(async move {
        enter(RuntimeFlavor::MultiThread);
        work.await
    })
}

/// The end of a task that was not cancelled.
pub(crate) fn ended<T>(task: JoinHandle<T>) -> T {
    shuttle::future::block_on(task).unwrap()
}

/// A place where a future waits, and may be dropped.
pub(crate) async fn turn() {
    shuttle::future::yield_now().await;
}

/// What a loader of the scene panics with.
#[derive(Debug)]
pub(crate) struct Struck;

/// Panics without a word of it on standard error.
pub(crate) fn panic_quietly() -> ! {
    resume_unwind(Box::new(Struck))
}

/// Whether the call panicked by [`panic_quietly`].
pub(crate) fn is_struck<T>(call: impl FnOnce() -> T) -> Result<T, Struck> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| match panic.downcast() {
        Ok(struck) => *struck,
        Err(panic) => resume_unwind(panic),
    })
}
