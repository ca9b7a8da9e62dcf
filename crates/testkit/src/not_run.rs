//! Records tests that could not run, so that they can be counted.

use std::fs::OpenOptions;
use std::io::Write;

/// The environment variable with the path of a file. Each test that could not run adds a
/// line to it.
const LIST: &str = "LARDER_NOT_RUN";

/// Reports that the test of this thread, or a part of it, cannot run here, and why.
/// Writes to standard error and to the file that `LARDER_NOT_RUN` names.
///
/// A test that returns after this counts as passed; the file shows the difference.
pub fn not_run(why: &str) {
    let line = format!("{}: {why}", name());
    say(&line);
    let Some(list) = std::env::var_os(LIST) else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(list).expect("the list can be written");
    // One write per line, because several processes write at a time.
    file.write_all(format!("{line}\n").as_bytes()).expect("the list can be written");
}

/// Returns the name of the test: that of its thread, or on the main thread the argument
/// that selected it.
fn name() -> String {
    let thread = std::thread::current();
    let named = thread.name().filter(|name| *name != "main").map(str::to_owned);
    let chosen = || std::env::args().skip(1).find(|argument| argument.contains("::"));
    named.or_else(chosen).unwrap_or_else(|| "a test".to_owned())
}

#[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
fn say(line: &str) {
    eprintln!("not run: {line}");
}
