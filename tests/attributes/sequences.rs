//! Cached functions that return an iterator or a stream: only complete sequences are stored.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use larder::{bcache, mcache};

use super::{Runs, empty, folder};

static RUNS: Runs = Runs::new();

#[mcache]
fn countdown(from: u32) -> impl Iterator<Item = u32> {
    RUNS.count();
    (0..from).rev()
}

#[test]
fn iterator_read_to_its_end_is_replayed() {
    RUNS.take();
    assert!(countdown(4).eq([3, 2, 1, 0]));
    assert!(countdown(4).eq([3, 2, 1, 0]));
    assert_eq!((countdown(4).size_hint(), RUNS.take()), ((4, Some(4)), 1));
    assert!(countdown::contains(4) && countdown::get(4).unwrap().len() == 4);
    assert!(countdown::purge(4) && countdown(4).eq([3, 2, 1, 0]));
    assert_eq!(RUNS.take(), 1);
    assert!(countdown(0).eq(0..0) && countdown(0).eq(0..0));
    assert_eq!(RUNS.take(), 1, "an empty one is a result as well");
}

#[mcache]
fn lazily(from: u32) -> impl Iterator<Item = u32> {
    (0..from).inspect(|_| RUNS.count())
}

#[test]
fn iterator_items_are_returned_lazily() {
    RUNS.take();
    let mut items = lazily(10);
    assert_eq!((items.next(), items.next(), RUNS.take()), (Some(0), Some(1), 2));
}

#[test]
fn partly_read_iterator_is_not_stored() {
    #[mcache]
    fn halved(n: u32) -> impl Iterator<Item = u32> {
        0..n
    }

    assert!(halved(4).take(4).eq(0..4), "four items, and the end was not asked for");
    assert!(!halved::contains(4));
    drop(halved(4));
    assert!(!halved::contains(4));

    let panicking = std::panic::catch_unwind(|| halved(4).for_each(|item| assert!(item < 2, "stop")));
    assert!(panicking.is_err() && !halved::contains(4));
    assert_eq!((halved(4).count(), halved::contains(4)), (4, true));
}

#[test]
fn iterator_over_the_size_limit_is_not_stored() {
    #[mcache(record_bytes = 100)]
    fn words(n: usize) -> impl Iterator<Item = String> {
        std::iter::repeat_n("word".to_owned(), n)
    }

    assert_eq!((words(2).count(), words(50).count()), (2, 50));
    assert!(words::contains(2) && !words::contains(50));
}

#[test]
fn recording_started_before_a_purge_is_not_stored() {
    #[mcache]
    fn outdated(n: u32) -> impl Iterator<Item = u32> {
        0..n
    }

    let mut items = outdated(3);
    items.next();
    outdated::purge(3);
    assert_eq!((items.count(), outdated::contains(3)), (2, false));
    assert_eq!((outdated(3).count(), outdated::contains(3)), (3, true));
}

#[test]
fn boxed_borrowing_iterator_is_stored_on_disk() {
    empty("sequences");

    #[bcache(dir = folder("sequences"), memory_bytes = 0)]
    fn lines<'a>(text: &'a str) -> Box<dyn Iterator<Item = String> + 'a> {
        RUNS.count();
        Box::new(text.lines().map(str::to_owned))
    }

    RUNS.take();
    let text = String::from("a\nb");
    assert!(lines(&text).eq(["a", "b"]) && lines(&text).eq(["a", "b"]));
    assert_eq!(RUNS.take(), 1);
}

/// A stream that is pending before each item.
struct Slowly<I>(I, bool);

impl<I: Iterator + Unpin> Stream for Slowly<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<I::Item>> {
        self.1 = !self.1;
        if self.1 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.0.next())
    }
}

async fn collected<T>(stream: impl Stream<Item = T>, most: usize) -> Vec<T> {
    let mut stream = std::pin::pin!(stream);
    let mut items = Vec::new();
    while items.len() < most {
        match std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await {
            Some(item) => items.push(item),
            None => break,
        }
    }
    items
}

#[tokio::test]
async fn stream_read_to_its_end_is_replayed() {
    static RUNS: Runs = Runs::new();
    empty("streams");

    #[bcache(dir = folder("streams"))]
    fn ticks(n: u32, scale: &[u32]) -> impl Stream<Item = u32> + Send {
        RUNS.count();
        let scale = scale.iter().sum::<u32>();
        Slowly((0..n).map(move |tick| tick * scale), false)
    }

    drop(ticks(3, &[1, 1]));
    assert_eq!(RUNS.take(), 0, "a stream does nothing until it is polled");
    assert_eq!(collected(ticks(3, &[1, 1]), 3).await, [0, 2, 4]);
    assert!(!ticks::contains(3, &[1, 1]).await, "the end was not asked for");
    assert_eq!(collected(ticks(3, &[1, 1]), 9).await, [0, 2, 4]);
    assert_eq!(RUNS.take(), 2);
    assert_eq!(collected(ticks(3, &[1, 1]), 9).await, [0, 2, 4]);
    assert_eq!(RUNS.take(), 0);
    assert!(ticks::purge(3, &[1, 1]).await);

    let mut outdated = Box::pin(ticks(2, &[]));
    std::future::poll_fn(|context| outdated.as_mut().poll_next(context)).await;
    ticks::purge(2, &[]).await;
    assert_eq!(collected(outdated, 9).await.len(), 1);
    assert!(!ticks::contains(2, &[]).await);
}
