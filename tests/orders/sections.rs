//! Key locks and uncancellable writes: one writer at a time changes an entry, and a caller that
//! waits for a key lock polls the write that holds it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use larder_exec::runtime::{Blocking, Tokio, block_on};

use crate::director::{ended, orders, task, thread};
use crate::scenario::Scenario;
use crate::suspending_tier::SuspendingTier;

/// `SuspendingTier` asserts that only one writer at a time changes the entry.
#[test]
fn concurrent_writers_take_turns() {
    orders(|| {
        let scenario = Scenario::over(&SuspendingTier::new());
        let tasks = [(); 2]
            .map(|()| scenario.clone())
            .map(|scenario| task(async move { scenario.insert::<Tokio>().await }));
        let removal = scenario.clone();
        let removal = thread(move || block_on(removal.remove::<Blocking>()));
        block_on(scenario.insert::<Blocking>());
        for each in tasks {
            ended(each);
        }
        removal.join().unwrap();
        scenario.judge();
    });
}

#[test]
fn concurrent_writers_take_turns_over_a_blocking_tier() {
    orders(|| {
        let scenario = Scenario::over(&SuspendingTier::blocking());
        let tasks = [(); 2]
            .map(|()| scenario.clone())
            .map(|scenario| task(async move { scenario.insert::<Tokio>().await }));
        block_on(scenario.remove::<Blocking>());
        for each in tasks {
            ended(each);
        }
        scenario.judge();
    });
}

type Held<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Polls once and ignores the result.
fn poll_once(future: &mut Held<'_>) {
    let _ready_or_not = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

/// The task that holds the key lock is not polled while its own thread waits for the lock.
#[test]
fn write_that_is_not_polled_is_polled_by_a_waiter() {
    orders(|| {
        let scenario = Scenario::over(&SuspendingTier::new());
        let mut held: Held<'_> = Box::pin(scenario.insert::<Tokio>());
        poll_once(&mut held);
        let (other, clear) = (scenario.clone(), scenario.clone());
        let other = task(async move { other.remove::<Tokio>().await });
        let clear = thread(move || block_on(clear.clear::<Blocking>()));
        block_on(scenario.insert::<Blocking>());
        block_on(held);
        ended(other);
        clear.join().unwrap();
        scenario.judge();
    });
}

/// A write that has begun runs to completion, also if its future is dropped.
#[test]
fn dropped_write_runs_to_completion() {
    orders(|| {
        let scenario = Scenario::only(&SuspendingTier::new());
        let mut held: Held<'_> = Box::pin(scenario.insert::<Tokio>());
        poll_once(&mut held);
        let other = scenario.clone();
        let other = task(async move { other.get::<Tokio>().await });
        drop(held);
        ended(other);
        assert!(block_on(scenario.remove::<Blocking>()), "it was half done");
        scenario.judge();
    });
}

#[test]
fn writers_cancelled_at_any_point_are_sound() {
    orders(|| {
        let scenario = Scenario::over(&SuspendingTier::new());
        let mortal = [(); 2]
            .map(|()| scenario.clone())
            .map(|scenario| task(async move { scenario.insert::<Tokio>().await }));
        let other = scenario.clone();
        let other = task(async move { other.insert::<Tokio>().await });
        mortal.iter().for_each(|task| task.abort());
        block_on(scenario.remove::<Blocking>());
        ended(other);
        scenario.judge();
    });
}

/// A reader that found a torn entry takes the key lock to remove it, and may be cancelled then. A
/// waiter for the lock must continue.
#[test]
fn reader_cancelled_while_it_removes_a_torn_entry_is_sound() {
    orders(|| {
        let tier = SuspendingTier::new();
        let scenario = Scenario::only(&tier);
        block_on(scenario.insert::<Blocking>());
        tier.tears.store(true, Ordering::Relaxed);
        let (mortal, writer) = (scenario.clone(), scenario.clone());
        let mortal = task(async move { mortal.get::<Tokio>().await });
        let writer = task(async move { writer.insert::<Tokio>().await });
        mortal.abort();
        block_on(scenario.insert::<Blocking>());
        ended(writer);
        scenario.judge();
    });
}

/// The second write is dropped first. It waits for the key lock of the first.
#[test]
fn waiting_write_dropped_before_the_lock_holder_is_sound() {
    orders(|| {
        let scenario = Scenario::only(&SuspendingTier::new());
        let mut has_ticket: Held<'_> = Box::pin(scenario.insert::<Tokio>());
        poll_once(&mut has_ticket);
        let mut waits: Held<'_> = Box::pin(scenario.insert::<Tokio>());
        poll_once(&mut waits);
        drop(waits);
        drop(has_ticket);
        block_on(scenario.remove::<Blocking>());
        scenario.judge();
    });
}
