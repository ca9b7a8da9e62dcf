//! Fuzzes the decoding of payloads as values of several types, with any codec.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use larder_core::Bytes;
use larder_core::codec::{Codec, Encoded, ValueCodec, Values};
use larder_core::compress::dictionary::{Dictionary, read_index};
use larder_core::compress::unpack_with;
use larder_core::frame::{CodecId, Compression};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Arbitrary, Debug)]
struct Input {
    codec: u8,
    compression: u8,
    shape: Option<u64>,
    value_len: u32,
    dictionary: Vec<u8>,
    payload: Vec<u8>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<Box<Record>>,
    figures: Vec<(u32, f64)>,
    map: BTreeMap<String, Choice>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Choice {
    Unit,
    Many(Vec<u8>),
    Named { a: i64, b: char },
}

/// Decodes the bytes. A value that decodes can be encoded again.
fn decode<V: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static>(
    input: &Input,
    bytes: &Bytes,
) {
    use CodecId::{Bincode, Json, MessagePack, Numbers, Raw, Text};
    let codec = [Raw, Bincode, MessagePack, Json, Numbers, Text][usize::from(input.codec) % 6];
    let values = Values::<V>::new(Codec::Auto);
    // The fingerprint rejects most bytes for bincode, so the right fingerprint is tried too.
    let own = values.encode(&V::default()).map_or(0, |encoded| encoded.shape);
    let shape = input.shape.unwrap_or(own);
    if let Ok(value) = values.decode(Encoded { codec, shape, bytes: bytes.clone() }) {
        let _encoded = values.encode(&value);
    }
}

fuzz_target!(|input: Input| {
    let compression =
        [Compression::None, Compression::Zstd, Compression::Lz4, Compression::Dictionary];
    let compression = compression[usize::from(input.compression) % 4];
    let dictionary = Dictionary::new(input.dictionary.clone().into(), 3).ok().map(Arc::new);
    let mut payload = input.payload.clone();
    if let (Compression::Dictionary, Some(dictionary)) = (compression, &dictionary) {
        payload.splice(..0, dictionary.number().to_le_bytes());
    }
    let _index = read_index(&input.payload.clone().into());
    let find = |_| dictionary.clone();
    let Ok(bytes) = unpack_with(compression, payload.into(), u64::from(input.value_len), &find) else {
        return;
    };
    decode::<String>(&input, &bytes);
    decode::<Vec<u8>>(&input, &bytes);
    decode::<Vec<f64>>(&input, &bytes);
    decode::<Option<(bool, char, i128)>>(&input, &bytes);
    decode::<Record>(&input, &bytes);
});
