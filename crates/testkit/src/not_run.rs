//! Tests that could not be run: named, so that they can be counted.

use std::fs::OpenOptions;
use std::io::Write;

/// The variable that names the file to which a line goes for each test that
/// could not be run.
const LIST: &str = "LARDER_NOT_RUN";

/// Says that the test of this thread, or a part of it, cannot be run here, and
/// why: on standard error, and in the file that `LARDER_NOT_RUN` names.
///
/// A test that returns after this counts as passed; the list tells them apart.
pub fn not_run(why: &str) {
    let line = format!("{}: {why}", name());
    say(&line);
    let Some(list) = std::env::var_os(LIST) else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(list).expect("the list can be written");
    // One write a line: many processes write at a time.
    file.write_all(format!("{line}\n").as_bytes()).expect("the list can be written");
}

/// The name of the test: that of its thread, or where it has the main one the
/// argument that chose it.
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
