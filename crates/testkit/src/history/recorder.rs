//! Records a history while it happens.

use std::io::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::call::{Act, Answer, Call, NEVER, Ran};
use super::check::{Contract, check};
use super::report::Report;
use super::stamp::{Seen, Stamp};

/// The calls of many threads and tasks in one order.
#[derive(Debug, Default)]
pub struct History {
    clock: Clock,
    writers: AtomicU32,
    calls: Mutex<Vec<Call>>,
}

/// Numbers the moments of a history. Clones share one clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// Returns the number of the next moment.
    pub fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    /// Returns how many moments there were.
    pub fn ticks(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl History {
    /// Creates an empty history.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Creates a recorder for one thread or task. Its calls join the history when it is
    /// dropped.
    pub fn recorder(self: &Arc<Self>) -> Recorder {
        let writer = self.writers.fetch_add(1, Ordering::SeqCst);
        Recorder::new(writer, self.clock.clone(), Sink::History(Arc::clone(self)))
    }

    /// Returns the clock of this history.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Finds the reads that `contract` cannot explain, among the calls of all dropped
    /// recorders.
    pub fn check(&self, contract: &Contract) -> Report {
        check(&self.calls.lock(), &[], contract)
    }
}

/// Where a recorder writes its calls.
enum Sink {
    History(Arc<History>),
    Lines(Arc<Mutex<dyn Write + Send>>),
}

/// Records the calls of one thread or task.
///
/// A call is begun before the cache is called, and ended after it returned. A call that
/// is never ended, because its future or its process is gone, may or may not have taken
/// effect.
pub struct Recorder {
    writer: u32,
    schema: u32,
    numbers: u64,
    clock: Clock,
    calls: Vec<Call>,
    loaders: Vec<(Begun, Stamp, Arc<OnceLock<u64>>)>,
    sink: Sink,
}

/// Records when a loader begins; it moves into the loader.
pub struct LoaderMark {
    clock: Clock,
    at: Arc<OnceLock<u64>>,
    lines: Option<Arc<Mutex<dyn Write + Send>>>,
    line: String,
}

impl LoaderMark {
    /// Records that the loader begins now.
    pub fn begins(&self) {
        if let Some(lines) = &self.lines {
            // The reader of the lines is gone, and this process will be killed too.
            let _unread = lines.lock().write_all(self.line.as_bytes());
        }
        let _first = self.at.set(self.clock.tick());
    }
}

/// A call that was begun.
#[derive(Clone, Copy, Debug)]
#[must_use = "a call that is not ended counts as cut short"]
pub struct Begun(usize);

impl Recorder {
    fn new(writer: u32, clock: Clock, sink: Sink) -> Self {
        Self { writer, schema: 0, numbers: 0, clock, calls: Vec::new(), loaders: Vec::new(), sink }
    }

    /// Creates a recorder that writes a line before and after each call, for a
    /// [`Transcript`](super::Transcript) in another process. Each line is written by one
    /// `write_all` before the call continues.
    pub fn to_lines(writer: u32, lines: Arc<Mutex<dyn Write + Send>>) -> Self {
        Self::new(writer, Clock::default(), Sink::Lines(lines))
    }

    /// Says which schema the calls of this recorder have: the schema version and the type of the
    /// values. A read may only find values of its own schema; a write replaces those of every one.
    #[must_use]
    pub fn with_schema(self, schema: u32) -> Self {
        // A recorder has a destructor, so its fields cannot be moved out.
        let mut recorder = self;
        recorder.schema = schema;
        recorder
    }

    /// Returns the stamp of the next value that this recorder writes.
    pub fn stamp(&mut self, key: u64) -> Stamp {
        self.numbers += 1;
        Stamp { key, writer: self.writer, number: self.numbers }
    }

    /// Begins a call.
    pub fn begin(&mut self, act: Act) -> Begun {
        let begun = Begun(self.calls.len());
        self.line('b', begun, &act);
        self.calls.push(Call {
            writer: self.writer,
            schema: self.schema,
            begun: self.clock.tick(),
            ended: NEVER,
            act,
            ran: None,
            answer: None,
        });
        begun
    }

    /// Returns a marker for the loader of a call, which is to return `stamp`.
    pub fn loader(&mut self, call: Begun, stamp: Stamp) -> LoaderMark {
        let lines = match &self.sink {
            Sink::History(_) => None,
            Sink::Lines(lines) => Some(Arc::clone(lines)),
        };
        let line = format!("@r {} {} {} {}\n", self.writer, call.0, stamp.key, stamp.number);
        let at = Arc::new(OnceLock::new());
        self.loaders.push((call, stamp, Arc::clone(&at)));
        LoaderMark { clock: self.clock.clone(), at, lines, line }
    }

    /// Ends a call.
    pub fn end(&mut self, call: Begun, answer: Answer) {
        self.calls[call.0].ended = self.clock.tick();
        self.line('e', call, &answer);
        self.calls[call.0].answer = Some(answer);
    }

    /// Ends a call that returned `value` or no value.
    pub fn end_with(&mut self, call: Begun, value: Option<&[u8]>) {
        self.end(call, value.map_or(Answer::Missing, |value| Answer::Found(Seen::of(value))));
    }

    /// Ends a call that succeeded or failed.
    pub fn end_done<T, E>(&mut self, call: Begun, result: &Result<T, E>) {
        self.end(call, if result.is_ok() { Answer::Done } else { Answer::Failed });
    }

    fn line(&self, letter: char, call: Begun, what: &dyn std::fmt::Display) {
        if let Sink::Lines(lines) = &self.sink {
            let line = format!("@{letter} {} {} {what}\n", self.writer, call.0);
            // The reader of the lines is gone, and this process will be killed too.
            let _unread = lines.lock().write_all(line.as_bytes());
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        for (call, stamp, at) in self.loaders.drain(..) {
            self.calls[call.0].ran = at.get().map(|at| Ran { at: *at, stamp });
        }
        if let Sink::History(history) = &self.sink {
            history.calls.lock().append(&mut self.calls);
        }
    }
}
