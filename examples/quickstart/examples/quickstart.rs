//! The study as an example: `cargo run --release --example quickstart`.

fn main() -> larder::Result<()> {
    quickstart::run()
}
