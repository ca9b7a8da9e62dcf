//! The history of killed processes, read from the lines that they wrote.

use std::collections::HashMap;

use super::call::{Act, Call, NEVER, Ran, parse_act, parse_answer};
use super::check::{Contract, check};
use super::report::Report;
use super::stamp::Stamp;

/// Assembles the lines that [`Recorder::to_lines`](super::Recorder::to_lines) wrote.
///
/// The order of the lines is the order of the moments: one line is written before its
/// call begins, and another after it returned.
#[derive(Debug, Default)]
pub struct Transcript {
    clock: u64,
    calls: Vec<Call>,
    crashes: Vec<u64>,
    open: HashMap<(u32, u64), usize>,
    unreadable: u64,
}

impl Transcript {
    /// Creates an empty transcript.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next line. Ignores lines that do not begin with `@`; counts those that do
    /// and cannot be parsed.
    pub fn line(&mut self, line: &str) {
        let Some(line) = line.strip_prefix('@') else { return };
        self.clock += 1;
        if self.read(line).is_none() {
            self.unreadable += 1;
        }
    }

    fn read(&mut self, line: &str) -> Option<()> {
        let mut words = line.splitn(4, ' ');
        let letter = words.next()?;
        let writer = words.next()?.parse().ok()?;
        let number = words.next()?.parse().ok()?;
        let rest = words.next()?;
        match letter {
            "b" => self.begin((writer, number), parse_act(rest, writer)?),
            "r" => {
                let (key, made) = rest.split_once(' ')?;
                let stamp = Stamp { key: key.parse().ok()?, writer, number: made.parse().ok()? };
                let call = self.open.get(&(writer, number))?;
                self.calls[*call].ran = Some(Ran { at: self.clock, stamp });
            }
            "e" => {
                let answer = parse_answer(rest)?;
                let call = self.open.remove(&(writer, number))?;
                self.calls[call].ended = self.clock;
                self.calls[call].answer = Some(answer);
            }
            _ => return None,
        }
        Some(())
    }

    fn begin(&mut self, id: (u32, u64), act: Act) {
        let call =
            Call { writer: id.0, schema: 0, begun: self.clock, ended: NEVER, act, ran: None, answer: None };
        self.open.insert(id, self.calls.len());
        self.calls.push(call);
    }

    /// Records that the process is gone. A call that it began and did not end took effect
    /// before this moment, or never.
    pub fn crash(&mut self) {
        self.clock += 1;
        self.crashes.push(self.clock);
        for (_, call) in self.open.drain() {
            self.calls[call].ended = self.clock;
        }
    }

    /// Returns the number of calls so far.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there are no calls.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns the number of lines that could not be parsed. More than the last one of
    /// each life is a fault of the writer.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Finds the reads that `contract` cannot explain.
    pub fn check(&self, contract: &Contract) -> Report {
        check(&self.calls, &self.crashes, contract)
    }
}
