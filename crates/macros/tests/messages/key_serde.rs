//! A key that cannot be encoded.

#[derive(Clone, PartialEq, Eq, Hash)]
struct Id(u64);

#[larder::fcache]
fn report(id: Id) -> u64 {
    id.0
}

fn main() {}
