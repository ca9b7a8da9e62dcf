//! A value that cannot be handed out twice.

struct Report;

#[larder::mcache]
fn report(id: u64) -> Report {
    Report
}

fn main() {}
