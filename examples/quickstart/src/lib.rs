//! A study of the source text on this machine, with every answer from one cache.
//!
//! ```text
//! cargo run --release --example quickstart
//! cargo run --release --example quickstart -- [FOLDER] [--limit MIB] [--dir DIR] [--auto] [--clear]
//! ```
//!
//! It measures each file, counts the words of each folder, and sorts every position of the whole text into
//! one index for phrase searches. Answers have from fifty bytes to over a hundred megabytes. All go into one
//! `larder::ucache`, which chooses the tier of each. Run it twice: the first run computes the answers, the
//! second reads them from the cache.
//!
//! Read `library.rs` next, which contains the cache.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what an example is for")]

mod library;
mod options;
mod progress;
mod question;
mod report;
mod sources;
mod study;
mod text;

use std::time::Instant;

use larder::Result;

use crate::library::Library;
use crate::options::Options;

/// Runs the study, as the arguments of the process say.
///
/// # Errors
/// If an argument is wrong, or the cache cannot be opened or closed.
pub fn run() -> Result<()> {
    let started = Instant::now();
    let Some(options) = Options::parse(std::env::args_os().skip(1))? else {
        println!("{}", options::USAGE);
        return Ok(());
    };
    let library = Library::open(&options)?;
    let folders = sources::walk(&options)?;
    let study = study::run(&library, &folders)?;
    let elapsed = started.elapsed();

    report::study(&study);
    report::statistics(&library);
    report::holdings(&library, &study)?;
    report::times(elapsed, library.first_run(study.fingerprint, elapsed));
    library.close()
}
