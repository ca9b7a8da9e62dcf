//! Options that are not there, or not so.

use larder::{fcache, mcache};

#[mcache(capactiy = 10)]
fn misspelt(n: u8) -> u8 {
    n
}

#[mcache(size = 10, time = 60, banana)]
fn of_another_crate(n: u8) -> u8 {
    n
}

#[mcache(policy = "lur")]
fn policy(n: u8) -> u8 {
    n
}

#[mcache(capacity = 10, capacity = 20)]
fn twice(n: u8) -> u8 {
    n
}

#[mcache(capacity)]
fn no_value(n: u8) -> u8 {
    n
}

#[mcache(dir = "/tmp")]
fn in_memory(n: u8) -> u8 {
    n
}

#[mcache(skip_none = true)]
fn flag(n: u8) -> Option<u8> {
    Some(n)
}

#[fcache(disk_bytes = "1.5 GiB")]
fn unit(n: u8) -> u8 {
    n
}

#[fcache(disk_bytes = "1 MiB")]
fn too_small(n: u8) -> u8 {
    n
}

#[fcache(version = "two")]
fn version(n: u8) -> u8 {
    n
}

#[mcache(ttl = "one hour")]
fn no_time(n: u8) -> u8 {
    n
}

#[mcache(ttl = "0s")]
fn no_time_at_all(n: u8) -> u8 {
    n
}

#[mcache(ttl = 60)]
fn seconds(n: u8) -> u8 {
    n
}

fn main() {}

#[mcache(stale = "10m")]
fn stale(n: u64) -> u64 {
    n
}

#[fcache(redis = "redis://127.0.0.1")]
fn elsewhere(n: u64) -> u64 {
    n
}
