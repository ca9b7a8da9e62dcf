//! Fuzzes frames: arbitrary bytes, and valid frames that were changed.
//!
//! The checksum rejects nearly all arbitrary bytes. So most inputs describe a valid frame and
//! changes of its bytes.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use larder_core::Bytes;
use larder_core::clock::Time;
use larder_core::frame::{self, CodecId, Compression, Frame, Head, Header, compact};
use larder_core::key::EncodedKey;
use larder_core::place::Kind;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes { bytes: Vec<u8>, key: Vec<u8> },
    Changed { parts: Parts, changes: Vec<Change> },
}

#[derive(Arbitrary, Debug)]
struct Parts {
    codec: u8,
    compression: u8,
    kind: u8,
    schema: u32,
    words: [u64; 5],
    value_len: u64,
    cost: Option<u32>,
    key: Vec<u8>,
    tags: Vec<u8>,
    payload: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Flip { at: u16, mask: u8 },
    Cut(u16),
    Append(Vec<u8>),
}

impl Parts {
    fn header(&self) -> Header {
        use CodecId::{Bincode, Json, MessagePack, Numbers, Raw, Text};
        let [shape, created, deadline, stale_deadline, generation] = self.words;
        Header {
            codec: [Raw, Bincode, MessagePack, Json, Numbers, Text][usize::from(self.codec) % 6],
            compression: [Compression::None, Compression::Zstd, Compression::Lz4]
                [usize::from(self.compression) % 3],
            kind: Kind::ALL[usize::from(self.kind) % Kind::ALL.len()],
            schema: self.schema,
            shape,
            created: Time::from_millis(created),
            deadline: Time::from_millis(deadline),
            stale_deadline: Time::from_millis(stale_deadline),
            generation,
            value_len: self.value_len,
            load_cost: self.cost.map(|micros| Duration::from_micros(u64::from(micros))),
        }
    }
}

fn change(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Flip { at, mask } if !bytes.is_empty() => {
            let at = usize::from(*at) % bytes.len();
            bytes[at] ^= mask;
        }
        Change::Flip { .. } => {}
        Change::Cut(len) => bytes.truncate(usize::from(*len)),
        Change::Append(more) => bytes.extend_from_slice(more),
    }
}

/// The compact form gives the frame again, or after a change one that is refused.
fn check_compact(frame: &Frame, key: &EncodedKey, changes: &[Change]) {
    let mut whole = Vec::new();
    if !compact::shrink(frame, &mut whole) {
        return;
    }
    assert!(whole.len() <= compact::len_max(frame));
    assert_eq!(compact::kept_until(&whole), frame::kept_until(frame.head()));
    let mut bytes = whole.clone();
    changes.iter().for_each(|one| change(&mut bytes, one));
    let expanded = compact::expand(&bytes, key.as_bytes());
    if bytes == whole {
        assert_eq!(expanded.as_deref(), Some(&frame.to_vec()[..]));
    } else if let Some(expanded) = expanded.filter(|expanded| *expanded != frame.to_vec()) {
        assert!(frame::open(&expanded, key).is_err(), "a changed frame was opened");
    }
}

fuzz_target!(|input: Input| {
    match input {
        Input::Bytes { bytes, key } => {
            let _refused = Head::parse(&bytes);
            let _refused = compact::expand(&bytes, &key);
            let _refused = compact::kept_until(&bytes);
            let _refused = frame::open(&bytes.into(), &EncodedKey::new(key));
        }
        Input::Changed { parts, changes } => {
            let key = EncodedKey::new(parts.key.clone());
            let header = parts.header();
            let frame = Frame::new(&header, &key, &parts.tags, parts.payload.clone().into());
            check_compact(&frame, &key, &changes);
            let whole = frame.to_vec();
            let mut bytes = whole.clone();
            changes.iter().for_each(|one| change(&mut bytes, one));
            let unchanged = bytes == whole;
            let _refused = Head::parse(&bytes);
            match frame::open(&Bytes::from(bytes), &key) {
                Ok((found, payload)) => {
                    assert!(unchanged, "a changed frame was opened");
                    assert_eq!(payload, parts.payload);
                    assert_eq!((found.schema, found.shape), (header.schema, header.shape));
                }
                Err(error) => assert!(!unchanged, "a whole frame was refused: {error}"),
            }
        }
    }
});
