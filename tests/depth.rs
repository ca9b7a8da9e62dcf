//! Deeply nested values are refused with an error, on any thread.
//!
//! The fault: a process ended with a stack overflow when it read a value. The cause: a recursive
//! type with 100,000 levels was accepted by the write.

use larder::{Cache, Codec, ErrorKind, bcache};
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

fn open<V>(dir: &std::path::Path, name: &str, codec: Codec) -> Cache<u64, V>
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
