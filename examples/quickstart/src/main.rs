//! The study as a binary: `cargo run --release --package quickstart`.

fn main() -> larder::Result<()> {
    quickstart::run()
}
