//! Notices about entries that other nodes changed.

use std::sync::Arc;
use std::time::Instant;

use crate::key::EncodedKey;

/// A notice that a bus delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Another node changed or removed the entry of this key, or it expired.
    Changed(EncodedKey),
    /// The same, for a key of which only the digest is known.
    ChangedDigest(u128),
    /// Another node wrote an invalidation.
    Invalidated,
    /// Another node took or released a lease to load an entry.
    Leased,
    /// Anything may have changed: a clear, or a gap in the notices.
    Distrust,
}

/// How memory copies of shared entries are treated while notices of other nodes cannot arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Coherence {
    /// Copies are served until their time to live ends, marked as unconfirmed.
    #[default]
    Available,
    /// Copies are not served.
    Strict,
}

/// Receives the notices of a bus.
pub trait Listener: Send + Sync + 'static {
    /// Handles a notice.
    ///
    /// # Behavior
    /// - Must not block: it runs on the thread that reads for all listeners.
    /// - May receive duplicate, late and superfluous notices, which must do no harm. No notice is left out.
    fn told(&self, notice: Notice);
}

/// Delivers notices of the changes that other nodes make to the entries of one cache.
///
/// # Behavior
/// - Every change by others before the moment that [`last_contact`](Bus::last_contact) returns was delivered
///   before it returned that moment. A copy read from the shared tier is therefore what the tier had at that
///   moment, unless a notice said otherwise.
/// - Changes of this node itself are not delivered.
/// - After a gap, [`Notice::Distrust`] comes before any later notice.
pub trait Bus: Send + Sync + 'static {
    /// Sets the listener; only the first call takes effect. Earlier changes are not delivered.
    fn listen(&self, listener: Arc<dyn Listener>);

    /// The last moment at which the bus was certainly complete; `None` before the first one. A listener may
    /// call this while it handles a notice.
    fn last_contact(&self) -> Option<Instant>;

    /// The digest that notices about this key have in place of the key; `None` if they have the key.
    ///
    /// # Behavior
    /// - Constant over the life of the bus.
    /// - By default, keys above 128 bytes have their own digest.
    fn digest_in_notices(&self, key: &EncodedKey) -> Option<u128> {
        (key.as_bytes().len() > 128).then(|| key.digest())
    }
}
