//! Computations on text. Does not use the cache.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::progress::Progress;

/// Words, and how often each occurs.
pub(crate) type Words = BTreeMap<String, u32>;

/// Measures of a file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Measures {
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    pub(crate) words: u64,
    /// A digest of the content.
    pub(crate) digest: u128,
    /// Bytes of the longest passage that occurs more than once.
    pub(crate) repeat: u64,
}

impl Measures {
    /// Measures one file.
    pub(crate) fn of(text: &[u8]) -> Self {
        Self {
            bytes: text.len() as u64,
            lines: text.iter().filter(|byte| **byte == b'\n').count() as u64,
            words: each_word(&String::from_utf8_lossy(text)).count() as u64,
            digest: xxh3_128(text),
            repeat: longest_repeat(text) as u64,
        }
    }
}

/// The words of one file.
pub(crate) fn words(text: &[u8]) -> Words {
    let mut words = Words::new();
    for word in each_word(&String::from_utf8_lossy(text)) {
        match words.get_mut(word) {
            Some(count) => *count += 1,
            None => _ = words.insert(word.to_owned(), 1),
        }
    }
    words
}

fn each_word(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The words of all `parts`.
pub(crate) fn merge(parts: &[Arc<Words>]) -> Words {
    let mut merged = Words::new();
    for (word, count) in parts.iter().flat_map(|part| part.iter()) {
        match merged.get_mut(word) {
            Some(sum) => *sum += count,
            None => _ = merged.insert(word.clone(), *count),
        }
    }
    merged
}

/// Appends `text` with each run of white space as one space.
pub(crate) fn append_plain(all: &mut Vec<u8>, text: &[u8]) {
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        all.extend_from_slice(word);
        all.push(b' ');
    }
}

/// The length of the longest passage that occurs more than once.
///
/// Found by bisection: if a passage of some length repeats, so does a shorter one.
fn longest_repeat(text: &[u8]) -> usize {
    let (mut repeats, mut too_long) = (0, text.len());
    while repeats + 1 < too_long {
        let len = usize::midpoint(repeats, too_long);
        if some_passage_repeats(text, len) {
            repeats = len;
        } else {
            too_long = len;
        }
    }
    repeats
}

/// Compares the passages of `len` by a hash of 64 bits that rolls over the text.
fn some_passage_repeats(text: &[u8], len: usize) -> bool {
    const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
    let roll = |hash: u64, byte: u8| hash.wrapping_mul(BASE).wrapping_add(u64::from(byte) + 1);
    let weight_of_first = (0..len).fold(1, |weight: u64, _| weight.wrapping_mul(BASE));
    let mut hash = text[..len].iter().fold(0, |hash, byte| roll(hash, *byte));
    let mut seen = HashSet::from([hash]);
    text[len..].iter().zip(text).any(|(next, first)| {
        hash = roll(hash, *next).wrapping_sub(weight_of_first.wrapping_mul(u64::from(*first) + 1));
        !seen.insert(hash)
    })
}

/// Phrases of the index are compared up to this length.
const PHRASE: usize = 16;

/// Every position of `text`, in the order of the phrases that begin there.
///
/// Sorts by the first two bytes, which is fast, then sorts each of those buckets.
pub(crate) fn phrase_index(text: &[u8]) -> Vec<u32> {
    let progress = Progress::new("bytes sorted", text.len());
    let (mut index, buckets) = by_two_bytes(text);
    let mut rest = index.as_mut_slice();
    let parts: Vec<_> = buckets.iter().filter_map(|len| rest.split_off_mut(..*len)).collect();
    parts.into_par_iter().for_each(|part| {
        part.sort_by_cached_key(|at| phrase_at(text, *at));
        progress.advance(part.len());
    });
    index
}

/// Every position, sorted by the two bytes there, and the number of positions for each pair.
fn by_two_bytes(text: &[u8]) -> (Vec<u32>, Vec<usize>) {
    let pair_at =
        |at: usize| usize::from(text[at]) << 8 | text.get(at + 1).map_or(0, |next| usize::from(*next));
    let mut buckets = vec![0; 1 << 16];
    (0..text.len()).for_each(|at| buckets[pair_at(at)] += 1);
    let mut free: Vec<usize> =
        buckets.iter().scan(0, |end, len| Some(std::mem::replace(end, *end + len))).collect();
    let mut index = vec![0; text.len()];
    for at in 0..text.len() {
        let slot = &mut free[pair_at(at)];
        // Sources are limited to 256 MiB.
        index[*slot] = at as u32;
        *slot += 1;
    }
    (index, buckets)
}

/// The phrase at a position, padded with zeros at the end of the text.
fn phrase_at(text: &[u8], at: u32) -> u128 {
    let rest = &text[at as usize..];
    let mut phrase = [0; PHRASE];
    let len = rest.len().min(PHRASE);
    phrase[..len].copy_from_slice(&rest[..len]);
    u128::from_be_bytes(phrase)
}

/// How often `phrase` occurs in the text of `index`: two binary searches.
pub(crate) fn occurrences(text: &[u8], index: &[u32], phrase: &str) -> usize {
    let phrase = &phrase.as_bytes()[..phrase.len().min(PHRASE)];
    let begin_of = |at: &u32| {
        let rest = &text[*at as usize..];
        &rest[..rest.len().min(phrase.len())]
    };
    let from = index.partition_point(|at| begin_of(at) < phrase);
    let to = index.partition_point(|at| begin_of(at) <= phrase);
    to - from
}
