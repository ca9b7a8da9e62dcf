//! The command `larder`: looks into caches on disk and in Redis, without the program that wrote them.
//!
//! It reads through the public contracts of the tiers. A look never changes a directory; commands that
//! change something say what. `docs/cli.md` describes every command, the exit codes and the JSON.

mod args;
mod catalog;
mod command;
mod entry;
mod exit;
#[cfg(unix)]
mod live;
mod printer;
#[cfg(unix)]
mod serve;
mod source;
#[cfg(unix)]
mod top;
mod transfer;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Arguments;
use crate::printer::Printer;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::of_arguments(&error),
    };
    source::warnings::collect();
    let mut printer = Printer::to_stdout(arguments.json);
    let result = command::run(&arguments, &mut printer).and_then(|code| printer.flush().map(|()| code));
    match result {
        Ok(code) => code.into(),
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            printer::to_stderr(&format!("larder: {failure}"));
            failure.code().into()
        }
    }
}
