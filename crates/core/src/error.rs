//! The one error type.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::tier::TierKind;

/// `std::result::Result` with [`Error`] filled in.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, in the terms a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option has a value that is not allowed; the message names the
    /// option, what was given and what is allowed.
    Config,
    /// A tier cannot be reached or opened now; it may come back.
    Unavailable,
    /// A directory is in use by another live cache.
    Busy,
    /// There is no room for the entry.
    Full,
    /// The entry is larger than every tier that could hold it accepts.
    TooLarge,
    /// Stored bytes are not what was written: a torn, flipped, foreign or
    /// outdated frame.
    Corrupt,
    /// A key or value could not be encoded or decoded.
    Codec,
    /// The operating system reported a failure.
    Io,
    /// The cache was closed.
    Closed,
    /// This build or this tier cannot do what was asked.
    Unsupported,
}

impl ErrorKind {
    /// Whether the same call may succeed later without a change by the caller.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Busy | Self::Full | Self::Io)
    }
}

/// An error of Larder: its kind, the tier and the operation it came from
/// where they are known, a message, and the source.
///
/// It is one pointer wide, so a `Result` that carries it stays small.
///
/// ```
/// use larder_core::{Error, ErrorKind};
///
/// let error = Error::config("capacity", 0, "1 to 4294967295 entries");
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(!error.kind().is_retryable());
/// assert_eq!(error.to_string(), "option `capacity`: given 0, allowed 1 to 4294967295 entries");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    tier: Option<TierKind>,
    operation: Option<&'static str>,
    message: String,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, tier: None, operation: None, message: message.into(), source: None }))
    }

    /// A wrong option: its name, what was given, what is allowed.
    pub fn config(option: &str, given: impl fmt::Display, allowed: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Config, format!("option `{option}`: given {given}, allowed {allowed}"))
    }

    /// Adds the tier, unless one is named already.
    #[must_use]
    pub fn in_tier(mut self, tier: TierKind) -> Self {
        self.0.tier.get_or_insert(tier);
        self
    }

    /// Adds the operation, unless one is named already.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// This error once more, for one more caller who waited for the same thing.
    pub fn again(this: &Arc<Self>) -> Self {
        let Inner { kind, tier, operation, ref message, .. } = *this.0;
        let source = Some(Box::new(Arc::clone(this)) as Source);
        Self(Box::new(Inner { kind, tier, operation, message: message.clone(), source }))
    }

    /// What to act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The tier it came from, where that is known.
    pub fn tier(&self) -> Option<TierKind> {
        self.0.tier
    }

    /// The operation it came from (`"get"`, `"put"`, `"open"`), where that is known.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tier) = self.0.tier {
            write!(f, "{tier} tier: ")?;
        }
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = format!("{:?}: {self}", self.0.kind);
        let mut source = self.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !told.contains(&cause_text) {
                told.push_str(": ");
                told.push_str(&cause_text);
            }
            source = cause.source();
        }
        f.write_str(&told)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::NotADirectory => ErrorKind::Unavailable,
            _ => ErrorKind::Io,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}
