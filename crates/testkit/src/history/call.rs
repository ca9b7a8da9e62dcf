//! One call of a history: its arguments, its result, and its times.

use std::fmt;

use super::stamp::{Seen, Stamp};

/// The operation of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Stores this value under its key.
    Insert(Stamp),
    /// Removes a key.
    Remove(u64),
    /// Removes everything.
    Clear,
    /// Removes a key and returns its value.
    Take(u64),
    /// Returns the value of a key.
    Get(u64),
    /// Whether a key has a value.
    Contains(u64),
    /// Returns the value of a key, or loads it.
    Load(u64),
    /// Makes acknowledged writes durable.
    Flush,
}

impl Act {
    /// Returns the key of the operation; `None` if it is about all keys.
    pub fn key(&self) -> Option<u64> {
        match self {
            Self::Insert(stamp) => Some(stamp.key),
            Self::Remove(key) | Self::Take(key) | Self::Get(key) => Some(*key),
            Self::Contains(key) | Self::Load(key) => Some(*key),
            Self::Clear | Self::Flush => None,
        }
    }

    /// Whether the operation removes or replaces the former value of its key.
    pub(super) fn changes(&self) -> bool {
        matches!(self, Self::Insert(_) | Self::Remove(_) | Self::Clear | Self::Take(_))
    }
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// A value; presence for `Contains`.
    Found(Seen),
    /// No value.
    Missing,
    /// There is a value, which was not read.
    Held,
}

/// A loader that ran within a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// When the loader began.
    pub at: u64,
    /// The value that the loader returned.
    pub stamp: Stamp,
}

/// A call with the times of its invocation and its response, in one order over all calls
/// of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The number of the recorder.
    pub writer: u32,
    /// The schema of the values that the recorder writes and may read.
    pub schema: u32,
    /// The time of its invocation.
    pub begun: u64,
    /// The time of its response. For a call interrupted by a crash, the time of the
    /// crash; for one that never returned, [`NEVER`].
    pub ended: u64,
    /// The operation.
    pub act: Act,
    /// The loader, if one ran.
    pub ran: Option<Ran>,
    /// The result; `None` if it is unknown.
    pub answer: Option<Answer>,
}

/// A time later than all others.
pub const NEVER: u64 = u64::MAX;

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insert(stamp) => write!(f, "insert {} {}", stamp.key, stamp.number),
            Self::Remove(key) => write!(f, "remove {key}"),
            Self::Clear => f.write_str("clear"),
            Self::Take(key) => write!(f, "take {key}"),
            Self::Get(key) => write!(f, "get {key}"),
            Self::Contains(key) => write!(f, "contains {key}"),
            Self::Load(key) => write!(f, "load {key}"),
            Self::Flush => f.write_str("flush"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Failed => f.write_str("failed"),
            Self::Missing => f.write_str("missing"),
            Self::Held => f.write_str("held"),
            Self::Found(Seen::Stamp(stamp)) => {
                write!(f, "found {} {} {}", stamp.key, stamp.writer, stamp.number)
            }
            Self::Found(Seen::Torn(start)) => write!(f, "torn {start}"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7} ", self.begun)?;
        match self.ended {
            NEVER => f.write_str("     ..")?,
            ended => write!(f, "{ended:>7}")?,
        }
        write!(f, "  {:>3}: {}", self.writer, self.act)?;
        if let Some(ran) = self.ran {
            write!(f, ", at {} its loader began {}", ran.at, ran.stamp)?;
        }
        match &self.answer {
            Some(Answer::Found(seen)) => write!(f, " -> found {seen}"),
            Some(answer) => write!(f, " -> {answer}"),
            None => f.write_str(" -> no answer"),
        }
    }
}

/// Parses what [`Act`] prints, for the recorder `writer`.
pub(super) fn parse_act(text: &str, writer: u32) -> Option<Act> {
    let mut words = text.split(' ');
    let verb = words.next()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    Some(match verb {
        "insert" => Act::Insert(Stamp { key: number()?, writer, number: number()? }),
        "remove" => Act::Remove(number()?),
        "take" => Act::Take(number()?),
        "get" => Act::Get(number()?),
        "contains" => Act::Contains(number()?),
        "load" => Act::Load(number()?),
        "clear" => Act::Clear,
        "flush" => Act::Flush,
        _ => return None,
    })
}

/// Parses what [`Answer`] prints.
pub(super) fn parse_answer(text: &str) -> Option<Answer> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match verb {
        "done" => Answer::Done,
        "failed" => Answer::Failed,
        "missing" => Answer::Missing,
        "held" => Answer::Held,
        "torn" => Answer::Found(Seen::Torn(rest.to_owned())),
        "found" => {
            let mut words = rest.split(' ');
            let key = words.next()?.parse().ok()?;
            let writer = words.next()?.parse().ok()?;
            let number = words.next()?.parse().ok()?;
            Answer::Found(Seen::Stamp(Stamp { key, writer, number }))
        }
        _ => return None,
    })
}
