//! Seals short texts, so that equal ones give equal results: tags, and keys in lists.
//!
//! The nonce is a keyed hash of the text (a synthetic nonce), so nothing is random, and a nonce is repeated
//! for an equal text alone.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};

use crate::derive::{DerivationPurpose, Secret, derive};
use crate::keys::Keys;

const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// Texts are filled up to a multiple of this, in bytes.
const BLOCK: usize = 32;
/// Ends a text before it is filled up with zeros.
const END: u8 = 0x80;

/// The derived keys of one cache for short texts.
pub(crate) struct ShortKeys {
    nonces: Secret,
    cipher: XChaCha20Poly1305,
}

impl ShortKeys {
    pub(crate) fn new(keys: &Keys, cache: &str) -> Self {
        let of = |purpose| keys.naming_key().derive(purpose, &[cache.as_bytes()]);
        Self {
            nonces: of(DerivationPurpose::ShortNonce),
            cipher: XChaCha20Poly1305::new((&*of(DerivationPurpose::Short)).into()),
        }
    }

    fn nonce(&self, filled: &[u8]) -> XNonce {
        let mut nonce = XNonce::default();
        nonce.copy_from_slice(&derive(&self.nonces, DerivationPurpose::Value, &[filled])[..NONCE_LEN]);
        nonce
    }

    /// Seals a text; `None` if it is too long for the cipher.
    pub(crate) fn seal(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut filled = Vec::with_capacity(text.len() + BLOCK);
        filled.extend_from_slice(text);
        filled.push(END);
        filled.resize(filled.len().next_multiple_of(BLOCK), 0);
        let nonce = self.nonce(&filled);
        let tag = self.cipher.encrypt_inout_detached(&nonce, &[], filled.as_mut_slice().into()).ok()?;
        Some([&nonce[..], &filled, &tag[..]].concat())
    }

    /// A number that tells nothing of `number`.
    pub(crate) fn number(&self, number: u64) -> u64 {
        let hash = derive(&self.nonces, DerivationPurpose::Value, &[b"number", &number.to_le_bytes()]);
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        u64::from_le_bytes(first)
    }

    /// Opens a text; `None` if these keys did not seal it.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let (content, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        let nonce = XNonce::from(*nonce);
        let mut text = content.to_vec();
        let buffer = text.as_mut_slice().into();
        self.cipher.decrypt_inout_detached(&nonce, &[], buffer, &Tag::from(*tag)).ok()?;
        if self.nonce(&text) != nonce {
            return None;
        }
        let end = text.iter().rposition(|byte| *byte != 0).filter(|end| text[*end] == END)?;
        text.truncate(end);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SealingKey;

    #[test]
    fn equal_texts_are_sealed_equally_and_opened_by_the_same_keys_alone() {
        let of = |key: u8, cache| ShortKeys::new(&Keys::new(SealingKey::new([key; 32])), cache);
        let keys = of(1, "a");
        for text in [&b""[..], b"a", b"\x80\0\0", &[0; 40], &[7; 31], &[7; 1024]] {
            let sealed = keys.seal(text).unwrap();
            assert_eq!(sealed, keys.seal(text).unwrap());
            assert_eq!(keys.open(&sealed).as_deref(), Some(text));
            assert_eq!(of(2, "a").open(&sealed), None);
            assert_eq!(of(1, "b").open(&sealed), None, "another cache");
            for bit in 0..sealed.len() * 8 {
                let mut flipped = sealed.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(keys.open(&flipped), None, "bit {bit}");
            }
        }
        assert_eq!(keys.seal(b"a").unwrap().len(), keys.seal(&[7; 31]).unwrap().len());
    }
}
