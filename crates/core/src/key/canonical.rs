//! Canonical key encodings: one encoding for all keys that are equal.
//!
//! Serde may represent equal keys differently: the paths `a//b` and `a/b`, one moment with two offsets, the
//! decimals `1.0` and `1.00`, text that is compared case-insensitively. Byte tiers distinguish keys by their
//! encodings, so such keys would be two entries there and one in memory.
//!
//! Only the traits of a key are known here. Two facts are enough:
//!
//! - *Equal keys feed a hasher the same.* If a key feeds exactly what `#[derive(Hash)]` feeds for the parts
//!   that serde sees, these parts identify it, and nothing needs to be done. This costs most keys one more
//!   pass. If it feeds another spelling of its texts, that spelling is the canonical one.
//! - *An encoding that decodes to an equal key belongs to this key only.* Two keys with such an encoding both
//!   equal the decoded key. So the parts of other keys are rewritten, one place of the type after another, to
//!   a spelling that [`Rewrite`](super::rewrites::Rewrite) knows. A rewrite is kept if the result decodes to an
//!   equal key. Text that only looks like a date stays unchanged: rewritten, it would be another key.
//!
//! Equalities that cannot be found this way, for example of keys that round their numbers, need a canonical
//! form from the user ([`Canonical`](super::Canonical)).

use super::EncodedKey;
use super::rewrites::{Place, Plan, Rewrite};
use super::sink::{Buffer, Fed, Feed, Form, Sink};
use super::writer::{Refusal, Writer};
use crate::{Error, ErrorKind, Result};

/// A key of any type.
pub(super) trait Subject {
    /// Serializes its parts into `writer`.
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Refusal>;

    /// Feeds its hash data to `feed`.
    fn feed(&self, feed: &mut Feed);

    /// Whether these bytes decode to an equal key.
    fn is(&self, bytes: &[u8]) -> bool;

    /// The encoding of the key that these bytes decode to; `None` if that is not equal to this key.
    fn again(&self, bytes: &[u8], form: Form, plan: &Plan) -> Option<Buffer>;
}

/// Encodes a key with the rewrites of a plan.
///
/// # Errors
/// `ErrorKind::Codec` if the key cannot be serialized.
pub(super) fn write(key: &dyn Subject, form: Form, plan: &Plan) -> Result<Buffer> {
    let mut writer = Writer::new(Sink::of(form), plan);
    key.write(&mut writer).map_err(unencodable)?;
    Ok(writer.into_bytes())
}

/// The canonical encoding of a key and of all keys equal to it.
///
/// # Errors
/// `ErrorKind::Codec` for a key that does not survive its encoding, or whose encoding differs each time.
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

/// The encoding of a key that its parts identify: MessagePack with names, or bincode for keys that
/// MessagePack cannot distinguish.
fn as_given(key: &dyn Subject) -> Result<EncodedKey> {
    for form in [Form::Names, Form::Fixed] {
        let bytes = write(key, form, &Plan::default())?;
        if key.is(&bytes) {
            return Ok(EncodedKey::of(&bytes));
        }
    }
    Err(lost())
}

/// The spelling of its texts that the key feeds a hasher, if it otherwise feeds what `#[derive(Hash)]` does.
fn hashed_spelling(key: &dyn Subject) -> Option<Plan> {
    let (mut feed, as_given) = (Feed::default(), Plan::default());
    key.feed(&mut feed);
    let mut writer = Writer::new(Sink::Fed(Fed::new(&feed)), &as_given);
    key.write(&mut writer).ok()?;
    writer.into_spelling()
}

/// The rewrites that may apply to the key.
fn attempts(key: &dyn Subject) -> Result<Vec<(Place, Rewrite)>> {
    let plan = Plan::default();
    let mut writer = Writer::noting(Sink::of(Form::Names), &plan);
    key.write(&mut writer).map_err(unencodable)?;
    Ok(writer.into_notes().attempts())
}

/// The encoding with those rewrites that leave the key equal; `None` if the key does not survive this form.
fn rewritten(key: &dyn Subject, form: Form, attempts: &[(Place, Rewrite)]) -> Result<Option<EncodedKey>> {
    let mut plan = Plan::default();
    let mut bytes = write(key, form, &plan)?;
    // The bytes after decoding and encoding again.
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
    // A decoder may normalize the key to its own form.
    if again == bytes || key.again(&again, form, &plan).as_ref() == Some(&again) {
        return Ok(Some(EncodedKey::unsure(&again[..])));
    }
    let message = "equal keys have different encodings, and this key encodes differently each time: \
                   give its canonical form with `key_with`";
    Err(Error::new(ErrorKind::Codec, message))
}

fn lost() -> Error {
    Error::new(ErrorKind::Codec, "the encoded key decodes to another key")
}

fn unencodable(error: Refusal) -> Error {
    Error::new(ErrorKind::Codec, "the key cannot be encoded").with_source(Box::new(error))
}
