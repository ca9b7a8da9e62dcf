//! Prints lines, tables, JSON and raw bytes to the standard output. Stored text is escaped, except in raw bytes.

mod escape;
mod progress;
mod table;
mod units;

use std::io::{self, BufWriter, Write};

use serde::Serialize;

pub(crate) use escape::{escaped_line, escaped_lines, needs_escape, without_control_codes};
pub(crate) use progress::Progress;
pub(crate) use table::TextTable;
pub(crate) use units::{Age, ago, bytes, count, moment, span};

use crate::exit::Outcome;

/// Writes to the standard output.
pub(crate) struct Printer {
    is_json: bool,
    out: BufWriter<io::Stdout>,
}

impl Printer {
    pub(crate) fn to_stdout(is_json: bool) -> Self {
        if is_json {
            progress::silence();
        }
        Self { is_json, out: BufWriter::new(io::stdout()) }
    }

    /// Whether the command prints JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Writes a line. The caller has escaped stored text.
    pub(crate) fn line(&mut self, text: &str) -> Outcome<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    pub(crate) fn table(&mut self, table: &TextTable) -> Outcome<()> {
        Ok(write!(self.out, "{table}")?)
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Outcome<()> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes a JSON document. `schema` names its layout; an incompatible layout gets a new name.
    pub(crate) fn json(&mut self, schema: &str, content: &impl Serialize) -> Outcome<()> {
        #[derive(Serialize)]
        struct Document<'a, T> {
            schema: &'a str,
            #[serde(flatten)]
            content: &'a T,
        }
        let text = serde_json::to_string_pretty(&Document { schema, content }).map_err(io::Error::from)?;
        self.line(&without_control_codes(&text))
    }

    pub(crate) fn flush(&mut self) -> Outcome<()> {
        Ok(self.out.flush()?)
    }
}

/// Writes a line to the standard error. A failure is ignored: there is no other place to report it.
pub(crate) fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escaped_lines(text));
}

/// Returns whether the standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}
