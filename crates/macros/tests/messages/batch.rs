use larder::mcache;

fn main() {}

#[mcache(batch)]
fn no_slice(id: u64) -> Vec<u64> {
    vec![id]
}

#[mcache(batch)]
fn two_slices(ids: &[u64], names: &[String]) -> Vec<u64> {
    let _ = names;
    ids.to_vec()
}

#[mcache(batch = id)]
fn misspelt(ids: &[u64]) -> Vec<u64> {
    ids.to_vec()
}

#[mcache(batch = id)]
fn one_key(id: u64, more: &[u64]) -> Vec<u64> {
    vec![id, more.len() as u64]
}

#[mcache(batch = ids, skip(ids))]
fn skipped(ids: &[u64]) -> Vec<u64> {
    ids.to_vec()
}

#[mcache(batch(ids))]
fn in_parentheses(ids: &[u64]) -> Vec<u64> {
    ids.to_vec()
}

#[mcache(batch, key = "lang.to_owned()")]
fn one_for_all(lang: &str, ids: &[u64]) -> Vec<u64> {
    let _ = lang;
    ids.to_vec()
}

#[mcache(batch)]
fn lazy(ids: &[u64]) -> impl Iterator<Item = u64> {
    0..ids.len() as u64
}

#[mcache(batch, skip(log))]
async fn exclusive(log: &mut Vec<u64>, ids: &[u64]) -> Vec<u64> {
    log.extend(ids);
    ids.to_vec()
}

#[mcache(batch)]
fn sum(ids: &[u64]) -> Result<u64, String> {
    Ok(ids.iter().sum())
}

struct Users;

impl Users {
    #[mcache(batch, skip(self))]
    fn consumed(self, ids: &[u64]) -> Vec<u64> {
        ids.to_vec()
    }
}
