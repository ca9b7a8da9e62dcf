//! One encoding for all keys that are equal.
//!
//! Equal keys may look different to serde: the paths `a//b` and `a/b`, one moment
//! with two offsets, the decimals `1.0` and `1.00`, words that are compared without
//! regard to case. Tiers of bytes tell keys apart by their encodings, so such keys
//! would be two entries there and one in memory.
//!
//! A key is known here by its traits alone. Two facts are enough:
//!
//! - *Equal keys feed a hasher the same.* A key whose feed is exactly what
//!   `#[derive(Hash)]` makes of the parts that serde sees is told apart by these
//!   parts: nothing is to be done. So most keys cost one pass more. Where it is that
//!   of another spelling of its texts, that spelling is the canonical one.
//! - *An encoding that decodes to an equal key is one of this key alone.* Two keys
//!   with such an encoding both equal what it decodes to. So parts of other keys are
//!   rewritten, one place of the type after another, to the spelling that
//!   [`Rewrite`](super::place::Rewrite) knows, and a rewrite stays where the result
//!   decodes to a key that is equal. Text that merely looks like a date stays as it
//!   is: as text it would be another key.
//!
//! What cannot be found out this way, a key that rounds its numbers, say, needs the
//! word of the user ([`Canonical`](super::Canonical)).

use super::EncodedKey;
use super::place::{Place, Plan, Rewrite};
use super::sink::{Buffer, Fed, Feed, Form, Sink};
use super::writer::{Refusal, Writer};
use crate::{Error, ErrorKind, Result};

/// A key, whatever its type.
pub(super) trait Subject {
    /// Has serde give its parts.
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Refusal>;

    /// Feeds its hash.
    fn feed(&self, feed: &mut Feed);

    /// Whether these bytes decode to an equal key.
    fn is(&self, bytes: &[u8]) -> bool;

    /// The encoding of the key that these bytes decode to, if that is an equal one.
    fn again(&self, bytes: &[u8], form: Form, plan: &Plan) -> Option<Buffer>;
}

/// The bytes of a key by a plan.
///
/// # Errors
/// `ErrorKind::Codec` where the key refuses.
pub(super) fn write(key: &dyn Subject, form: Form, plan: &Plan) -> Result<Buffer> {
    let mut writer = Writer::new(Sink::of(form), plan);
    key.write(&mut writer).map_err(unencodable)?;
    Ok(writer.into_bytes())
}

/// The encoding of a key, and of all keys that are equal to it.
///
/// # Errors
/// `ErrorKind::Codec` for a key that does not survive its encoding, or that has
/// another one each time.
pub(super) fn encode(key: &dyn Subject) -> Result<EncodedKey> {
    let attempts = match hashed_spelling(key) {
        Some(spelling) if spelling.0.is_empty() => return as_given(key),
        Some(spelling) => spelling.0,
        None => attempts(key)?,
    };
    for form in [Form::Names, Form::Fixed] {
        if let Some(encoded) = rewritten(key, form, &attempts)? {
            return Ok(encoded);
        }
    }
    Err(lost())
}

/// The encoding of a key that is told apart by its parts: MessagePack with names,
/// or bincode for the keys that it cannot tell apart.
fn as_given(key: &dyn Subject) -> Result<EncodedKey> {
    for form in [Form::Names, Form::Fixed] {
        let bytes = write(key, form, &Plan::default())?;
        if key.is(&bytes) {
            return Ok(EncodedKey::new(&bytes[..]));
        }
    }
    Err(lost())
}

/// The spelling of its texts that the key feeds a hasher, where it feeds it its
/// parts as deriving does.
fn hashed_spelling(key: &dyn Subject) -> Option<Plan> {
    let (mut feed, as_given) = (Feed::default(), Plan::default());
    key.feed(&mut feed);
    let mut writer = Writer::new(Sink::Fed(Fed::new(&feed)), &as_given);
    key.write(&mut writer).ok()?;
    writer.into_spelling()
}

/// What could be rewritten in the key.
fn attempts(key: &dyn Subject) -> Result<Vec<(Place, Rewrite)>> {
    let plan = Plan::default();
    let mut writer = Writer::noting(Sink::of(Form::Names), &plan);
    key.write(&mut writer).map_err(unencodable)?;
    Ok(writer.into_notes().attempts())
}

/// The encoding by those of the rewrites that leave the key equal; `None` where the
/// key does not survive this form.
fn rewritten(key: &dyn Subject, form: Form, attempts: &[(Place, Rewrite)]) -> Result<Option<EncodedKey>> {
    let mut plan = Plan::default();
    let mut bytes = write(key, form, &plan)?;
    // What the bytes come to when they are decoded and encoded again.
    let (mut again, mut refused) = (None, Buffer::new());
    for attempt in attempts {
        if plan.outdoes(*attempt) {
            continue;
        }
        plan.0.push(*attempt);
        let tried = write(key, form, &plan)?;
        if tried != bytes && tried != refused {
            if let Some(next) = key.again(&tried, form, &plan) {
                (bytes, again) = (tried, Some(next));
                continue;
            }
            refused = tried;
        }
        plan.0.pop();
    }
    let Some(again) = again.or_else(|| key.again(&bytes, form, &plan)) else { return Ok(None) };
    // Decoders may have a form of their own.
    if again == bytes || key.again(&again, form, &plan).as_ref() == Some(&again) {
        return Ok(Some(EncodedKey::unsure(&again[..])));
    }
    let message = "equal keys have different encodings, and this one another each time: \
                   say what its canonical form is by `key_with`";
    Err(Error::new(ErrorKind::Codec, message))
}

fn lost() -> Error {
    Error::new(ErrorKind::Codec, "the key does not survive its encoding: decoded, it is another key")
}

fn unencodable(error: Refusal) -> Error {
    Error::new(ErrorKind::Codec, "the key cannot be encoded").with_source(Box::new(error))
}
