//! Key locks and uncancellable writes: one writer at a time changes an entry, and a caller that
//! waits for a key lock polls the write that holds it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use larder_exec::runtime::{Blocking, Tokio, block_on};

use crate::director::{ended, orders, task, thread};
use crate::far::Far;
use crate::stage::Stage;

/// `Far` asserts that only one writer at a time changes the entry.
#[test]
fn concurrent_writers_take_turns() {
    orders(|| {
        let stage = Stage::over(&Far::new());
        let tasks =
            [(); 2].map(|()| stage.clone()).map(|stage| task(async move { stage.insert::<Tokio>().await }));
        let removal = stage.clone();
        let removal = thread(move || block_on(removal.remove::<Blocking>()));
        block_on(stage.insert::<Blocking>());
        for each in tasks {
            ended(each);
        }
        removal.join().unwrap();
        stage.judge();
    });
}

#[test]
fn concurrent_writers_take_turns_over_a_blocking_tier() {
    orders(|| {
        let stage = Stage::over(&Far::blocking());
        let tasks =
            [(); 2].map(|()| stage.clone()).map(|stage| task(async move { stage.insert::<Tokio>().await }));
        block_on(stage.remove::<Blocking>());
        for each in tasks {
            ended(each);
        }
        stage.judge();
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
        let stage = Stage::over(&Far::new());
        let mut held: Held<'_> = Box::pin(stage.insert::<Tokio>());
        poll_once(&mut held);
        let (other, clear) = (stage.clone(), stage.clone());
        let other = task(async move { other.remove::<Tokio>().await });
        let clear = thread(move || block_on(clear.clear::<Blocking>()));
        block_on(stage.insert::<Blocking>());
        block_on(held);
        ended(other);
        clear.join().unwrap();
        stage.judge();
    });
}

/// A write that has begun runs to completion, also if its future is dropped.
#[test]
fn dropped_write_runs_to_completion() {
    orders(|| {
        let stage = Stage::only(&Far::new());
        let mut held: Held<'_> = Box::pin(stage.insert::<Tokio>());
        poll_once(&mut held);
        let other = stage.clone();
        let other = task(async move { other.get::<Tokio>().await });
        drop(held);
        ended(other);
        assert!(block_on(stage.remove::<Blocking>()), "it was half done");
        stage.judge();
    });
}

#[test]
fn writers_cancelled_at_any_point_are_sound() {
    orders(|| {
        let stage = Stage::over(&Far::new());
        let mortal =
            [(); 2].map(|()| stage.clone()).map(|stage| task(async move { stage.insert::<Tokio>().await }));
        let other = stage.clone();
        let other = task(async move { other.insert::<Tokio>().await });
        mortal.iter().for_each(|task| task.abort());
        block_on(stage.remove::<Blocking>());
        ended(other);
        stage.judge();
    });
}

/// A reader that found a torn entry takes the key lock to remove it, and may be cancelled then. A
/// waiter for the lock must continue.
#[test]
fn reader_cancelled_while_it_removes_a_torn_entry_is_sound() {
    orders(|| {
        let far = Far::new();
        let stage = Stage::only(&far);
        block_on(stage.insert::<Blocking>());
        far.tears.store(true, Ordering::Relaxed);
        let (mortal, writer) = (stage.clone(), stage.clone());
        let mortal = task(async move { mortal.get::<Tokio>().await });
        let writer = task(async move { writer.insert::<Tokio>().await });
        mortal.abort();
        block_on(stage.insert::<Blocking>());
        ended(writer);
        stage.judge();
    });
}

/// The second write is dropped first. It waits for the key lock of the first.
#[test]
fn waiting_write_dropped_before_the_lock_holder_is_sound() {
    orders(|| {
        let stage = Stage::only(&Far::new());
        let mut has_ticket: Held<'_> = Box::pin(stage.insert::<Tokio>());
        poll_once(&mut has_ticket);
        let mut waits: Held<'_> = Box::pin(stage.insert::<Tokio>());
        poll_once(&mut waits);
        drop(waits);
        drop(has_ticket);
        block_on(stage.remove::<Blocking>());
        stage.judge();
    });
}
