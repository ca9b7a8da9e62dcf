//! A float that is not written as one.

type Metres = f64;

#[larder::mcache]
fn height(of: Metres) -> u64 {
    of as u64
}

fn main() {}
