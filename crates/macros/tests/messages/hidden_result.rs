//! A `Result` by another name.

type Answer = Result<u8, String>;

#[larder::mcache]
fn answer(n: u8) -> Answer {
    Ok(n)
}

fn main() {
    let _ = answer(1);
}
