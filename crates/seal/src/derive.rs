//! Derives keys, names and identifiers by keyed BLAKE2b.

use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use blake2::digest::{FixedOutput, Update};
use zeroize::Zeroizing;

/// A secret of 32 bytes, overwritten when it is dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// What a derived value is for. No two purposes share a value.
#[derive(Clone, Copy)]
pub(crate) enum DerivationPurpose {
    /// The identifier of a key.
    Identifier,
    /// The key that frames of one place are sealed by.
    Frames,
    /// The key that makes names in one place.
    Names,
    /// The key that tags, and keys in lists, are sealed by.
    Short,
    /// The key that makes the nonces of those.
    ShortNonce,
    /// A name, or a nonce of [`ShortNonce`](Self::ShortNonce).
    Value,
}

impl DerivationPurpose {
    /// The parameter `personal` of BLAKE2b, at most 16 bytes.
    fn personal(self) -> &'static [u8] {
        match self {
            Self::Identifier => b"larder id",
            Self::Frames => b"larder frames",
            Self::Names => b"larder names",
            Self::Short => b"larder short",
            Self::ShortNonce => b"larder shortsiv",
            Self::Value => b"larder value",
        }
    }
}

/// Returns the keyed BLAKE2b-256 of these parts, each after its length in 8 bytes.
pub(crate) fn derive(key: &[u8; 32], purpose: DerivationPurpose, parts: &[&[u8]]) -> Secret {
    let mut secret = Secret::default();
    // Key and parameter have lengths that BLAKE2b accepts.
    if let Ok(mut mac) = Blake2bMac::<U32>::new_with_salt_and_personal(Some(key), &[], purpose.personal()) {
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let mut output = mac.finalize_fixed();
        secret.copy_from_slice(&output);
        zeroize::Zeroize::zeroize(output.as_mut_slice());
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_keys_and_parts_give_different_values() {
        let key = [7; 32];
        let made = [
            derive(&key, DerivationPurpose::Names, &[b"ab", b"c"]),
            derive(&key, DerivationPurpose::Names, &[b"a", b"bc"]),
            derive(&key, DerivationPurpose::Names, &[b"abc"]),
            derive(&key, DerivationPurpose::Frames, &[b"abc"]),
            derive(&[8; 32], DerivationPurpose::Names, &[b"abc"]),
        ];
        let all = [
            DerivationPurpose::Identifier,
            DerivationPurpose::Frames,
            DerivationPurpose::Names,
            DerivationPurpose::Short,
            DerivationPurpose::ShortNonce,
            DerivationPurpose::Value,
        ];
        let derived = all.map(|purpose| derive(&key, purpose, &[]));
        assert!(
            derived
                .iter()
                .all(|one| **one != [0; 32] && derived.iter().filter(|other| *other == one).count() == 1)
        );
        for (at, one) in made.iter().enumerate() {
            assert!(**one != [0; 32]);
            assert!(made[at + 1..].iter().all(|other| **other != **one), "value {at}");
        }
    }
}
