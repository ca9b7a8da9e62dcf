//! The report of a check.

use std::fmt;

use super::call::Call;

/// The verdict on a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It found a value that it may have found.
    Explained,
    /// It found nothing, which is allowed.
    Missed,
    /// It found the value of another key.
    Wrong,
    /// It found a value of another schema.
    Foreign,
    /// It found a value before it was written, or one that never was.
    Unwritten,
    /// It found parts of values.
    Torn,
    /// It found a value that had been replaced before it began.
    Stale,
    /// It found a value that had been removed before it began.
    Resurrected,
    /// It found nothing, although a value had to be there.
    Lost,
    /// It took a value that another call had taken.
    Twice,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 10] = [
        Self::Explained,
        Self::Missed,
        Self::Wrong,
        Self::Foreign,
        Self::Unwritten,
        Self::Torn,
        Self::Stale,
        Self::Resurrected,
        Self::Lost,
        Self::Twice,
    ];

    /// Returns the lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Explained => "explained",
            Self::Missed => "missed",
            Self::Wrong => "wrong",
            Self::Foreign => "foreign",
            Self::Unwritten => "unwritten",
            Self::Torn => "torn",
            Self::Stale => "stale",
            Self::Resurrected => "resurrected",
            Self::Lost => "lost",
            Self::Twice => "twice",
        }
    }

    /// Whether a read with this verdict breaks the contract.
    pub fn is_offence(self) -> bool {
        !matches!(self, Self::Explained | Self::Missed)
    }
}

/// A read that nothing explains, with the calls around it.
#[derive(Clone, Debug)]
pub struct Offence {
    /// The verdict on the read.
    pub verdict: Verdict,
    /// The calls on its key, from the write of the value it found to its end, one a line.
    /// The read itself is marked.
    pub history: String,
}

/// Number of calls of an offence that are shown.
const SHOWN: usize = 40;

impl Offence {
    pub(super) fn new(verdict: Verdict, read: &Call, around: &[&Call]) -> Self {
        use fmt::Write;
        let mut history = String::from("  begun   ended  who: call\n");
        let head = SHOWN / 4;
        let cut = around.len().saturating_sub(SHOWN);
        for (at, call) in around.iter().enumerate() {
            if cut > 0 && at >= head && at < head + cut {
                if at == head {
                    let _ = writeln!(history, "        .. {cut} more ..");
                }
                continue;
            }
            let mark = if std::ptr::eq(*call, read) { "  <-- " } else { "" };
            let name = if mark.is_empty() { "" } else { verdict.name() };
            let _ = writeln!(history, "{call}{mark}{name}");
        }
        Self { verdict, history }
    }
}

/// The number of reads for each verdict, and the first offence.
#[derive(Clone, Debug, Default)]
pub struct Report {
    counts: [u64; Verdict::ALL.len()],
    first: Option<Offence>,
}

impl Report {
    pub(super) fn count(&mut self, verdict: Verdict, offence: impl FnOnce() -> Offence) {
        self.counts[verdict as usize] += 1;
        if verdict.is_offence() && self.first.is_none() {
            self.first = Some(offence());
        }
    }

    /// Returns the number of reads with this verdict.
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.counts[verdict as usize]
    }

    /// Returns the number of reads that were checked.
    pub fn reads(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether every read is explained.
    pub fn is_sound(&self) -> bool {
        self.first.is_none()
    }

    /// Returns the first unexplained read.
    pub fn first(&self) -> Option<&Offence> {
        self.first.as_ref()
    }

    /// Adds the counts of another report; the first offence stays.
    pub fn add(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.first = self.first.take().or(other.first);
    }

    /// Asserts that every read is explained.
    ///
    /// # Panics
    /// If one is not, with `what` (a seed, for example), the counts, and the calls of the
    /// first offence.
    pub fn assert_sound(&self, what: impl fmt::Display) {
        assert!(self.is_sound(), "{what}\n{self}");
    }
}

impl fmt::Display for Report {
    /// Prints the counts that are not zero, then the first offence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} reads", self.reads())?;
        for verdict in Verdict::ALL {
            if self.of(verdict) > 0 {
                write!(f, ", {} {}", self.of(verdict), verdict.name())?;
            }
        }
        if let Some(first) = &self.first {
            write!(f, "\nthe first: {}\n{}", first.verdict.name(), first.history)?;
        }
        Ok(())
    }
}
