//! Reads every byte of directories and of Redis, and finds nothing of keys, values and tags.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use larder::{Bytes, EntryOptions, Keys, SealingKey, ucache};
use larder_core::key::{KeyCodec, NamedKeys};
use larder_testkit::RedisServer;

use super::keys;

/// Texts that are in keys, values, tags and validators, and nowhere else.
const SECRETS: [&str; 5] =
    ["KeyMarmalade", "ValuePersimmon", "TagRhubarb", "ValidatorQuince", "LongkeyMedlar"];

/// What must not be found: the texts, their digests, and the names that an unsealed cache would use.
fn needles() -> Vec<Vec<u8>> {
    let mut needles: Vec<Vec<u8>> = SECRETS.iter().map(|secret| secret.as_bytes().to_vec()).collect();
    needles.extend(SECRETS.iter().map(|secret| hex(secret.as_bytes()).into_bytes()));
    let marks = SECRETS.iter().map(|secret| secret.bytes().map(|byte| byte ^ 0x20).collect());
    assert!(needles.iter().all(|needle| needle.len() >= 10));
    for number in 0..COUNT {
        for key in [key(number), long_key(number)] {
            let digest = NamedKeys.encode(&key).unwrap().digest();
            needles.push(digest.to_be_bytes().to_vec());
            needles.push(digest.to_le_bytes().to_vec());
            needles.push(format!("{digest:032x}").into_bytes());
            needles.push(format!("{digest:032x}").as_bytes()[4..].to_vec());
        }
    }
    needles.extend(marks.collect::<Vec<Vec<u8>>>());
    needles
}

const COUNT: u64 = 9;

fn key(number: u64) -> String {
    format!("{} {number}", SECRETS[0])
}

fn long_key(number: u64) -> String {
    format!("{} {number} {}", SECRETS[4], "x".repeat(300))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the first of `needles` that is in `hay`.
fn found(hay: &[u8], needles: &[Vec<u8>]) -> Option<Vec<u8>> {
    let begins = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let mut is_begin = vec![false; 1 << 16];
    needles.iter().for_each(|needle| is_begin[begins(needle)] = true);
    let may_begin = (1..hay.len()).filter(|at| is_begin[begins(&hay[at - 1..])]);
    may_begin
        .map(|at| &hay[at - 1..])
        .find_map(|rest| needles.iter().find(|needle| rest.starts_with(needle)).cloned())
}

/// Searches every file below `dir`, and its name; returns the number of bytes.
fn search(dir: &Path, needles: &[Vec<u8>]) -> usize {
    let mut searched = 0;
    for entry in walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap) {
        let name = entry.path().to_string_lossy().into_owned();
        assert_eq!(found(name.as_bytes(), needles), None, "{name}");
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            searched += bytes.len();
            let found = found(&bytes, needles);
            assert_eq!(found.map(|found| String::from_utf8_lossy(&found).into_owned()), None, "{name}");
        }
    }
    searched
}

/// A value that does not shrink, so that the text in it is stored as it is.
fn value(len: usize) -> Bytes {
    let mut state = 7_u64;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| noise()).collect();
    bytes[..SECRETS[1].len()].copy_from_slice(SECRETS[1].as_bytes());
    bytes.into()
}

fn fill(cache: &larder::Cache<String, Bytes>) {
    for number in 0..COUNT {
        for key in [key(number), long_key(number)] {
            let options = EntryOptions::new()
                .tag(format!("{} {number}", SECRETS[2]))
                .validator(SECRETS[3].as_bytes().to_vec())
                .ttl(Duration::from_secs(3600));
            let len = [100, 20_000, 2 << 20][number as usize % 3];
            cache.insert_with(key, value(len), options);
        }
        cache.get(&key(number));
    }
    cache.invalidate_tag(format!("{} 1", SECRETS[2])).unwrap();
    cache.insert_from(key(COUNT), &value(5 << 20)[..]).unwrap();
}

