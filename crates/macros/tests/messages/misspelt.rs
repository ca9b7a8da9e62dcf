#[larder::mcache(tags = [format!("user:{id}")])]
fn misspelt(user_id: u64) -> u64 {
    user_id
}

fn main() {}
