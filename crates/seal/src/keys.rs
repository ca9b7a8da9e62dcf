//! The keys that a user gives.

use std::fmt;
use std::sync::Arc;

use larder_core::{Error, ErrorKind, Result, hex};

use crate::derive::{DerivationPurpose, Secret, derive};

/// The identifier of a [`SealingKey`]. Each frame has that of its key in the clear. `Display` prints 16
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(u64);

impl KeyId {
    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A secret of 32 random bytes. A clone shares the bytes, which are overwritten when the last one is dropped.
///
/// `Debug` prints the [identifier](Self::id) alone.
#[derive(Clone)]
pub struct SealingKey {
    secret: Arc<Secret>,
    id: KeyId,
}

impl SealingKey {
    /// The key with these bytes, which must be random: a password is no key.
    pub fn new(bytes: [u8; 32]) -> Self {
        let secret = Secret::new(bytes);
        let id = derive(&secret, DerivationPurpose::Identifier, &[]);
        let mut first = [0; 8];
        first.copy_from_slice(&id[..8]);
        Self { secret: Arc::new(secret), id: KeyId::from_bytes(first) }
    }

    /// A new key from the random numbers of the operating system. Entries that it seals can be read as long
    /// as the program has it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the operating system has no random numbers.
    pub fn generate() -> Result<Self> {
        let mut bytes = Secret::default();
        random(&mut *bytes)?;
        Ok(Self::new(*bytes))
    }

    /// The key with 64 hexadecimal digits, as a secret store or a file has them. Ignores white space around
    /// them.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for any other text, which the error does not show.
    pub fn from_hex(text: &str) -> Result<Self> {
        let mut bytes = Secret::default();
        let digits = text.trim().as_bytes();
        let refused = || Error::config("encrypt", "a key of another form", "64 hexadecimal digits");
        if digits.len() != 64 {
            return Err(refused());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = hex::byte(pair).ok_or_else(refused)?;
        }
        Ok(Self::new(*bytes))
    }

    /// Its identifier: a hash of the bytes, from which they cannot be found.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn derive(&self, purpose: DerivationPurpose, parts: &[&[u8]]) -> Secret {
        derive(&self.secret, purpose, parts)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

/// Fills `bytes` with random numbers of the operating system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("the operating system has no random numbers: {error}"))
    })
}

/// The keys of a sealed cache: one that names entries, one that writes, and all that read.
///
/// The key of [`new`](Self::new) names entries for the life of the cache's data: with another one no entry
/// is found. [`rotate`](Self::rotate) changes the key that writes. A rotation of several processes that share
/// entries takes two steps, so that each reads what the others write: all of them
/// [`also_read`](Self::also_read) the new key, then all rotate to it. When the entries of the former key are
/// gone, [`retire`](Self::retire) it.
///
/// `Debug` prints identifiers alone.
///
/// ```
/// use larder_seal::{Keys, SealingKey};
///
/// let (first, second) = (SealingKey::generate()?, SealingKey::generate()?);
/// let keys = Keys::new(first.clone()).rotate(second.clone());
/// assert_eq!(keys.writing(), second.id());
/// assert_eq!(keys.reading(), [first.id(), second.id()]);
/// # Ok::<(), larder_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Keys {
    naming: SealingKey,
    writing: SealingKey,
    reading: Vec<SealingKey>,
}

impl Keys {
    /// One key, which names, writes and reads.
    pub fn new(key: SealingKey) -> Self {
        Self { naming: key.clone(), writing: key.clone(), reading: vec![key] }
    }

    /// Adds a key whose frames are read.
    pub fn also_read(mut self, key: SealingKey) -> Self {
        if self.reading.iter().all(|known| known.id() != key.id()) {
            self.reading.push(key);
        }
        self
    }

    /// Writes with this key from now on. The frames of the former ones are still read.
    pub fn rotate(self, key: SealingKey) -> Self {
        Self { writing: key.clone(), ..self.also_read(key) }
    }

    /// Reads the frames of this key no longer: they are misses. The first key still names entries.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for the key that writes, and for one that is not here.
    pub fn retire(mut self, id: KeyId) -> Result<Self> {
        let is_known = self.reading.iter().any(|key| key.id() == id);
        if id == self.writing.id() || !is_known {
            return Err(Error::config("encrypt", format_args!("{id} to retire"), "a key that reads alone"));
        }
        self.reading.retain(|key| key.id() != id);
        Ok(self)
    }

    /// The key that writes.
    pub fn writing(&self) -> KeyId {
        self.writing.id()
    }

    /// The keys whose frames are read, in the order in which they were added.
    pub fn reading(&self) -> Vec<KeyId> {
        self.reading.iter().map(SealingKey::id).collect()
    }

    /// The key that names entries.
    pub fn naming(&self) -> KeyId {
        self.naming.id()
    }

    pub(crate) fn naming_key(&self) -> &SealingKey {
        &self.naming
    }

    pub(crate) fn writing_key(&self) -> &SealingKey {
        &self.writing
    }

    pub(crate) fn reading_keys(&self) -> &[SealingKey] {
        &self.reading
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("naming", &self.naming.id())
            .field("writing", &self.writing.id())
            .field("reading", &self.reading())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_keys_shows_identifiers_alone() {
        let key = SealingKey::new([0xab; 32]);
        let keys = Keys::new(key.clone());
        for shown in [format!("{key:?}"), format!("{keys:?}"), format!("{keys:#?}")] {
            assert!(shown.contains(&key.id().to_string()), "{shown}");
            assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
        }
    }

    #[test]
    fn hex_of_any_other_form_is_refused_and_not_shown() {
        let text = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
        let mut bytes = [0; 32];
        bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 16 * 17) as u8);
        assert_eq!(SealingKey::from_hex(&format!(" {text}\n")).unwrap().id(), SealingKey::new(bytes).id());
        for wrong in ["", "00", &text[1..], &text.replace("44", "4g"), "ä".repeat(32).as_str()] {
            let error = SealingKey::from_hex(wrong).unwrap_err().to_string();
            assert_eq!(error, "option `encrypt`: given a key of another form, allowed 64 hexadecimal digits");
        }
    }

    #[test]
    fn writing_key_cannot_be_retired() {
        let (first, second) = (SealingKey::new([1; 32]), SealingKey::new([2; 32]));
        let keys = Keys::new(first.clone()).rotate(second.clone());
        assert!(keys.clone().retire(second.id()).is_err());
        assert!(keys.clone().retire(SealingKey::new([3; 32]).id()).is_err());
        let retired = keys.retire(first.id()).unwrap();
        assert_eq!((retired.reading(), retired.naming()), (vec![second.id()], first.id()));
    }
}
