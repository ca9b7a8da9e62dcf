//! References that live for ever, and cannot be read back from a tier.

use larder::{bcache, fcache, ucache};

#[bcache]
fn name(id: u64) -> &'static str {
    if id == 0 { "none" } else { "some" }
}

#[fcache]
fn lines(id: u64) -> Result<Vec<&'static str>, &'static str> {
    if id == 0 { Err("none") } else { Ok(vec![]) }
}

#[ucache]
fn items(id: u64) -> impl Iterator<Item = &'static [u8]> {
    std::iter::repeat_n(&b"item"[..], id as usize)
}

#[ucache]
fn owned(name: &'static str) -> Result<String, &'static str> {
    Ok(name.to_owned())
}

fn main() {}
