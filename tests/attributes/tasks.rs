//! Cached `async fn`, with async companion functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder::{mcache, ucache};
use tokio::sync::Notify;

use super::{Runs, empty, folder};

#[tokio::test]
async fn cached_async_function_has_companion_functions() {
    static RUNS: Runs = Runs::new();

    #[mcache]
    async fn double(n: u64) -> u64 {
        RUNS.count();
        tokio::task::yield_now().await;
        n * 2
    }

    assert_eq!((double(4).await, double(4).await, double(5).await, RUNS.take()), (8, 8, 10, 2));
    assert!(double::contains(4).await && !double::contains(6).await);
    assert_eq!((double::get(4).await, double::get(6).await), (Some(8), None));
    assert_eq!((double::uncached(4).await, RUNS.take()), (8, 1));
    assert!(double::purge(4).await && !double::purge(4).await);
    double::clear().await.unwrap();
    double::flush().await.unwrap();
    assert_eq!((double(5).await, RUNS.take()), (10, 1));
    assert_eq!(double::stats().cache.loads, 3);
    assert_eq!(double::cache().await.unwrap().get(&5).await, Some(10));
}

struct Client {
    base: String,
    runs: Runs,
}

#[derive(Debug, Clone, PartialEq)]
struct NotFound;

impl Client {
    #[ucache(dir = folder("async_methods"), key = "(self.base.clone(), page.to_owned())")]
    async fn fetch(&self, page: &str) -> Result<String, NotFound> {
        self.runs.count();
        tokio::task::yield_now().await;
        if page == "gone" { Err(NotFound) } else { Ok(format!("{}/{page}", self.base)) }
    }

    #[mcache(skip_none, skip(self))]
    async fn find(self: &Arc<Self>, page: &str) -> Option<String> {
        self.runs.count();
        (page != "gone").then(|| page.to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_calls_of_a_method_by_tasks_execute_once() {
    empty("async_methods");
    let client = Arc::new(Client { base: "a".into(), runs: Runs::new() });
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.fetch("x").await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "a/x");
    }
    assert_eq!(client.runs.take(), 1);
    for _ in 0..2 {
        assert_eq!(client.fetch("gone").await, Err(NotFound));
    }
    assert_eq!(client.runs.take(), 2);
    assert!(client.fetch_contains("x").await && client.fetch_purge("x").await);
    assert_eq!(client.fetch_get("gone").await, None);

    assert_eq!((client.find("gone").await, client.find("gone").await, client.runs.take()), (None, None, 2));
    assert_eq!(
        (client.find("x").await, client.find("x").await, client.runs.take()),
        (Some("x".into()), Some("x".into()), 1)
    );
    assert!(Client::find_contains("x").await);
}

#[mcache]
async fn fibonacci(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    Box::pin(fibonacci(n - 2)).await + Box::pin(fibonacci(n - 1)).await
}

#[tokio::test]
async fn recursion() {
    assert_eq!(tokio::spawn(fibonacci(50)).await.unwrap(), 12_586_269_025);
    assert_eq!(fibonacci::stats().cache.loads, 51);
}

#[tokio::test]
async fn another_caller_leads_after_the_first_is_cancelled() {
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    static BEGUN: Notify = Notify::const_new();

    #[mcache]
    async fn slow(n: u8) -> u8 {
        if !HAS_BEGUN.swap(true, Ordering::AcqRel) {
            BEGUN.notify_one();
            std::future::pending::<()>().await;
        }
        n
    }

    let goes = async {
        tokio::select! {
            value = slow(1) => panic!("the first waits for ever, not until {value}"),
            () = BEGUN.notified() => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), goes).await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(60), slow(1)).await;
    assert_eq!(second.unwrap(), 1);
}

#[tokio::test]
async fn async_function_can_borrow_arguments_and_return_early() {
    #[mcache]
    async fn first_word(text: &str, or: impl Into<String>) -> String {
        let Some(word) = text.split(' ').next().filter(|word| !word.is_empty()) else { return or.into() };
        tokio::task::yield_now().await;
        word.to_owned()
    }
    assert_eq!(first_word("a b", "c").await, "a");
    assert_eq!(first_word("", "c").await, "c");
    assert!(first_word::contains("", String::from("c")).await);
}

/// Compiles only if the futures of the cached functions are `Send` for texts of any lifetime.
fn sendable<'a>(
    client: &'a Client,
    page: &'a str,
) -> impl Future<Output = Result<String, NotFound>> + Send + 'a {
    #[mcache(ttl = "1h", tags = ["{host}"])]
    async fn path(host: &'static str, page: &str) -> Option<&'static str> {
        tokio::task::yield_now().await;
        (page != "gone").then_some(host)
    }

    async move {
        let mut text = String::new();
        for host in ["a", "b"] {
            text += path(host, page).await.unwrap_or("none");
        }
        Ok(text + &client.fetch(page).await?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn future_of_a_cached_function_with_texts_can_be_spawned() {
    empty("async_methods");
    let client = Arc::new(Client { base: "base".into(), runs: Runs::new() });
    let task = tokio::spawn(async move { sendable(&client, "page").await });
    assert_eq!(task.await.unwrap().unwrap(), "abbase/page");
}
