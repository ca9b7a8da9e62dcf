//! An error that cannot be shared.

#[larder::mcache]
fn read(path: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

fn main() {}
