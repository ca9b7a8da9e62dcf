//! A sealed cache over S3: nothing of its keys, values and tags is in the objects, in their names, or in the
//! directory of the cache.

use std::path::{Path, PathBuf};

use larder::{Bytes, Cache, EntryOptions, Keys, Persistence, Position, SealingKey, TierKind, ucache};
use larder_core::key::{KeyCodec, NamedKeys};

use super::server::Server;

/// Texts that are in keys, values, tags and validators, and nowhere else.
const SECRETS: [&str; 4] = ["KeyMarmalade", "ValuePersimmon", "TagRhubarb", "ValidatorQuince"];
const LENS: [usize; 3] = [100, 20_000, 400_000];
const COUNT: usize = 9;

fn key(number: usize) -> String {
    format!("{} {number}", SECRETS[0])
}

/// A value that does not shrink, so that the text in it would be stored as it is.
fn value(len: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(len as u64);
    let mut bytes: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
    bytes[..SECRETS[1].len()].copy_from_slice(SECRETS[1].as_bytes());
    bytes.into()
}

/// What must not be found: the texts, their digits, and the names that an unsealed cache uses.
fn needles() -> Vec<Vec<u8>> {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut needles: Vec<Vec<u8>> = SECRETS.iter().map(|secret| secret.as_bytes().to_vec()).collect();
    needles.extend(SECRETS.iter().map(|secret| digits(secret.as_bytes()).into_bytes()));
    for number in 0..COUNT {
        let digest = NamedKeys.encode(&key(number)).unwrap().digest();
        needles.extend([digest.to_be_bytes().to_vec(), digest.to_le_bytes().to_vec()]);
        // The last digits, which no folder of a name cuts off.
        needles.push(format!("{digest:032x}").into_bytes().split_off(4));
    }
    needles
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Searches each file below `dir` and its name. Returns the number of bytes, and of files with a needle.
fn search(dir: &Path) -> (usize, usize) {
    let (needles, mut searched, mut found) = (needles(), 0, 0);
    for file in files(dir) {
        let bytes = [file.to_string_lossy().as_bytes(), &std::fs::read(&file).unwrap()].concat();
        searched += bytes.len();
        let has = |needle: &Vec<u8>| {
            let first = needle[0];
            let mut begins = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
            begins.any(|(at, _)| bytes[at..].starts_with(needle))
        };
        found += usize::from(needles.iter().any(has));
    }
    (searched, found)
}

fn built(server: &Server, dir: &Path, keys: Option<Keys>) -> Cache<String, Bytes> {
    let tier = server.tier(if keys.is_some() { "sealed" } else { "plain" });
    let builder = ucache("fruit").dir(dir).tier(Position::First, tier).persistence(Persistence::LongTerm);
    let builder = builder.memory_bytes(0);
    match keys {
        Some(keys) => builder.encrypt(keys),
        None => builder,
    }
    .build()
    .unwrap()
}

/// The search itself finds what an unsealed cache writes.
#[test]
fn nothing_of_a_sealed_cache_is_found_in_its_objects() {
    for keys in [None, Some(Keys::new(SealingKey::generate().unwrap()))] {
        let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
        let cache = built(&server, dir.path(), keys.clone());
        let home = TierKind::own("s3").unwrap();
        for number in 0..COUNT {
            let options = EntryOptions::new()
                .tag(format!("{} {number}", SECRETS[2]))
                .validator(SECRETS[3].as_bytes().to_vec())
                .home(home);
            let placed = cache.try_insert_with(key(number), value(LENS[number % 3]), options).unwrap();
            assert_eq!(placed.home, home, "{placed}");
        }
        cache.remove(&key(3));
        cache.invalidate_tag(format!("{} 1", SECRETS[2])).unwrap();
        cache.flush().unwrap();
        let (searched, found) = search(server.folder());
        assert!(searched > 1 << 20, "{searched} bytes");
        let (_, found_in_dir) = search(dir.path());
        let are_found = (found > 0, found_in_dir > 0);
        assert_eq!(are_found, (keys.is_none(), keys.is_none()), "{found} objects, {found_in_dir} files");
        cache.close().unwrap();
        let again = built(&server, dir.path(), keys);
        for number in 0..COUNT {
            let expected = (number != 1 && number != 3).then(|| value(LENS[number % 3]));
            assert!(again.get(&key(number)) == expected, "{number}");
        }
        again.close().unwrap();
    }
}
