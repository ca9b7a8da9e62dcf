//! The error type of all crates.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::tier::TierKind;

/// `std::result::Result` with [`Error`] filled in.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// The kind of an error, for callers to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option has an invalid value; the message gives the option, the value and the allowed values.
    Config,
    /// A tier cannot be reached or opened now; it may recover.
    Unavailable,
    /// Another live cache uses the directory.
    Busy,
    /// There is no room for the entry.
    Full,
    /// The entry exceeds the size limit of every tier that could store it.
    TooLarge,
    /// Stored bytes differ from what was written: a torn, flipped, foreign or outdated frame.
    Corrupt,
    /// A key or value could not be encoded or decoded.
    Codec,
    /// The operating system reported a failure.
    Io,
    /// The cache was closed.
    Closed,
    /// This build or this tier does not support the operation.
    Unsupported,
}

impl ErrorKind {
    /// Whether the same call may succeed later without a change by the caller.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Busy | Self::Full | Self::Io)
    }
}

/// An error: its kind, the tier and the operation that it came from if they are known, a message, and the
/// source.
///
/// It is one pointer wide, so that a `Result` with it stays small.
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
    /// An error of `kind` with this message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, tier: None, operation: None, message: message.into(), source: None }))
    }

    /// An invalid option: its name, the given value, the allowed values.
    pub fn config(option: &str, given: impl fmt::Display, allowed: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Config, format!("option `{option}`: given {given}, allowed {allowed}"))
    }

    /// Sets the tier, unless it is set already.
    #[must_use]
    pub fn in_tier(mut self, tier: TierKind) -> Self {
        self.0.tier.get_or_insert(tier);
        self
    }

    /// Sets the operation, unless it is set already.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Sets the underlying error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// A copy of a shared error, for one of several callers that waited for the same operation. The original
    /// becomes its source.
    pub fn again(this: &Arc<Self>) -> Self {
        let Inner { kind, tier, operation, ref message, .. } = *this.0;
        let source = Some(Box::new(Arc::clone(this)) as Source);
        Self(Box::new(Inner { kind, tier, operation, message: message.clone(), source }))
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The tier that the error came from, if known.
    pub fn tier(&self) -> Option<TierKind> {
        self.0.tier
    }

    /// The operation that failed (`"get"`, `"put"`, `"open"`), if known.
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
