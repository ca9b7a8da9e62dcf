//! Tests that frames of every released format can still be decoded.
//!
//! `tests/golden` holds frames in format 1, and their compact forms (format 2). To add a frame, add a `check` here and run the tests
//! with `LARDER_WRITE_GOLDEN=1`. Existing files are never overwritten.

use std::fs;
use std::io::{Cursor, Read};
use std::path::PathBuf;

use larder_core::Bytes;
use larder_core::clock::Time;
use larder_core::codec::{Codec, Encoded, ValueCodec, Values};
use larder_core::compress::{Compress, unpack};
use larder_core::frame::{self, CodecId, Compression, Frame, Header, compact};
use larder_core::key::{EncodedKey, KeyCodec, NamedKeys};
use larder_core::place::Kind;
use larder_core::stream::{self, Stored, Summing};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Answer {
    Unknown,
    Number(i64),
    Named { name: String, parts: Vec<Option<f32>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<String>,
    count: u16,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.frame"))
}

fn key() -> EncodedKey {
    NamedKeys.encode(&("golden".to_owned(), 1_u64)).unwrap()
}

fn write<V: Serialize + DeserializeOwned + 'static>(value: &V, compress: Compress) -> Frame {
    let Encoded { codec, shape, bytes } = Values::<V>::new(Codec::Auto).encode(value).unwrap();
    let value_len = bytes.len() as u64;
    let (compression, payload) = compress.apply(bytes).unwrap();
    let header = Header {
        codec,
        compression,
        kind: Kind::Other,
        schema: 3,
        shape,
        created: Time::from_millis(1_800_000_000_000),
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 5,
        value_len,
        load_cost: None,
    };
    Frame::new(&header, &key(), b"", payload)
}

/// Writes the compressed frame of `value` to the file of this name. Does nothing if the file exists
/// or `LARDER_WRITE_GOLDEN` is not set.
pub(crate) fn write_missing<V: Serialize + DeserializeOwned + 'static>(
    name: &str,
    value: impl FnOnce() -> V,
) {
    write_bytes(name, || write(&value(), Compress::zstd(19)).to_vec());
}

fn write_bytes(name: &str, bytes: impl FnOnce() -> Vec<u8>) {
    if std::env::var_os("LARDER_WRITE_GOLDEN").is_some() && !path(name).exists() {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        fs::write(path(name), bytes()).unwrap();
    }
}

#[track_caller]
fn check<V>(name: &str, value: V, compress: Compress)
where
    V: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
{
    let written = write(&value, compress).to_vec();
    write_bytes(name, || written.clone());
    let golden = decodes(name, &value);
    // The output of a compressor may change with its version. All other bytes must stay the same.
    if compress == Compress::None {
        assert_eq!(written, golden, "{name}: this build writes other bytes");
    }
}

/// Asserts that the frame of this name decodes to `value`. Returns the bytes of the frame.
#[track_caller]
fn decodes<V>(name: &str, value: &V) -> Bytes
where
    V: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
{
    let golden = bytes_of(name);
    assert_eq!(&open::<V>(name, &golden), value, "{name}");
    golden
}

fn bytes_of(name: &str) -> Bytes {
    Bytes::from(fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn open<V: Serialize + DeserializeOwned + 'static>(name: &str, golden: &Bytes) -> V {
    let (header, payload) = frame::open(golden, &key()).unwrap();
    assert_eq!((header.schema, header.generation), (3, 5), "{name}");
    assert_eq!(header.created, Time::from_millis(1_800_000_000_000), "{name}");
    let bytes = unpack(header.compression, payload, header.value_len).unwrap();
    let encoded = Encoded { codec: header.codec, shape: header.shape, bytes };
    Values::<V>::new(Codec::Auto).decode(encoded).unwrap()
}

/// Decodes the frame of this name and returns its value.
pub(crate) fn read<V: Serialize + DeserializeOwned + 'static>(name: &str) -> V {
    open(name, &bytes_of(name))
}

