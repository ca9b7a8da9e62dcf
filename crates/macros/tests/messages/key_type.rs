//! An argument that is no key.

struct Client;

#[larder::mcache]
fn report(client: &Client, id: u64) -> u64 {
    id
}

fn main() {}
