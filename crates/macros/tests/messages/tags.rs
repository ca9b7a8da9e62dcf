use larder::mcache;

fn main() {}

#[mcache(tags = "users")]
fn text(id: u64) -> u64 {
    id
}

#[mcache(tags = [id])]
fn number(id: u64) -> u64 {
    id
}

fn tags_of(_: &str) -> Vec<String> {
    Vec::new()
}

#[mcache(tags = tags_of)]
fn of_another_type(id: u64) -> u64 {
    id
}

#[mcache(tags = |items| [items.len().to_string()])]
fn lazy(id: u64) -> impl Iterator<Item = u64> {
    0..id
}

#[mcache(tags)]
fn nothing(id: u64) -> u64 {
    id
}
