//! How a node hears that entries changed elsewhere.

use std::sync::Arc;
use std::time::Instant;

use crate::key::EncodedKey;

/// What a bus tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Somebody else changed, removed or let expire the entry of this key.
    Changed(EncodedKey),
    /// The same, of a key that is known by its digest alone.
    ChangedDigest(u128),
    /// Somebody invalidated entries by invalidations.
    InvalidationRecord,
    /// Somebody took or gave up the right to load an entry.
    Leased,
    /// Anything may have changed: a clear, or a gap in what was told.
    Distrust,
}

/// What copies of shared entries do while other nodes cannot be heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Coherence {
    /// They serve on until their time to live, marked as unconfirmed.
    #[default]
    Available,
    /// They do not serve.
    Strict,
}

/// Who wants to hear.
pub trait Listener: Send + Sync + 'static {
    /// Something changed.
    ///
    /// # Behavior
    /// - Must not block: it runs on the thread that reads for all.
    /// - May be told too much, never too little: doubled and late notices are
    ///   to do no harm.
    fn told(&self, notice: Notice);
}

/// Tells of the changes that others make to the entries of one cache.
///
/// # Behavior
/// - What others changed before a moment that
///   [`last_contact`](Bus::last_contact) names was told before it named it. So a
///   copy that was read from the shared tier is what the tier had at that
///   moment, unless the listener was told otherwise.
/// - Changes of this node itself are not told.
/// - After a gap, [`Notice::Distrust`] comes before any later notice.
pub trait Bus: Send + Sync + 'static {
    /// Sets who hears; the first call counts. What happened before it is not told.
    fn listen(&self, listener: Arc<dyn Listener>);

    /// When the bus surely was whole last; `None` before it ever was. Who is
    /// told something may ask from there.
    fn last_contact(&self) -> Option<Instant>;
}
