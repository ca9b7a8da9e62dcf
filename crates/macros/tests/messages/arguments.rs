//! Arguments that cannot be part of a key.

use larder::mcache;

#[mcache]
fn displayed(of: impl std::fmt::Display) -> String {
    of.to_string()
}

#[mcache]
fn exclusive(log: &mut Vec<u8>, n: u8) -> u8 {
    log.push(n);
    n
}

#[mcache]
fn dynamic(source: &dyn Fn() -> u8) -> u8 {
    source()
}

#[mcache]
fn borrowing(words: std::str::Split<'_, char>) -> usize {
    words.count()
}

#[mcache(skip(nmae))]
fn misspelt(name: &str) -> usize {
    name.len()
}

#[mcache(skip(name), key = "name.len()")]
fn both(name: &str) -> usize {
    name.len()
}

#[mcache(key = "7")]
fn constant(name: &str) -> usize {
    name.len()
}

struct Client;

impl Client {
    #[mcache]
    fn report(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
