//! How a command ends: exit codes, and failures.

use std::fmt;
use std::io;
use std::process::ExitCode;

use larder_core::{Error, ErrorKind};

use crate::printer;

/// The exit codes. Scripts rely on the numbers, so they do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command did what it was asked.
    Done = 0,
    /// The system or a tier reported a failure.
    Failed = 1,
    /// An argument is invalid.
    Usage = 2,
    /// There is no such cache, key or tag.
    NotFound = 3,
    /// Another process has the cache open: the command did nothing, or showed only a part.
    InUse = 4,
    /// `check` or `doctor` found a problem that is still there.
    Problems = 5,
}

impl Exit {
    /// The more serious one of two ends: a failure, then a cache in use, then problems.
    pub(crate) fn or(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Done => 0,
            Self::NotFound => 1,
            Self::Problems => 2,
            Self::InUse => 3,
            Self::Usage => 4,
            Self::Failed => 5,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The result of a command.
pub(crate) type Outcome<T = Exit> = Result<T, Failure>;

/// Why a command stopped.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    is_closed_pipe: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), is_closed_pipe: false }
    }

    /// An invalid argument: its option, the given value, the allowed values.
    pub(crate) fn argument(option: &str, given: impl fmt::Display, allowed: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, format!("{option}: given `{given}`, allowed {allowed}"))
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    pub(crate) fn code(&self) -> Exit {
        self.exit
    }

    /// Whether the reader of the output closed it, as `head` does.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.is_closed_pipe
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Config => Exit::Usage,
            ErrorKind::Busy => Exit::InUse,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let is_closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self { exit: Exit::Failed, message: error.to_string(), is_closed_pipe }
    }
}

/// Prints what is wrong with the arguments, or the help or version that they ask for.
pub(crate) fn of_arguments(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return if error.print().is_ok() { ExitCode::SUCCESS } else { Exit::Failed.into() };
    }
    printer::to_stderr(error.to_string().trim_end());
    Exit::Usage.into()
}
