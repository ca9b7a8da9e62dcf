//! Tickets, and the sections that hold them: one at a time changes an entry, and
//! whoever waits for a ticket drives the section that has it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use larder_exec::runtime::{Blocking, Tokio, block_on};

use crate::director::{ended, orders, task, thread};
use crate::far::Far;
use crate::stage::Stage;

/// `Far` sees to it that one at a time changes the entry.
#[test]
fn writers_take_turns() {
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
fn writers_take_turns_over_a_tier_that_blocks() {
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

/// Polls once, and then no more.
fn poll_once(future: &mut Held<'_>) {
    let _ready_or_not = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

/// The task that holds the ticket is not polled while its own thread waits for it.
#[test]
fn a_section_that_nobody_polls_is_driven_by_who_waits() {
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

/// A write that was begun runs to its end, whoever lets go of it.
#[test]
fn a_write_that_is_dropped_is_done() {
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
fn writers_that_are_cancelled_anywhere() {
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

/// A reader that found a torn entry takes the ticket to remove it, and may be
/// cancelled then: whoever waits for the ticket goes on.
#[test]
fn a_reader_that_is_cancelled_while_it_removes() {
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

/// The second was let go of first: it waits for the ticket of the first.
#[test]
fn writes_that_are_dropped_in_the_order_they_do_not_end_in() {
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
