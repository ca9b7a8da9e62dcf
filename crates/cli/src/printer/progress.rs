//! How far long work has come, on the standard error: a bar in a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{escaped_line, span, to_stderr};

/// Whether the command prints JSON: then nothing else is printed.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

/// Work that takes less shows nothing: in a terminal, and elsewhere.
const BAR_AFTER: Duration = Duration::from_millis(400);
const LINE_AFTER: Duration = Duration::from_secs(2);
const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Switches progress off, for a command that prints JSON.
pub(crate) fn silence() {
    IS_SILENT.store(true, Ordering::Relaxed);
}

/// Work that is in progress. It is shown by a thread until this is dropped.
pub(crate) struct Progress {
    done: Arc<AtomicU64>,
    shown: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins work of `total` steps, if that is known. `what` is a sentence without an end: `pages: reading`.
    pub(crate) fn begin(what: String, total: Option<u64>) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let work = Work { what: escaped_line(&what), done: Arc::clone(&done), total, began: Instant::now() };
        let is_shown = !IS_SILENT.load(Ordering::Relaxed);
        Self { done, shown: is_shown.then(|| shown(work)).flatten() }
    }

    /// Counts one step.
    pub(crate) fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.shown.take() {
            drop(stop);
            let _ended = thread.join();
        }
    }
}

struct Work {
    what: String,
    done: Arc<AtomicU64>,
    total: Option<u64>,
    began: Instant,
}

/// Shows the work in a thread, until the sender is dropped. Without a thread it is not shown.
fn shown(work: Work) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let is_terminal = std::io::stderr().is_terminal();
    let show = move || if is_terminal { bar(&work, &stopped) } else { lines(&work, &stopped) };
    let thread = thread::Builder::new().name("progress".to_owned()).spawn(show);
    Some((stop, thread.ok()?))
}

/// Whether the work still goes on after `span`.
fn goes_on(stopped: &Receiver<()>, span: Duration) -> bool {
    stopped.recv_timeout(span) == Err(RecvTimeoutError::Timeout)
}

fn bar(work: &Work, stopped: &Receiver<()>) {
    if !goes_on(stopped, BAR_AFTER) {
        return;
    }
    let bar = ProgressBar::with_draw_target(work.total, ProgressDrawTarget::stderr_with_hz(10));
    let form = match work.total {
        Some(_) => "{msg} [{bar:30}] {human_pos}/{human_len}, {eta} left",
        None => "{msg}, {elapsed}",
    };
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(work.what.clone());
    loop {
        bar.set_position(work.done.load(Ordering::Relaxed));
        bar.tick();
        if !goes_on(stopped, BAR_EVERY) {
            return bar.finish_and_clear();
        }
    }
}

fn lines(work: &Work, stopped: &Receiver<()>) {
    let mut pause = LINE_AFTER;
    while goes_on(stopped, pause) {
        to_stderr(&format!("larder: {}", work.line()));
        pause = LINE_EVERY;
    }
}

impl Work {
    fn line(&self) -> String {
        let (done, time) = (self.done.load(Ordering::Relaxed), span(self.began.elapsed()));
        match self.total {
            Some(total) => format!("{}: {done} of {total} after {time}", self.what),
            None => format!("{}: {time}", self.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(total: Option<u64>) -> Work {
        let began = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        Work { what: "pages: reading".to_owned(), done: Arc::new(AtomicU64::new(7)), total, began }
    }

    #[test]
    fn line_has_the_work_its_steps_and_the_time() {
        assert_eq!(work(Some(20)).line(), "pages: reading: 7 of 20 after 5 s");
        assert_eq!(work(None).line(), "pages: reading: 5 s");
    }

    #[test]
    fn short_work_shows_nothing_and_ends_at_once() {
        let began = Instant::now();
        let progress = Progress::begin("a\u{1b}[2J".to_owned(), Some(3));
        (0..3).for_each(|_| progress.step());
        assert_eq!(progress.done.load(Ordering::Relaxed), 3);
        drop(progress);
        assert!(began.elapsed() < BAR_AFTER, "{:?}", began.elapsed());
    }
}
