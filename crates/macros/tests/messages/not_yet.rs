//! Options that are read, and refused rather than ignored.

use larder::mcache;

#[mcache(ttl = "1h")]
fn ttl(n: u8) -> u8 {
    n
}

#[mcache(ttl_fn = "by_value")]
fn ttl_fn(n: u8) -> u8 {
    n
}

#[mcache(tags = "[n]")]
fn tags(n: u8) -> u8 {
    n
}

#[mcache(batch)]
fn batch(ns: &[u8]) -> Vec<u8> {
    ns.to_vec()
}

fn main() {}
