//! A value that borrows: it cannot be read back from a tier.

fn main() {
    let _cache = larder::fcache::<u64, &'static str>("borrowed");
}
