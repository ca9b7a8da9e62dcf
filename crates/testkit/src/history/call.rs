//! One call of a history: what was asked, what came of it, and when.

use std::fmt;

use super::stamp::{Seen, Stamp};

/// What a call asks of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// To store this value under its key.
    Insert(Stamp),
    /// To remove a key.
    Remove(u64),
    /// To remove everything.
    Clear,
    /// To remove a key and return its value.
    Take(u64),
    /// To return the value of a key.
    Get(u64),
    /// Whether a key has a value.
    Contains(u64),
    /// To return the value of a key, or to load it.
    Load(u64),
    /// To keep what was acknowledged over the end of the process.
    Flush,
}

impl Act {
    /// The key it is about; none for those about all keys.
    pub fn key(&self) -> Option<u64> {
        match self {
            Self::Insert(stamp) => Some(stamp.key),
            Self::Remove(key) | Self::Take(key) | Self::Get(key) => Some(*key),
            Self::Contains(key) | Self::Load(key) => Some(*key),
            Self::Clear | Self::Flush => None,
        }
    }

    /// Whether what the key had before is gone afterwards.
    pub(super) fn changes(&self) -> bool {
        matches!(self, Self::Insert(_) | Self::Remove(_) | Self::Clear | Self::Take(_))
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// A value, for those that return one; presence, for `Contains`.
    Found(Seen),
    /// None.
    Missing,
    /// There is a value, and it was not looked at.
    Held,
}

/// A loader that ran within a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// When it began.
    pub at: u64,
    /// What it returned.
    pub stamp: Stamp,
}

/// A call, with the times of its invocation and its response in one order over
/// all calls of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The recorder.
    pub writer: u32,
    /// Its invocation.
    pub begun: u64,
    /// Its response; the time of the crash for one that a crash cut short,
    /// [`NEVER`] for one that did not come back.
    pub ended: u64,
    /// What was asked.
    pub act: Act,
    /// The loader, where one ran.
    pub ran: Option<Ran>,
    /// What came of it; `None` when nobody knows.
    pub answer: Option<Answer>,
}

/// Later than everything.
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

/// Reads what [`Act`] prints, of the recorder `writer`.
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

/// Reads what [`Answer`] prints.
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
