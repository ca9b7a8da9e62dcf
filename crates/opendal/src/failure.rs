//! Errors of a service, as those of a tier.

use std::error::Error as _;

use larder_core::{Error, ErrorKind};
use opendal::ErrorKind as Of;

/// The error of a call that the service failed.
pub(crate) fn failed(error: opendal::Error) -> Error {
    let kind = match error.kind() {
        Of::RateLimited => ErrorKind::Busy,
        Of::ConfigInvalid => ErrorKind::Config,
        Of::Unsupported => ErrorKind::Unsupported,
        Of::Unexpected if error.is_temporary() || is_unanswered(&error) => ErrorKind::Unavailable,
        _ => ErrorKind::Io,
    };
    // Not the whole text: it may hold a signed address.
    let message = format!("the object storage failed: {}", error.message());
    Error::new(kind, message).with_source(error)
}

/// Whether the service may still carry the call out: it did not answer.
///
/// The errors of an answer have no source; that of a connection is the source otherwise.
pub(crate) fn is_unanswered(error: &opendal::Error) -> bool {
    error.kind() == Of::Unexpected && error.source().is_some()
}

/// The error of a call that took too long.
pub(crate) fn timed_out() -> Error {
    Error::new(ErrorKind::Unavailable, "the object storage did not answer")
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the tier is closed")
}
