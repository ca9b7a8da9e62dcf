//! Crash tests: kills processes that use a cache, and checks the histories that they
//! wrote.
//!
//! A test starts itself again as a child process ([`Killer::of_test`]). The child detects
//! this ([`Life::from_env`]) and runs a workload whose recorders write to the standard
//! output. After some lines and a random moment, the parent kills the child with
//! `SIGKILL`. It adds the lines to a [`Transcript`], and starts the next child over the
//! same directory. Finally the transcript is checked.
//!
//! ```no_run
//! use larder_testkit::crash::{End, Killer, Life};
//! use larder_testkit::history::Contract;
//!
//! fn a_killed_cache_loses_nothing() {
//!     if let Some(life) = Life::from_env() {
//!         let recorder = life.recorder();
//!         // open the cache, read everything, then use it until killed
//!         return;
//!     }
//!     let mut killer = Killer::of_test("crashes::a_killed_cache_loses_nothing", 7);
//!     for round in 0..30 {
//!         killer.live(End::Killed { after_lines: 100 * round });
//!     }
//!     killer.live(End::Itself);
//!     let outcome = killer.check(&Contract::CACHE);
//!     assert_eq!((outcome.panics, outcome.hung), (0, 0), "{}", outcome.last_words);
//!     outcome.report.assert_sound("seed 7");
//! }
//! ```

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;

use crate::history::{Contract, Recorder, Report, Transcript};

/// The environment variable that gives a child the number of its life, its seed, and
/// whether it ends by itself.
const VARIABLE: &str = "LARDER_TESTKIT_LIFE";

/// A child that prints nothing for this long counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// Maximum number of recorders in one life.
const WRITERS: u32 = 64;

/// How a child process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Killed after this many lines and a random moment.
    Killed {
        /// Number of lines before the kill.
        after_lines: u64,
    },
    /// By itself: the child learns that this is the last life.
    Itself,
}

/// The parameters of a child process.
#[derive(Debug)]
pub struct Life {
    number: u32,
    /// Seed for the random choices of this life.
    pub seed: u64,
    /// Whether the child ends by itself.
    pub is_last: bool,
    recorders: AtomicU32,
}

impl Life {
    /// Returns the parameters of this process, if a [`Killer`] started it.
    pub fn from_env() -> Option<Self> {
        let told = std::env::var(VARIABLE).ok()?;
        let mut words = told.split(' ');
        let life = Self {
            number: words.next()?.parse().ok()?,
            seed: words.next()?.parse().ok()?,
            is_last: words.next()? == "last",
            recorders: AtomicU32::new(0),
        };
        // The test harness has begun a line already.
        writeln!(std::io::stdout()).ok()?;
        Some(life)
    }

    /// Returns a recorder for one thread or task; at most 64 in one life.
    pub fn recorder(&self) -> Recorder {
        let writer = self.recorders.fetch_add(1, Ordering::Relaxed) % WRITERS;
        Recorder::to_lines(self.number * WRITERS + writer, Arc::new(Mutex::new(std::io::stdout())))
    }

    /// Prints a line that counts for the parent but is no call.
    pub fn note(&self, what: &str) {
        let _unread = writeln!(std::io::stdout(), "#{what}");
    }
}

/// Starts child processes and kills them.
#[derive(Debug)]
pub struct Killer {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    rng: Rng,
    lives: u32,
    panics: u64,
    hung: u64,
    last_words: String,
    transcript: Transcript,
}

/// The result of all lives.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdicts on all reads.
    pub report: Report,
    /// Number of children that panicked, or ended by themselves with a failure.
    pub panics: u64,
    /// Number of children that printed nothing for a minute.
    pub hung: u64,
    /// Standard error of the last child that panicked.
    pub last_words: String,
    /// Number of children.
    pub lives: u32,
}

impl Killer {
    /// Prepares to start this test binary again, with the one test `name`.
    ///
    /// # Panics
    /// If the path of the binary is unknown.
    pub fn of_test(name: &str, seed: u64) -> Self {
        let program = std::env::current_exe().unwrap();
        let arguments = [name, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"];
        Self::of_program(program, arguments.map(OsString::from).to_vec(), seed)
    }

    /// Prepares to start a program.
    pub fn of_program(program: impl Into<OsString>, arguments: Vec<OsString>, seed: u64) -> Self {
        Self {
            program: program.into(),
            arguments,
            variables: Vec::new(),
            rng: Rng::with_seed(seed),
            lives: 0,
            panics: 0,
            hung: 0,
            last_words: String::new(),
            transcript: Transcript::new(),
        }
    }

    /// Sets an environment variable for every child.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Runs one child from start to end.
    ///
    /// # Panics
    /// If the child cannot be started.
    pub fn live(&mut self, end: End) {
        let mut child = self.start(end);
        let words = child.stderr.take().map(|stderr| thread::spawn(move || read_all(stderr)));
        let lines = lines_of(&mut child);
        let hung_before = self.hung;
        let ended_well = self.attend(&mut child, &lines, end);
        let words = words.and_then(|words| words.join().ok()).unwrap_or_default();
        let has_failed = !ended_well && self.hung == hung_before;
        if has_failed || words.contains("panicked at") {
            self.panics += 1;
            self.last_words = words;
        }
        self.transcript.crash();
    }

    fn start(&mut self, end: End) -> Child {
        let word = if end == End::Itself { "last" } else { "killed" };
        let told = format!("{} {} {word}", self.lives, self.rng.u64(..));
        self.lives += 1;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.variables.iter().cloned()).env(VARIABLE, told);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Reads the output of a child until it is gone. Returns whether it ended as it
    /// should.
    fn attend(&mut self, child: &mut Child, lines: &Receiver<String>, end: End) -> bool {
        let mut told = 0;
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    told += 1;
                    self.transcript.line(&line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.hung += 1;
                    let _already_gone = child.kill();
                }
            }
            if end == (End::Killed { after_lines: told }) {
                self.kill_at_random(child);
            }
        }
        let status = child.wait();
        status.is_ok_and(|status| status.success() || end != End::Itself && status.code().is_none())
    }

    /// Kills the child with `SIGKILL`, after some hundred microseconds at most.
    fn kill_at_random(&mut self, child: &mut Child) {
        for _ in 0..self.rng.u32(0..40_000) {
            std::hint::spin_loop();
        }
        let _already_gone = child.kill();
    }

    /// Checks every read of all lives.
    pub fn check(&self, contract: &Contract) -> Outcome {
        Outcome {
            report: self.transcript.check(contract),
            panics: self.panics,
            hung: self.hung,
            last_words: self.last_words.clone(),
            lives: self.lives,
        }
    }
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let (give, take) = channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if give.send(line).is_err() {
                    return;
                }
            }
        });
    }
    take
}

fn read_all(mut from: impl Read) -> String {
    let mut all = Vec::new();
    let _until_gone = from.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}
