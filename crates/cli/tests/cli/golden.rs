//! Directories of earlier builds, which the tests of the library keep in `tests/golden`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use larder_core::Bytes;
use larder_core::codec::{Codec, Encoded, ValueCodec, Values};
use larder_core::compress::unpack;
use larder_core::frame::{Head, open};
use larder_core::key::EncodedKey;

use crate::fixtures::{files_of, keys, larder};

fn unpacked(name: &str) -> tempfile::TempDir {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(format!("{name}.frame"));
    let frame = Bytes::from(fs::read(path).unwrap());
    let key = EncodedKey::new(Head::parse(&frame).unwrap().key);
    let (header, payload) = open(&frame, &key).unwrap();
    let bytes = unpack(header.compression, payload, header.value_len).unwrap();
    let encoded = Encoded { codec: header.codec, shape: header.shape, bytes };
    let files = Values::<BTreeMap<String, Vec<u8>>>::new(Codec::Auto).decode(encoded).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

/// 1500 rows of which every fifth was removed, 5 large ones, and 10 whose tag was invalidated.
#[test]
fn directories_of_earlier_builds_are_read() {
    for name in ["directory-1", "directory-2"] {
        let dir = unpacked(name);
        let before = files_of(dir.path());
        assert_eq!(keys(dir.path(), "rows", &["--limit", "0"]).len(), 1200 + 5 + 10, "{name}");
        assert_eq!(keys(dir.path(), "rows", &["--state", "invalidated"]).len(), 10, "{name}");
        assert_eq!(keys(dir.path(), "rows", &["--min-size", "4 KiB"]).len(), 5, "{name}");
        assert_eq!(keys(dir.path(), "files", &[]), ["film", "small"]);
        larder(dir.path(), &["show", "10003"]).exits(0).says(&["10003 0 10003 0"]);
        larder(dir.path(), &["show", "small"]).exits(0).says(&["a few bytes"]);
        larder(dir.path(), &["explain", "10003"])
            .exits(0)
            .says(&["a reader gets the entry of the disk tier"]);
        larder(dir.path(), &["explain", "film"]).exits(0).says(&["a reader gets the entry of the file tier"]);
        let tags = larder(dir.path(), &["tag", "--cache", "rows", "--json"]).exits(0).json();
        let tags = tags["caches"][0]["tags"].as_array().unwrap().clone();
        assert_eq!(
            (tags.len(), &tags[0]["entries"], &tags[0]["fresh"]),
            (1, &10.into(), &0.into()),
            "{name}"
        );
        larder(dir.path(), &["check"]).exits(0).says(&["1215 whole entries, 0 damaged", "2 whole entries"]);
        assert_eq!(files_of(dir.path()), before, "{name}");
        larder(dir.path(), &["gc"]).exits(0).says(&["rows: removed 10 entries"]);
        larder(dir.path(), &["rm", "6", "--cache", "rows"]).exits(0);
        assert_eq!(keys(dir.path(), "rows", &["--limit", "0"]).len(), 1204, "{name}");
    }
}
