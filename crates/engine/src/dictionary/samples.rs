//! Samples of payloads, and the dictionary that is made of them.

use larder_core::compress::dictionary::Dictionary;

/// Samples of one dictionary, at most.
const COUNT_MAX: usize = 1024;
/// Their bytes, at most.
const BYTES_MAX: usize = 1 << 20;
/// A longer payload is no sample: it would take the place of sixteen small ones.
const SAMPLE_MAX: usize = 16 << 10;
/// Every nth sample is held back to compare dictionaries.
const HELD_BACK: usize = 4;

/// Copies of payloads.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    bytes: Vec<u8>,
    lens: Vec<usize>,
}

impl Samples {
    /// Takes a payload, unless there are enough.
    pub(super) fn push(&mut self, plain: &[u8]) {
        if plain.len() <= SAMPLE_MAX && !self.is_full() {
            self.bytes.extend_from_slice(plain);
            self.lens.push(plain.len());
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.lens.len() >= COUNT_MAX || self.bytes.len() >= BYTES_MAX
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.lens.iter().scan(0, |from, len| {
            let sample = self.bytes.get(*from..*from + len);
            *from += len;
            sample
        })
    }

    /// Trains a dictionary. `None` if it does not save a tenth of what the `present` one stores, or no
    /// dictionary.
    pub(super) fn train(&self, level: i32, present: Option<&Dictionary>) -> Option<Dictionary> {
        let (mut bytes, mut lens, mut held_back) = (Vec::new(), Vec::new(), Vec::new());
        for (number, sample) in self.each().enumerate() {
            if number % HELD_BACK == 0 {
                held_back.push(sample);
            } else {
                bytes.extend_from_slice(sample);
                lens.push(sample.len());
            }
        }
        let trained = Dictionary::train(&bytes, &lens, level).ok()?;
        let stored = |dictionary: Option<&Dictionary>| -> usize {
            let len = |sample: &&[u8]| match dictionary.and_then(|dictionary| dictionary.pack(sample)) {
                Some(stored) => stored.len(),
                None => sample.len(),
            };
            held_back.iter().map(len).sum()
        };
        (stored(Some(&trained)) * 10 <= stored(present) * 9).then_some(trained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(record: impl Fn(u64) -> Vec<u8>) -> Samples {
        let mut samples = Samples::default();
        (0..2000).for_each(|number| samples.push(&record(number)));
        samples
    }

    fn mixed(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    fn record(number: u64) -> Vec<u8> {
        format!("the name of the customer is {:x} and the town is Oslo", mixed(number)).into_bytes()
    }

    #[test]
    fn samples_are_bounded_in_number_and_bytes() {
        let small = samples(record);
        assert!(small.is_full());
        assert_eq!(small.each().count(), COUNT_MAX);
        let large = samples(|_| vec![7; SAMPLE_MAX]);
        assert!(large.is_full());
        assert_eq!(large.bytes.len(), BYTES_MAX);
        assert!(!samples(|_| vec![7; SAMPLE_MAX + 1]).is_full());
    }

    /// Needs zstd, which the tests of the workspace turn on.
    #[test]
    fn dictionary_that_saves_less_than_a_tenth_more_is_refused() {
        let records = samples(record);
        let Some(first) = records.train(3, None) else { return };
        assert!(records.train(3, Some(&first)).is_none());
        let noise =
            samples(|number| (0..30).flat_map(|part| mixed(number * 31 + part).to_le_bytes()).collect());
        assert!(noise.train(3, None).is_none());
    }
}
