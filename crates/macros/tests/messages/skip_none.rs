//! `skip_none` where nothing can be `None`.

#[larder::mcache(skip_none)]
fn report(id: u64) -> u64 {
    id
}

fn main() {}
