//! The folder of a file tier, with arbitrary files in it.
#![no_main]

use std::path::{Component, Path};

use larder_core::key::EncodedKey;
use larder_core::tier::Tier;
use larder_tiers::Space;
use larder_tiers::file::{FileOptions, FileTier};
use libfuzzer_sys::fuzz_target;

/// Relative paths that stay below the folder.
fn is_below(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().count() > 0
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("a blocking tier is ready at the first poll"),
    }
}

fuzz_target!(|input: (Vec<(String, Vec<u8>)>, Vec<(u128, Vec<u8>)>, Vec<u8>)| {
    let (files, entries, key) = input;
    let base = tempfile::tempdir().expect("a temporary folder");
    let digest = |digest: u128| {
        let hex = format!("{digest:032x}");
        format!("entries/{}/{}/{}", &hex[..2], &hex[2..4], &hex[4..])
    };
    let key = EncodedKey::new(key);
    let named = entries.iter().map(|(number, bytes)| (digest(*number), bytes));
    let ours = entries.first().map(|(_, bytes)| (digest(key.digest()), bytes));
    let files = files.iter().map(|(path, bytes)| (path.clone(), bytes));
    for (path, bytes) in files.chain(named).chain(ours).filter(|(path, _)| is_below(Path::new(path))) {
        let path = base.path().join(path);
        if let Some(parent) = path.parent() {
            let _in_the_way = std::fs::create_dir_all(parent);
        }
        let _no_such_name = std::fs::write(path, bytes);
    }
    let space = Space::new(16 << 20);
    let Ok(tier) = FileTier::open(FileOptions { dir: base.path().into(), space: space.share() }) else {
        return;
    };
    let _refused_above = now(tier.get(&key));
    let _refused = now(tier.scan(&mut |head| assert!(larder_core::frame::Head::parse(head).is_ok())));
    now(tier.remove(&key)).expect("it can be removed");
    assert_eq!(now(tier.get(&key)).expect("it can be read"), None);
    now(tier.clear()).expect("it can be cleared");
    now(tier.close()).expect("it can be closed");
});
