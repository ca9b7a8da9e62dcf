//! A record of the journal: one change of a row.
//!
//! The length of a record has a checksum of its own. So a reader can tell a record that was cut off
//! when the process ended from a damaged one. The number of the journal is the seed of both
//! checksums, so bytes of another journal never match.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Length of the body, its checksum, and the checksum of these two.
pub(in crate::disk) const HEAD_LEN: usize = 16;

const REMOVED: u8 = 0;
const HASH: u8 = 1;
const VALUE: u8 = 2;
const CLEARED: u8 = 3;
const TALLY: u8 = 4;

/// How a row changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Change<'a> {
    /// The row was removed.
    Removed,
    /// The row got a value with this hash. Earlier builds recorded so what a database had.
    Hash(u64),
    /// The row got this value.
    Value(&'a [u8]),
}

/// A record of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Record<'a> {
    /// A row changed.
    Row(&'a [u8], Change<'a>),
    /// Everything before is cleared, and so is every sorted run below this number.
    Cleared(u64),
    /// The tier was closed with this number of rows and this checksum.
    Tally(Tally),
}

/// Number of all rows, and a checksum over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::disk) struct Tally {
    /// Number of valid rows.
    pub(in crate::disk) rows: u64,
    /// Wrapping sum of their [`hash_row`]s.
    pub(in crate::disk) sum: u64,
}

impl<'a> Record<'a> {
    /// Encodes the record for journal `number` into `bytes`, in place of what they held.
    pub(in crate::disk) fn encode(&self, number: u64, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.resize(HEAD_LEN, 0);
        match *self {
            Self::Cleared(below) => {
                bytes.push(CLEARED);
                bytes.extend_from_slice(&below.to_le_bytes());
            }
            Self::Tally(tally) => {
                bytes.push(TALLY);
                bytes.extend_from_slice(&tally.rows.to_le_bytes());
                bytes.extend_from_slice(&tally.sum.to_le_bytes());
            }
            Self::Row(row, change) => {
                let (kind, hash, value) = match change {
                    Change::Removed => (REMOVED, None, &[][..]),
                    Change::Hash(hash) => (HASH, Some(hash.to_le_bytes()), &[][..]),
                    Change::Value(value) => (VALUE, None, value),
                };
                bytes.push(kind);
                bytes.extend_from_slice(&(row.len() as u32).to_le_bytes());
                bytes.extend_from_slice(row);
                bytes.extend(hash.into_iter().flatten());
                bytes.extend_from_slice(value);
            }
        }
        seal(bytes, number);
    }

    /// Parses a body whose checksum matched. `None` if its content is unknown.
    pub(in crate::disk) fn parse(body: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = body.split_first()?;
        if kind == CLEARED {
            return Some(Self::Cleared(u64::from_le_bytes(rest.try_into().ok()?)));
        }
        if kind == TALLY {
            let (rows, sum) = rest.split_first_chunk()?;
            let (rows, sum) = (u64::from_le_bytes(*rows), u64::from_le_bytes(sum.try_into().ok()?));
            return Some(Self::Tally(Tally { rows, sum }));
        }
        let (len, rest) = rest.split_first_chunk()?;
        let (row, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let change = match kind {
            REMOVED if rest.is_empty() => Change::Removed,
            HASH => Change::Hash(u64::from_le_bytes(rest.try_into().ok()?)),
            VALUE => Change::Value(rest),
            _ => return None,
        };
        Some(Self::Row(row, change))
    }
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) struct Head {
    /// Bytes of the body.
    pub(in crate::disk) len: u32,
    body_sum: u64,
}

impl Head {
    /// Reads a head. `None` if it is damaged.
    pub(in crate::disk) fn parse(bytes: &[u8; HEAD_LEN], number: u64) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (head_sum, body_sum) = rest.split_first_chunk()?;
        let head =
            Self { len: u32::from_le_bytes(*len), body_sum: u64::from_le_bytes(body_sum.try_into().ok()?) };
        (*head_sum == head.sum(number)).then_some(head)
    }

    /// Returns whether the body matches its checksum.
    pub(in crate::disk) fn fits(&self, body: &[u8], number: u64) -> bool {
        xxh3_64_with_seed(body, number) == self.body_sum
    }

    fn sum(self, number: u64) -> [u8; 4] {
        let mut header = [0; 12];
        header[..4].copy_from_slice(&self.len.to_le_bytes());
        header[4..].copy_from_slice(&self.body_sum.to_le_bytes());
        (xxh3_64_with_seed(&header, number) as u32).to_le_bytes()
    }
}

/// The hash that a record stores in place of a value.
pub(in crate::disk) fn hash(value: &[u8]) -> u64 {
    xxh3_64(value)
}

/// The hash of a row and its value, which a [`Tally`] sums.
pub(in crate::disk) fn hash_row(row: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64(row))
}

fn seal(bytes: &mut [u8], number: u64) {
    let (head, body) = bytes.split_at_mut(HEAD_LEN);
    let header = Head { len: body.len() as u32, body_sum: xxh3_64_with_seed(body, number) };
    head[..4].copy_from_slice(&header.len.to_le_bytes());
    head[4..8].copy_from_slice(&header.sum(number));
    head[8..].copy_from_slice(&header.body_sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: [Record<'_>; 7] = [
        Record::Row(b"row", Change::Removed),
        Record::Row(b"", Change::Removed),
        Record::Row(b"row", Change::Hash(7)),
        Record::Row(b"row", Change::Value(b"value")),
        Record::Row(b"row", Change::Value(b"")),
        Record::Cleared(9),
        Record::Tally(Tally { rows: 1, sum: 2 }),
    ];

    fn encoded(record: &Record<'_>, number: u64) -> Vec<u8> {
        let mut bytes = vec![9; 200];
        record.encode(number, &mut bytes);
        bytes
    }

    fn decode(bytes: &[u8], number: u64) -> Option<Record<'_>> {
        let (head, body) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let head = Head::parse(head, number)?;
        (head.len as usize == body.len() && head.fits(body, number)).then(|| Record::parse(body))?
    }

    #[test]
    fn records_read_back() {
        for record in RECORDS {
            assert_eq!(decode(&encoded(&record, 3), 3), Some(record));
            assert_eq!(decode(&encoded(&record, 3), 4), None, "of another journal");
        }
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        for record in RECORDS {
            let bytes = encoded(&record, 3);
            for at in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[at / 8] ^= 1 << (at % 8);
                assert_eq!(decode(&bytes, 3), None, "bit {at} of {record:?}");
            }
        }
    }

    #[test]
    fn unknown_bodies_are_rejected() {
        for body in [&[][..], &[0], &[0, 1, 0, 0, 0], &[0, 0, 0, 0, 0, 9], &[1, 0, 0, 0, 0, 1], &[3, 1], &[4]]
        {
            assert_eq!(Record::parse(body), None, "{body:?}");
        }
        assert_eq!(Record::parse(&[2, 255, 255, 255, 255, 1]), None);
    }
}
