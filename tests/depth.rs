//! Deeply nested values are refused with an error, on any thread.
//!
//! The fault: a process ended with a stack overflow when it read a value. The cause: a recursive
//! type with 100,000 levels was accepted by the write.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use larder::{Bytes, Cache, Codec, ErrorKind, TierKind, bcache, fcache};
use larder_core::codec::shape;
use larder_core::frame::{CodecId, Frame, Head, Header};
use larder_core::key::EncodedKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Node {
    name: String,
    weight: Option<f64>,
    next: Option<Box<Node>>,
}

impl Drop for Node {
    /// Iterative: the default drop would recurse as well.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Tree {
    Leaf(u8),
    Inner(Vec<Tree>),
}

fn list(len: usize) -> Node {
    let mut list = Node::default();
    for _ in 1..len {
        list = Node { name: "node".to_owned(), weight: Some(1.5), next: Some(Box::new(list)) };
    }
    list
}

fn tree(depth: usize) -> Tree {
    (0..depth).fold(Tree::Leaf(1), |inner, _| Tree::Inner(vec![inner]))
}

/// Runs `work` on a thread with the default stack size of threads.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

fn open<V>(dir: &Path, name: &str, codec: Codec) -> Cache<u64, V>
where
    V: Clone + Send + Sync + Serialize + serde::de::DeserializeOwned + 'static,
{
    bcache(name).dir(dir).memory_bytes(0).codec(codec).build().unwrap()
}

const CODECS: &[(&str, Codec)] = &[
    ("bincode", Codec::Auto),
    ("names", Codec::MessagePack),
    #[cfg(feature = "json")]
    ("json", Codec::Json),
];

#[test]
fn value_nested_too_deep_to_be_read_is_refused_by_every_codec() {
    on_a_small_stack(|| {
        let dir = tempfile::tempdir().unwrap();
        for (name, codec) in CODECS {
            let lists = open::<Node>(dir.path(), &format!("{name}-lists"), *codec);
            for len in [130, 1_000, 100_000] {
                let error = lists.try_insert(1, list(len)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Codec, "{name}, {len}: {error}");
            }
            lists.try_insert(1, list(60)).unwrap();
            assert_eq!(lists.get(&1), Some(list(60)), "{name}");
            let trees = open::<Tree>(dir.path(), &format!("{name}-trees"), *codec);
            trees.try_insert(1, tree(200)).unwrap_err();
            trees.try_insert(1, tree(60)).unwrap();
            assert_eq!(trees.get(&1), Some(tree(60)), "{name}");
        }
    });
}

#[test]
fn value_of_the_greatest_depth_fits_in_a_small_stack() {
    on_a_small_stack(|| {
        let dir = tempfile::tempdir().unwrap();
        for (name, codec) in &CODECS[..2] {
            let lists = open::<Node>(dir.path(), &format!("{name}-lists"), *codec);
            lists.try_insert(1, list(128)).unwrap();
            assert_eq!(lists.get(&1), Some(list(128)), "{name}");
            let trees = open::<Tree>(dir.path(), &format!("{name}-trees"), *codec);
            trees.try_insert(1, tree(127)).unwrap();
            assert_eq!(trees.get(&1), Some(tree(127)), "{name}");
        }
    });
}

/// The only file of an entry below `dir`.
fn entry_file(dir: &Path) -> PathBuf {
    let mut dirs = vec![dir.join("deep/files/entries")];
    while let Some(dir) = dirs.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => dirs.push(path),
                false => return path,
            }
        }
    }
    panic!("there is an entry");
}

/// Stores `value`, replaces its payload by `payload`, and asserts that this is a counted miss.
#[track_caller]
fn is_a_miss<V>(value: V, (codec, shape): (CodecId, u64), payload: Vec<u8>)
where
    V: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let open = || fcache::<u64, V>("deep").dir(dir.path()).memory_bytes(0).build().unwrap();
    let cache = open();
    cache.try_insert(1, value.clone()).unwrap();
    cache.close().unwrap();
    let file = entry_file(dir.path());
    let bytes = std::fs::read(&file).unwrap();
    let head = Head::parse(&bytes).unwrap();
    let header = Header { codec, shape, value_len: payload.len() as u64, ..head.header };
    let frame = Frame::new(&header, &EncodedKey::new(head.key), head.attributes, Bytes::from(payload));
    std::fs::write(&file, frame.to_vec()).unwrap();
    let cache = open();
    assert_eq!(cache.get(&1), None);
    let counts = cache.stats().tier(TierKind::File).unwrap().counts;
    assert_eq!(counts.refused + counts.undecodable, 1);
    cache.try_insert(1, value.clone()).unwrap();
    assert_eq!(cache.get(&1), Some(value));
    cache.close().unwrap();
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Chain {
    End,
    Next(Box<Chain>),
}

