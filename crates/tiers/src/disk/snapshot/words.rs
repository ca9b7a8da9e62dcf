//! Words and byte strings in a snapshot, one after another. Words are little-endian.

/// Appends to a snapshot.
#[derive(Default)]
pub(in crate::disk) struct Writer(Vec<u8>);

impl Writer {
    /// Appends a word of eight bytes.
    pub(in crate::disk) fn word(&mut self, word: u64) {
        self.0.extend_from_slice(&word.to_le_bytes());
    }

    /// Appends the length of `bytes` as a word, then `bytes`.
    pub(in crate::disk) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Appends the length of a row key as one byte, then the key. Keys of rows are shorter than 256
    /// bytes.
    pub(in crate::disk) fn row(&mut self, row: &[u8]) {
        self.0.push(row.len() as u8);
        self.0.extend_from_slice(row);
    }

    /// What was appended.
    pub(in crate::disk) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a snapshot from its beginning. Each method returns `None` where it ends too early.
pub(in crate::disk) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Begins with the first byte.
    pub(in crate::disk) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next word.
    pub(in crate::disk) fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    /// The next bytes, after their length.
    pub(in crate::disk) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.word()?;
        self.take(usize::try_from(len).ok()?)
    }

    /// The next row key.
    pub(in crate::disk) fn row(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take(usize::from(*len))
    }

    /// Returns whether all bytes were read.
    pub(in crate::disk) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}
