//! Results that cannot be stored.

use larder::mcache;

#[mcache]
fn lent(text: &str) -> &str {
    text
}

#[mcache]
fn nested(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[mcache]
fn hidden(n: u8) -> impl std::fmt::Debug {
    n
}

#[mcache]
fn later(n: u8) -> impl Future<Output = u8> {
    async move { n }
}

#[mcache(share_err = "Into::into")]
fn never_fails(n: u8) -> u8 {
    n
}

#[mcache(record_bytes = 1000)]
fn no_iterator(n: u8) -> u8 {
    n
}

#[mcache]
fn perhaps(n: u8) -> Result<impl Iterator<Item = u8>, String> {
    Ok(0..n)
}

#[mcache(exclude = "u8::is_zero")]
fn iterator(n: u8) -> impl Iterator<Item = u8> {
    0..n
}

#[mcache]
async fn items(n: u8) -> impl Iterator<Item = u8> {
    0..n
}

fn main() {}
