//! Progress display: a bar in a terminal, occasional lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A piece of work in equal steps.
pub(crate) struct Progress {
    /// Hidden if standard error is not a terminal; it counts all the same.
    bar: ProgressBar,
    what: &'static str,
    total: usize,
}

/// The number of lines that are printed if there is no bar.
const LINES: u64 = 10;

impl Progress {
    /// Starts the progress of `total` items of `what`.
    pub(crate) fn new(what: &'static str, total: usize) -> Self {
        let bar = ProgressBar::new(total as u64).with_message(what);
        let template = "{msg:>14} [{bar:40}] {human_pos}/{human_len} {elapsed}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { bar, what, total }
    }

    /// Records `steps` more steps.
    pub(crate) fn advance(&self, steps: usize) {
        self.bar.inc(steps as u64);
        if self.bar.is_hidden() {
            self.line(steps as u64);
        }
    }

    /// Prints a line after each tenth.
    fn line(&self, steps: u64) {
        let (now, total) = (self.bar.position(), self.total as u64);
        let tenths = |position: u64| position * LINES / total;
        if tenths(now) > tenths(now.saturating_sub(steps)) {
            eprintln!("{now}/{total} {}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
