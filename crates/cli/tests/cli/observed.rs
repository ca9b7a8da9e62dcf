//! Caches of this process that the command looks into while they run.
#![allow(clippy::disallowed_methods, reason = "another process keeps to the wall clock")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder::{Cache, EntryOptions};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A key with control codes of a terminal.
pub(crate) const EVIL: &str = "evil\u{1b}[2J\u{202e}";

/// Two caches with traffic, until this value is dropped.
pub(crate) struct Traffic {
    pub(crate) dir: TempDir,
    pub(crate) pages: Cache<String, String>,
    pub(crate) numbers: Cache<u64, u64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _joined = self.thread.take().map(JoinHandle::join);
    }
}

/// `pages`, on disk, may be controlled, `numbers` may not. Nine look-ups of `index` meet one of another key.
pub(crate) fn traffic() -> Traffic {
    let dir = tempfile::tempdir().unwrap();
    let pages = larder::bcache::<String, String>("pages").dir(dir.path());
    let pages = pages.observe(true).observe_control(true).build().unwrap();
    let numbers = larder::ucache::<u64, u64>("numbers").dir(dir.path()).observe(true).build().unwrap();
    pages.insert_with("index".to_owned(), "text".to_owned(), EntryOptions::new().tag("red"));
    pages.insert(EVIL.to_owned(), "value".to_owned());
    let is_over = Arc::new(AtomicBool::new(false));
    let (reads, stop) = ((pages.clone(), numbers.clone()), Arc::clone(&is_over));
    let thread = std::thread::spawn(move || {
        for n in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            for _ in 0..9 {
                reads.0.get("index");
            }
            reads.0.get(EVIL);
            reads.1.get_with(n % 50, || n);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    Traffic { dir, pages, numbers, is_over, thread: Some(thread) }
}

impl Traffic {
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Waits until there is a value.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
