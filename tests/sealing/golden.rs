//! Sealed frames of this build and of earlier ones can be opened.
//!
//! With `LARDER_WRITE_GOLDEN=1` a missing frame is written. Existing files are never overwritten.

use std::fs;
use std::path::PathBuf;

use larder_core::frame::{Frame, Head};
use larder_core::key::EncodedKey;
use larder_testkit::sample;

use super::{Sealed, key, keys};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.frame"))
}

fn check(name: &str, frame: &Frame, of: &EncodedKey) {
    // The second key wrote, and the first one names.
    let sealed = Sealed::of(&keys(1).rotate(key(2)), "golden", "disk");
    if std::env::var_os("LARDER_WRITE_GOLDEN").is_some() && !path(name).exists() {
        sealed.put(of, frame);
        fs::write(path(name), &sealed.stored().pop().unwrap().1).unwrap();
    }
    let golden = fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let outer = Head::parse(&golden).unwrap();
    sealed.plant(&EncodedKey::new(outer.key), &golden);
    assert_eq!(sealed.served(of).as_deref(), Some(&*frame.to_vec()), "{name}");
    assert_eq!(outer.frame_len(), golden.len() as u64);
}

#[test]
fn sealed_frames_can_be_opened() {
    for (name, len) in [("sealed", 100), ("sealed-segments", 66_000)] {
        let key = sample::key(1);
        check(name, &sample::frame(&key, sample::payload(1, len)), &key);
    }
}

/// The name and the identifier are what `docs/format.md` says, computed by another implementation of BLAKE2b.
#[test]
fn names_and_identifiers_are_those_of_the_format() {
    assert_eq!(key(1).id().to_string(), "6887208fa8a4b120");
    let sealed = Sealed::of(&keys(1), "golden", "disk");
    let key = EncodedKey::new(*b"\xa5alice");
    sealed.put(&key, &sample::frame(&key, sample::payload(1, 10)));
    let name: String = sealed.stored()[0].0.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(name, "c1c24790adf829b8b14f63cd31da2417abd62501fb713631cef13c7948a0ca4266");
}
