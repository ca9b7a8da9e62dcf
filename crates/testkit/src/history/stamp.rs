//! Values that name their origin.

use std::fmt;

/// The origin of a value: no two writes of a history have the same stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The key that the value was written under.
    pub key: u64,
    /// The recorder that wrote it.
    pub writer: u32,
    /// The number of the write among those of the recorder.
    pub number: u64,
}

impl Stamp {
    /// Returns a value with this stamp, `len` bytes long, or longer if the stamp needs
    /// more.
    ///
    /// Every byte follows from the stamp and the length. So a changed or truncated value,
    /// or one mixed with another, is detected.
    ///
    /// ```
    /// use larder_testkit::history::{Seen, Stamp};
    ///
    /// let stamp = Stamp { key: 7, writer: 1, number: 3 };
    /// let text = stamp.text(100);
    /// assert_eq!(text.len(), 100);
    /// assert_eq!(Seen::of(text.as_bytes()), Seen::Stamp(stamp));
    /// assert!(matches!(Seen::of(&text.as_bytes()[..99]), Seen::Torn(_)));
    /// ```
    pub fn text(&self, len: usize) -> String {
        let mut text = self.head(len);
        while text.len() > self.declared(&text) {
            text = self.head(text.len());
        }
        let len = self.declared(&text);
        fill(&mut text, self, len);
        text
    }

    fn head(&self, len: usize) -> String {
        format!("k{} w{} n{} l{len};", self.key, self.writer, self.number)
    }

    /// Returns the length that a head was made with.
    fn declared(&self, head: &str) -> usize {
        parse_head(head).map_or(0, |(_, len)| len)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} of key {}", self.writer, self.number, self.key)
    }
}

/// The content of a value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A whole value.
    Stamp(Stamp),
    /// Bytes that no write of a history has written, with their beginning.
    Torn(String),
}

impl Seen {
    /// Reads the stamp of a value, and verifies every byte after it.
    pub fn of(value: &[u8]) -> Self {
        let found = std::str::from_utf8(value).ok().and_then(|text| parse_head(text).zip(Some(text)));
        if let Some(((stamp, len), text)) = found
            && len == text.len()
            && stamp.text(len) == text
        {
            return Self::Stamp(stamp);
        }
        let start = &value[..value.len().min(40)];
        Self::Torn(format!("{} bytes: {}", value.len(), String::from_utf8_lossy(start).escape_default()))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stamp(stamp) => stamp.fmt(f),
            Self::Torn(start) => write!(f, "torn, {start}"),
        }
    }
}

fn parse_head(text: &str) -> Option<(Stamp, usize)> {
    let (head, _) = text.split_once(';')?;
    let mut words = head.split(' ');
    let mut next = |letter: char| words.next()?.strip_prefix(letter);
    let key = next('k')?.parse().ok()?;
    let writer = next('w')?.parse().ok()?;
    let number = next('n')?.parse().ok()?;
    let len = next('l')?.parse().ok()?;
    Some((Stamp { key, writer, number }, len))
}

/// Letters that compress a little, as most values do.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn fill(text: &mut String, stamp: &Stamp, len: usize) {
    let seed = stamp.key.rotate_left(40) ^ u64::from(stamp.writer).rotate_left(20) ^ stamp.number;
    let mut state = (seed ^ len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    text.reserve(len.saturating_sub(text.len()));
    while text.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let letters = state.to_le_bytes().map(|byte| char::from(LETTERS[usize::from(byte) % 64]));
        text.extend(letters.iter().take(len - text.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_of_every_length_has_a_stamp_and_changed_bytes_are_detected() {
        let stamp = Stamp { key: 5, writer: 2, number: 99 };
        for len in (0..40).chain([99, 100, 4096]) {
            assert_eq!(Seen::of(stamp.text(len).as_bytes()), Seen::Stamp(stamp), "{len}");
        }
        let text = stamp.text(60).into_bytes();
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert_ne!(Seen::of(&changed), Seen::Stamp(stamp), "byte {at}");
        }
    }

    #[test]
    fn halves_of_two_values_are_torn() {
        let one = Stamp { key: 1, writer: 1, number: 1 }.text(200);
        let two = Stamp { key: 1, writer: 1, number: 2 }.text(200);
        let mixed = format!("{}{}", &one[..100], &two[100..]);
        assert!(matches!(Seen::of(mixed.as_bytes()), Seen::Torn(_)));
        assert!(matches!(Seen::of(b"\xff\xfe"), Seen::Torn(_)));
    }
}
