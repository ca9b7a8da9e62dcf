//! A context owns the caches that are built inside and removes their data at its end: `cargo run --package
//! contexts`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use larder::{CacheContext, Error, ErrorKind, Persistence, with_context};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let nightly = || CacheContext::new("nightly").dir(dir.path()).temporary().disk_bytes(64 << 20);

    let kept = with_context(nightly(), |cx| -> larder::Result<_> {
        let features =
            cx.ucache::<String, Vec<f64>>("features").persistence(Persistence::LongTerm).build()?;
        for day in 0..30 {
            features.insert(format!("day {day}"), vec![f64::from(day); 5_000]);
        }
        println!("inside: {} entries, {} files", features.len(), files(dir.path()));
        assert_eq!(features.len(), 30);
        Ok(features)
    })?;
    println!("after a return: {} files", files(dir.path()));
    assert_eq!(files(dir.path()), 1, "the lock that all temporary contexts share");

    let value = kept.get_with("day 3".to_owned(), || vec![3.0]);
    println!("the handle that was kept loads, and stores nothing: {value:?}, {:?}", kept.get("day 3"));
    assert_eq!((value, kept.get("day 3")), (vec![3.0], None));

    let failed = with_context(nightly(), |cx| -> larder::Result<()> {
        cx.ucache::<u32, String>("half done")
            .persistence(Persistence::LongTerm)
            .build()?
            .insert(1, "x".repeat(9_000));
        Err(Error::new(ErrorKind::Unsupported, "the night was too short"))
    });
    assert!(failed.is_err());
    println!("after an error: {} files", files(dir.path()));
    assert_eq!(files(dir.path()), 1);

    let outer = nightly();
    let inner = outer.inner("of one customer");
    let numbers = inner.mcache::<u32, u32>("numbers").build()?;
    numbers.insert(1, 1);
    outer.close()?;
    println!("the inner context ended with the outer one: {:?}", numbers.get(&1));
    assert_eq!(numbers.get(&1), None);
    Ok(())
}

fn files(dir: &Path) -> usize {
    walkdir::WalkDir::new(dir).into_iter().flatten().filter(|entry| entry.file_type().is_file()).count()
}
