//! Options that are read, and refused rather than ignored.

use larder::mcache;

#[mcache(tags = "[n]")]
fn tags(n: u8) -> u8 {
    n
}

#[mcache(batch)]
fn batch(ns: &[u8]) -> Vec<u8> {
    ns.to_vec()
}

fn main() {}
