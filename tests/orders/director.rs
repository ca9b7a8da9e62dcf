//! Runs a scene in many thread interleavings, one after another.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use shuttle::future::JoinHandle;
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use tokio::runtime::{RuntimeFlavor, enter};

/// The default number of orders of each kind.
const ORDERS: usize = 400;
/// The most steps in one run of a scene, tier more than any scene needs.
const STEPS_MAX: usize = 200_000;
/// The number of preemptions that PCT places.
const CHANGES: usize = 3;
/// Stack frames of debug builds are large.
const STACK_BYTES: usize = 1 << 20;

/// Statics belong to the process, so that only one scene runs at a time.
static SCENE: Mutex<()> = Mutex::new(());

/// Runs a scene in random orders, and in orders with few preemptions.
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

/// Runs a tenth of the orders of [`orders`], for a scene that opens files.
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

/// Returns the message of a failing order, for scenes that must fail in some order.
pub(crate) fn failure(scene: fn()) -> Option<String> {
    let found = catch_unwind(|| orders(scene)).err()?;
    Some(message(&*found))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Starts a thread.
pub(crate) fn thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> shuttle::thread::JoinHandle<T> {
    shuttle::thread::spawn(work)
}

/// Starts a task of a multi-threaded runtime.
pub(crate) fn task<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    shuttle::future::spawn(async move {
        enter(RuntimeFlavor::MultiThread);
        work.await
    })
}

/// Waits for a task that was not cancelled, and returns its output.
pub(crate) fn ended<T>(task: JoinHandle<T>) -> T {
    shuttle::future::block_on(task).unwrap()
}

/// A yield point, at which a future can also be dropped.
pub(crate) async fn turn() {
    shuttle::future::yield_now().await;
}

/// The panic payload of loaders in a scene.
#[derive(Debug)]
pub(crate) struct Struck;

/// Panics without output on standard error.
pub(crate) fn panic_quietly() -> ! {
    resume_unwind(Box::new(Struck))
}

/// Returns `Err` if the call panicked with [`panic_quietly`].
pub(crate) fn is_struck<T>(call: impl FnOnce() -> T) -> Result<T, Struck> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| match panic.downcast() {
        Ok(struck) => *struck,
        Err(panic) => resume_unwind(panic),
    })
}