/// Reads the entries up to this length.
fn check(cache: &larder::Cache<String, Bytes>, len_max: usize) {
    for number in 0..COUNT {
        let len = [100, 20_000, 2 << 20][number as usize % 3];
        if len > len_max {
            continue;
        }
        let expected = (number != 1).then(|| value(len));
        assert!(cache.get(&key(number)) == expected, "{number}");
        assert!(cache.get(&long_key(number)) == expected, "long {number}");
    }
    assert!(len_max < 5 << 20 || cache.get(&key(COUNT)).unwrap() == value(5 << 20));
}

/// The search itself finds what an unsealed cache writes.
#[test]
fn nothing_of_a_sealed_cache_is_found_in_its_directory() {
    for given in [None, Some(keys(1))] {
        let dir = tempfile::tempdir().unwrap();
        let build = || {
            let builder = ucache::<String, Bytes>("fruit").dir(dir.path()).warm_restart(1000);
            let builder = builder.persistence(larder::Persistence::LongTerm);
            match given.clone() {
                Some(keys) => builder.encrypt(keys),
                None => builder,
            }
            .build()
            .unwrap()
        };
        let cache = build();
        fill(&cache);
        cache.snapshot().unwrap();
        cache.flush().unwrap();
        let looks = |when: &str| {
            let searched = std::panic::catch_unwind(|| search(dir.path(), &needles()));
            assert_eq!(searched.is_ok(), given.is_some(), "{when}");
            assert!(searched.is_ok_and(|bytes| bytes > 12 << 20) || given.is_none(), "{when}");
        };
        looks("while it is open");
        cache.close().unwrap();
        looks("closed");
        let cache = build();
        check(&cache, usize::MAX);
        cache.close().unwrap();
    }
}

#[test]
fn nothing_of_a_sealed_cache_is_found_on_the_server() {
    let Some(server) = RedisServer::start() else { return };
    for given in [None, Some(Keys::new(SealingKey::generate().unwrap()))] {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [cache, other] = dirs.each_ref().map(|dir| {
            let builder = ucache::<String, Bytes>("fruit").dir(dir.path()).redis(server.url());
            let builder = builder.namespace(if given.is_some() { "sealed" } else { "plain" });
            match given.clone() {
                Some(keys) => builder.encrypt(keys),
                None => builder,
            }
            .build()
            .unwrap()
        });
        fill(&cache);
        check(&other, 20_000);
        cache.get_with(key(99), || value(300));
        cache.remove(&key(3));
        let namespace = if given.is_some() { "sealed:*" } else { "plain:*" };
        let mut dumped = Vec::new();
        let mut connection = Connection::to(&server);
        let names = connection.ask(&[b"KEYS", namespace.as_bytes()]);
        assert!(names.len() > 12, "{}", names.len());
        for name in names {
            dumped.extend_from_slice(&name);
            dumped.extend(connection.ask(&[b"DUMP", &name]).concat());
        }
        let found = found(&dumped, &needles());
        let found = found.map(|found| String::from_utf8_lossy(&found).into_owned());
        assert_eq!(found.is_none(), given.is_some(), "{found:?}");
        for dir in &dirs {
            if given.is_some() {
                search(dir.path(), &needles());
            }
        }
        cache.close().unwrap();
        other.close().unwrap();
    }
}

/// A connection that asks for raw bytes.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn to(server: &RedisServer) -> Self {
        Self(BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).unwrap()))
    }

    /// Sends a command; returns the strings of the reply.
    fn ask(&mut self, command: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for part in command {
            request.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            request.extend_from_slice(part);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        match line.split_at(1) {
            ("*", count) => (0..count.trim().parse().unwrap()).map(|_| self.string()).collect(),
            ("$", len) => vec![self.content(len)],
            other => panic!("{other:?}"),
        }
    }

    fn string(&mut self) -> Vec<u8> {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        self.content(line.strip_prefix('$').unwrap())
    }

    fn content(&mut self, len: &str) -> Vec<u8> {
        let Ok(len) = len.trim().parse::<usize>() else { return Vec::new() };
        let mut content = vec![0; len + 2];
        self.0.read_exact(&mut content).unwrap();
        content.truncate(len);
        content
    }
}