/// Levels of a value that earlier builds accepted.
const DEEP: usize = 100_000;

#[test]
fn deep_bincode_entry_of_an_earlier_build_is_a_miss() {
    on_a_small_stack(|| {
        let node = [&4_u64.to_le_bytes()[..], b"node", &[1], &1.5_f64.to_le_bytes(), &[1]].concat();
        let last = [&[0; 8][..], &[0, 0]].concat();
        let lists = (CodecId::Bincode, shape::of::<Node>().fingerprint);
        is_a_miss(list(3), lists, [node.repeat(DEEP), last].concat());
        let chain = [1_u32.to_le_bytes().repeat(DEEP), vec![0; 4]].concat();
        is_a_miss(
            Chain::Next(Box::new(Chain::End)),
            (CodecId::Bincode, shape::of::<Chain>().fingerprint),
            chain,
        );
    });
}

#[test]
fn deep_messagepack_entry_is_a_miss() {
    on_a_small_stack(|| {
        let names = (CodecId::MessagePack, 0);
        for levels in [400, DEEP] {
            let level = b"\x83\xa4name\xa0\xa6weight\xc0\xa4next";
            is_a_miss(list(3), names, [level.repeat(levels), vec![0xc0]].concat());
            is_a_miss(
                tree(2),
                names,
                [b"\x81\xa5Inner\x91".repeat(levels), b"\x81\xa4Leaf\x01".to_vec()].concat(),
            );
            is_a_miss(Chain::End, names, [b"\x81\xa4Next".repeat(levels), b"\xa3End".to_vec()].concat());
        }
    });
}

#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
struct Place {
    name: String,
    within: Option<Box<Place>>,
}

fn place(depth: usize) -> Place {
    let place = |within| Place { name: "place".to_owned(), within };
    (1..depth).fold(place(None), |within, _| place(Some(Box::new(within))))
}

#[test]
fn key_nested_too_deep_is_refused() {
    on_a_small_stack(|| {
        let dir = tempfile::tempdir().unwrap();
        let cache = bcache::<Place, u64>("places").dir(dir.path()).memory_bytes(0).build().unwrap();
        for depth in [300, 600, 2_000] {
            assert_eq!(cache.try_insert(place(depth), 1).unwrap_err().kind(), ErrorKind::Codec, "{depth}");
            assert_eq!(cache.get(&place(depth)), None);
        }
        for depth in [1, 60, 100] {
            cache.try_insert(place(depth), depth as u64).unwrap();
            assert_eq!(cache.get(&place(depth)), Some(depth as u64));
        }
        assert_eq!(cache.keys().unwrap().len(), 3);
        cache.close().unwrap();
    });
}

#[test]
fn deep_key_in_a_directory_is_not_listed() {
    on_a_small_stack(|| {
        let level = b"\x82\xa4name\xa0\xa6within";
        let by_names = [level.repeat(DEEP), vec![0xc0]].concat();
        // 0xc1, which MessagePack does not use, marks a key in bincode.
        let by_position = [vec![0xc1], [&[0; 8][..], &[1]].concat().repeat(DEEP), vec![0; 9]].concat();
        for key in [by_names, by_position] {
            let dir = tempfile::tempdir().unwrap();
            let open = || fcache::<Place, u64>("deep").dir(dir.path()).memory_bytes(0).build().unwrap();
            let cache = open();
            cache.try_insert(place(2), 7).unwrap();
            cache.close().unwrap();
            let file = entry_file(dir.path());
            let bytes = std::fs::read(&file).unwrap();
            let head = Head::parse(&bytes).unwrap();
            let payload = Bytes::copy_from_slice(&bytes[head.len()..]);
            let frame = Frame::new(&head.header, &EncodedKey::new(key), head.attributes, payload);
            std::fs::write(&file, frame.to_vec()).unwrap();
            let cache = open();
            assert!(cache.keys().unwrap().is_empty());
            assert_eq!(cache.get(&place(2)), None);
            cache.close().unwrap();
        }
    });
}
