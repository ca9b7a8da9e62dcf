//! Results on disk and in files, results that are iterators.

use std::time::Instant;

use larder::{bcache, fcache};

use crate::folder;

const TEXT: &str = "a larder is a cool room for food that is to be kept for a while";

/// Stored on disk, and computed again when its body changes.
#[bcache(dir = folder(), version = "auto", skip_none)]
fn longest(text: &str) -> Option<String> {
    println!("  looking for the longest word");
    text.split(' ').max_by_key(|word| word.len()).map(str::to_owned)
}

/// Stored in its own file; yields word by word, and is stored at the end.
#[fcache(dir = folder(), record_bytes = "1 MiB")]
fn words(text: &str) -> impl Iterator<Item = String> {
    println!("  splitting");
    text.split(' ').map(str::to_owned)
}

pub(crate) fn show() -> larder::Result<()> {
    for _ in 0..2 {
        let start = Instant::now();
        let (longest, count) = (longest(TEXT), words(TEXT).count());
        println!("{count} words, the longest is {longest:?}, in {:?}", start.elapsed());
    }
    println!("stopped after {:?}: nothing new is stored\n", words("one two three").next());
    assert!(!words::contains("one two three"));
    longest::flush()?;
    words::flush()
}
