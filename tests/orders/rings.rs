//! Loaders that load each other's keys: the caller that would close a cycle does not wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use larder_exec::runtime::{Blocking, Runtime, Tokio, block_on};
use tokio::runtime::{RuntimeFlavor, enter};

use crate::director::{ended, orders, task, thread, turn};
use crate::fixtures::TestEngine;
use crate::scenario::Scenario;

/// Loads the first key with a loader that loads the second key, and so on.
fn chain<W: Runtime>(
    engine: Arc<TestEngine>,
    keys: &'static [u64],
) -> Pin<Box<dyn Future<Output = String> + Send>> {
    Box::pin(async move {
        let [key, rest @ ..] = keys else { return "end".to_owned() };
        let inner = Arc::clone(&engine);
        let loader = || async move {
            turn().await;
            chain::<W>(inner, rest).await
        };
        engine.get_with::<W, _, _>(*key, loader).await
    })
}

#[test]
fn cycle_of_two_threads_finishes() {
    orders(|| {
        let engine = Scenario::memory().engine;
        let other = Arc::clone(&engine);
        let other = thread(move || block_on(chain::<Blocking>(other, &[2, 1])));
        block_on(chain::<Blocking>(engine, &[1, 2]));
        other.join().unwrap();
    });
}

#[test]
fn cycle_of_three_threads_and_tasks_finishes() {
    orders(|| {
        let engine = Scenario::memory().engine;
        let (one, two) = (Arc::clone(&engine), Arc::clone(&engine));
        let one = thread(move || block_on(chain::<Blocking>(one, &[1, 2])));
        let two = task(chain::<Tokio>(two, &[2, 3]));
        ended(task(chain::<Tokio>(engine, &[3, 1])));
        one.join().unwrap();
        ended(two);
    });
}

/// A loader that loads its own key, beside a waiter.
#[test]
fn loader_that_loads_its_own_key_finishes() {
    orders(|| {
        let engine = Scenario::memory().engine;
        let other = Arc::clone(&engine);
        let other = task(chain::<Tokio>(other, &[1, 1]));
        block_on(chain::<Blocking>(engine, &[1, 1]));
        ended(other);
    });
}

/// Two cycles with a key in common, and another caller of that key.
#[test]
fn two_cycles_with_a_common_key_finish() {
    orders(|| {
        let engine = Scenario::memory().engine;
        let chains: [&'static [u64]; 4] = [&[1, 2], &[2, 1], &[1, 3], &[3, 1]];
        let tasks = chains.map(|keys| task(chain::<Tokio>(Arc::clone(&engine), keys)));
        block_on(chain::<Blocking>(engine, &[1]));
        for each in tasks {
            ended(each);
        }
    });
}

/// On a single-threaded runtime one task leads a load, and another task makes a blocking call. That
/// call must not wait for a leader that its own thread polls.
#[test]
fn blocking_call_on_a_single_thread_runtime_finishes() {
    orders(|| {
        let engine = Scenario::memory().engine;
        let runtime = Arc::clone(&engine);
        let runtime = thread(move || {
            enter(RuntimeFlavor::CurrentThread);
            let leads = chain::<Tokio>(Arc::clone(&runtime), &[1]);
            let blocks = async { block_on(chain::<Blocking>(runtime, &[1])) };
            shuttle::future::block_on(both(leads, blocks));
        });
        block_on(chain::<Blocking>(engine, &[1]));
        runtime.join().unwrap();
    });
}

/// Polls two futures from one task.
async fn both(one: impl Future<Output = String>, other: impl Future<Output = String>) {
    let (mut one, mut other) = (Box::pin(one), Box::pin(other));
    let (mut one_ended, mut other_ended) = (false, false);
    std::future::poll_fn(|context| {
        one_ended = one_ended || one.as_mut().poll(context).is_ready();
        other_ended = other_ended || other.as_mut().poll(context).is_ready();
        if one_ended && other_ended { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
