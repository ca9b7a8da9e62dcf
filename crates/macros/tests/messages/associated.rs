//! A function in an `impl` block that looks like a free one.

struct Client;

impl Client {
    #[larder::mcache]
    fn report(id: u64) -> u64 {
        id
    }
}

fn main() {}
