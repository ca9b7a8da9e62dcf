//! The source: slow, and sometimes down.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The response time for one article.
const SLOW: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(crate) struct Upstream {
    down: AtomicBool,
    asked: AtomicU64,
}

impl Upstream {
    /// Returns the text of an article.
    pub(crate) async fn article(&self, id: u32) -> Result<String, &'static str> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(SLOW).await;
        if self.down.load(Ordering::Relaxed) {
            return Err("the upstream is down");
        }
        Ok(format!("article {id}: ") + &"lorem ipsum ".repeat(100))
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// Returns the number of requests since the last call of this method.
    pub(crate) fn take_asked(&self) -> u64 {
        self.asked.swap(0, Ordering::Relaxed)
    }
}
