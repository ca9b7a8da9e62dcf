//! `skip_none` where nothing can be `None`.

#[larder::mcache(skip_none)]
fn report(id: u64) -> u64 {
    id
}

#[larder::mcache(skip_none)]
fn fallible(id: u64) -> Result<String, String> {
    Ok(id.to_string())
}

#[larder::mcache(skip_none)]
fn nothing(_id: u64) {}

#[larder::mcache(batch, skip_none)]
fn many(ids: &[u64]) -> Vec<u64> {
    ids.to_vec()
}

fn main() {}
