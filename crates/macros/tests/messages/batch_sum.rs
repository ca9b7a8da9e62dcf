#[larder::mcache(batch)]
fn sum(ids: &[u64]) -> u64 {
    ids.iter().sum()
}

fn main() {}
