//! Fuzzes names of caches: each name is one folder directly below the given one, and different
//! names have different folders, also on a file system that ignores case.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;

fn folder_of(base: &std::path::Path, name: &str) -> PathBuf {
    let cache = larder::fcache::<u8, u8>(name).dir(base).build().expect("any other name is safe");
    let folder = cache.dir().expect("it has a folder").to_path_buf();
    cache.close().expect("it closes");
    folder
}

fuzz_target!(|names: (String, String)| {
    // An empty name is refused.
    if names.0.is_empty() || names.1.is_empty() {
        return;
    }
    let base = tempfile::tempdir().expect("a temporary folder");
    let root = base.path().canonicalize().expect("it is there");
    let (one, two) = (folder_of(base.path(), &names.0), folder_of(base.path(), &names.1));
    for folder in [&one, &two] {
        assert_eq!(folder.parent(), Some(root.as_path()), "{names:?}");
    }
    let lower = |path: &PathBuf| path.to_string_lossy().to_lowercase();
    assert_eq!(names.0 == names.1, lower(&one) == lower(&two), "{names:?}");
});