#[test]
fn frames_of_format_1_can_be_decoded() {
    check("unit", (), Compress::None);
    check("number", 7_u64, Compress::None);
    check("none", None::<String>, Compress::None);
    check("record", Answer::Named { name: "a".into(), parts: vec![Some(1.5), None] }, Compress::None);
    check("enum", vec![Answer::Unknown, Answer::Number(-1)], Compress::None);
    check("skips-form", Skips { note: None, count: 9 }, Compress::None);
    // An earlier build wrote this frame without the shape of the value.
    decodes("skips", &Skips { note: None, count: 9 });
    // Earlier builds wrote documents as MessagePack. This build writes JSON.
    decodes("json", &serde_json::json!({"a": [1, null, "x"]}));
    check("bytes", Bytes::from_static(b"\x00\xff raw"), Compress::None);
    check("empty", Vec::<u8>::new(), Compress::None);
    check("text", "Speisekammer, garde-manger, кладовая".to_owned(), Compress::None);
    check("numbers", vec![1.0_f64, -0.5, f64::MAX], Compress::None);
    check("zstd", "larder ".repeat(500), Compress::zstd(3));
}

#[test]
#[cfg(feature = "json")]
fn documents_of_format_1_can_be_decoded() {
    check("document", serde_json::json!({"a": [1, null, "x"], "b": {"c": 1.5}}), Compress::None);
}

#[test]
#[cfg(feature = "ndarray")]
fn arrays_of_format_1_can_be_decoded() {
    check("array", ndarray::arr2(&[[1.0_f32, -2.5, 0.0], [3.0, f32::MAX, -0.0]]), Compress::None);
    check("array-dyn", ndarray::ArrayD::<u16>::zeros(vec![2, 0, 3]), Compress::None);
}

#[test]
#[cfg(feature = "image")]
fn pictures_of_format_1_can_be_decoded() {
    let gray = image::GrayImage::from_fn(3, 2, |x, y| image::Luma([u8::try_from(16 * y + x).unwrap()]));
    check("picture", larder::natural::Image::from(image::DynamicImage::from(gray)), Compress::None);
}

#[test]
#[cfg(feature = "arrow")]
fn data_frames_of_format_1_can_be_decoded() {
    let days: arrow_array::ArrayRef = std::sync::Arc::new(arrow_array::Int32Array::from(vec![Some(1), None]));
    let batch = arrow_array::RecordBatch::try_from_iter([("day", days)]).unwrap();
    let value = larder::natural::Frame::from(batch);
    let written = write(&value, Compress::None).to_vec();
    if std::env::var_os("LARDER_WRITE_GOLDEN").is_some() && !path("frame").exists() {
        fs::write(path("frame"), &written).unwrap();
    }
    // A later version of Arrow may write other bytes, but must read these.
    decodes("frame", &value);
}

#[test]
#[cfg(feature = "lz4")]
fn lz4_frames_of_format_1_can_be_decoded() {
    check("lz4", "larder ".repeat(500), Compress::lz4());
}

#[test]
fn compact_frames_of_format_2_give_those_of_format_1() {
    for name in ["number", "record", "bytes", "empty", "text", "zstd"] {
        let whole = bytes_of(name);
        let (header, attributes, payload) = frame::open_with_attributes(&whole, &key()).unwrap();
        let mut written = Vec::new();
        assert!(compact::shrink(&Frame::new(&header, &key(), attributes, payload), &mut written));
        let name = format!("{name}-compact");
        write_bytes(&name, || written.clone());
        assert_eq!(bytes_of(&name), written, "{name}: this build writes other bytes");
        assert_eq!(compact::expand(&written, key().as_bytes()), Some(whole));
    }
}

#[test]
fn streams_of_format_1_can_be_decoded() {
    let payload = b"a stream of less than a chunk";
    let header = Header {
        codec: CodecId::Raw,
        compression: Compression::None,
        kind: Kind::Bytes,
        schema: 3,
        shape: 0,
        created: Time::from_millis(1_800_000_000_000),
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 5,
        value_len: payload.len() as u64,
        load_cost: None,
    };
    let mut summing = Summing::default();
    summing.update(payload);
    let (told, sums) = summing.finish();
    let written = [&frame::head(&header, &key(), b"", told)[..], payload, &sums.to_bytes()].concat();
    if std::env::var_os("LARDER_WRITE_GOLDEN").is_some() && !path("stream").exists() {
        fs::write(path("stream"), &written).unwrap();
    }
    let golden = Bytes::from(fs::read(path("stream")).unwrap());
    assert_eq!(golden, written, "this build writes other bytes");
    assert_eq!(frame::open(&golden, &key()).unwrap(), (header, Bytes::from_static(payload)));
    let len = golden.len() as u64;
    let mut parts = stream::open(Stored { medium: Box::new(Cursor::new(golden)), len }, &key()).unwrap();
    let mut read = Vec::new();
    parts.payload.read_to_end(&mut read).unwrap();
    assert_eq!(read, payload);
}
