//! Fuzzes keys: arbitrary bytes decode to a key or fail, and different keys have different
//! encodings.
#![no_main]

use std::fmt::Debug;
use std::hash::Hash;

use larder_core::key::{EncodedKey, KeyCodec, NamedKeys};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};

type Pair<T> = (T, T);

fn decode<K: Serialize + DeserializeOwned + Hash + Eq + Debug + Send + Sync + 'static>(bytes: &[u8]) {
    let Ok(key): Result<K, _> = NamedKeys.decode(bytes) else { return };
    if let Ok(encoded) = NamedKeys.encode(&key) {
        let again: K = NamedKeys.decode(encoded.as_bytes()).expect("what was encoded decodes");
        assert_eq!(again, key);
    }
}

fn apart<K: Serialize + DeserializeOwned + Hash + Eq + Debug + Send + Sync + 'static>((one, two): Pair<K>) {
    let encode = |key: &K| -> EncodedKey { NamedKeys.encode(key).expect("these can be encoded") };
    assert_eq!(one == two, encode(&one).as_bytes() == encode(&two).as_bytes(), "{one:?} and {two:?}");
}

fuzz_target!(|input: (Vec<u8>, Pair<String>, Pair<(String, String)>, Pair<Option<Vec<i64>>>)| {
    let (bytes, texts, pairs, lists) = input;
    decode::<String>(&bytes);
    decode::<(String, u64)>(&bytes);
    decode::<Option<Vec<i64>>>(&bytes);
    apart(texts);
    apart(pairs);
    apart(lists);
});
