//! Functions that cannot be cached.

use larder::mcache;

#[mcache]
fn generic<T: Clone>(of: T) -> T {
    of
}

#[mcache]
fn sized<const N: usize>(of: [u8; N]) -> usize {
    of.len()
}

#[mcache]
const fn constant(n: u8) -> u8 {
    n
}

#[mcache]
unsafe fn careless(n: u8) -> u8 {
    n
}

#[mcache]
struct NoFunction;

fn main() {}
