//! A child process, from the parent's side.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::Outcome;
use crate::options::Place;

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node process. It ends when its standard input ends, and so also when the parent ends.
pub(crate) struct Peer {
    number: u64,
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a process and waits until its cache is built.
    pub(crate) fn start(place: &Place) -> Outcome<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(place.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().ok_or("a process without output")?);
        let mut peer = Self { number: place.number, process, orders, answers };
        let _ready: String = peer.answer()?;
        Ok(peer)
    }

    /// Sends a question without waiting for the answer.
    pub(crate) fn ask(&mut self, question: &str) -> Outcome<()> {
        let orders = self.orders.as_mut().ok_or("the process was ended")?;
        Ok(writeln!(orders, "{question}")?)
    }

    pub(crate) fn answer<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(format!("process {} is gone", self.number + 1).into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits for the end of a process that was told to end; an error if it failed.
    pub(crate) fn ended(mut self) -> Outcome<()> {
        match self.wait()? {
            true => Ok(()),
            false => Err(format!("process {} failed", self.number + 1).into()),
        }
    }

    /// Returns whether the process ended successfully. Kills it after a timeout.
    fn wait(&mut self) -> Outcome<bool> {
        self.orders = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status.success());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.process.kill()?;
        self.process.wait()?;
        Ok(false)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Ignored: the failure that led here is already reported.
        let _told = self.wait();
    }
}
