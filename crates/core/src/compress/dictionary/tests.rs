use super::*;

/// Records that share their names and differ in their values.
fn record(number: u64) -> Vec<u8> {
    let mixed =
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0x94d0_49bb_1331_11eb);
    let name = ["Ada", "Grace", "Alan", "Barbara", "Edsger", "Leslie"][(mixed % 6) as usize];
    let state = ["active", "suspended", "invited"][(mixed >> 8) as usize % 3];
    format!(
        "{{\"id\":{},\"name\":\"{name}\",\"email\":\"{}{}@example.com\",\"state\":\"{state}\",\"balance\":{},\
         \"created_at\":\"2026-{:02}-{:02}T10:{:02}:00Z\",\"address\":{{\"city\":\"Oslo\",\"zip\":\"{:05}\"}},\
         \"roles\":[\"reader\",\"writer\"],\"newsletter\":{}}}",
        mixed >> 40,
        name.to_lowercase(),
        mixed % 1000,
        mixed % 100_000,
        mixed % 12 + 1,
        mixed % 28 + 1,
        mixed % 60,
        mixed % 99_999,
        mixed.is_multiple_of(2),
    )
    .into_bytes()
}

fn trained() -> Dictionary {
    let records: Vec<Vec<u8>> = (0..1024).map(record).collect();
    let lens: Vec<usize> = records.iter().map(Vec::len).collect();
    Dictionary::train(&records.concat(), &lens, 3).unwrap()
}

#[test]
fn records_are_stored_in_at_most_four_tenths_and_restored() {
    let dictionary = trained();
    assert!(dictionary.bytes().len() <= DICTIONARY_LEN);
    let (mut plain, mut stored) = (0, 0);
    for number in 5000..6000 {
        let record = record(number);
        let packed = dictionary.pack(&record).unwrap();
        assert_eq!(dictionary.unpack(&packed, record.len() as u64).unwrap(), record);
        (plain, stored) = (plain + record.len(), stored + packed.len());
    }
    assert!(stored * 10 <= plain * 4, "{stored} of {plain} bytes");
}

#[test]
fn payload_that_gains_nothing_is_not_packed() {
    let noise: Vec<u8> = (0..100_u64).flat_map(|n| xxh3_64(&n.to_le_bytes()).to_le_bytes()).collect();
    assert_eq!(trained().pack(&noise), None);
}

#[test]
fn other_dictionary_length_and_number_are_refused() {
    let dictionary = trained();
    let records: Vec<Vec<u8>> = (9000..10_000).map(record).collect();
    let lens: Vec<usize> = records.iter().map(Vec::len).collect();
    let other = Dictionary::train(&records.concat(), &lens, 3).unwrap();
    assert_ne!(dictionary.number(), other.number());
    let (record, len) = (record(1), record(1).len() as u64);
    let packed = dictionary.pack(&record).unwrap();
    assert!(other.unpack(&packed, len).is_err());
    for wrong in [0, len - 1, len + 1, DICTIONARY_VALUE_MAX as u64 + 1, u64::MAX] {
        assert!(dictionary.unpack(&packed, wrong).is_err(), "{wrong} bytes");
    }
}

/// The checksum of the frame finds damage first. Without it the payload must still do no harm.
#[test]
fn damaged_payload_never_panics() {
    let dictionary = trained();
    let record = record(1);
    let packed = dictionary.pack(&record).unwrap();
    for bit in 0..packed.len() * 8 {
        let mut flipped = packed.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _any = dictionary.unpack(&flipped, record.len() as u64);
    }
    for len in 0..packed.len() {
        assert!(dictionary.unpack(&packed[..len], record.len() as u64).is_err(), "length {len}");
    }
    assert_eq!(dictionary.unpack(&packed, record.len() as u64).unwrap(), record);
}

#[test]
fn damaged_entry_is_no_dictionary() {
    let dictionary = trained();
    let number = dictionary.number();
    let (_, frame) = dictionary.entry(Time::from_millis(7));
    let whole = frame.to_vec();
    assert!(is_entry(&whole));
    let read = |bytes: Vec<u8>| Dictionary::read(&bytes.into(), number, 3);
    assert_eq!(read(whole.clone()).unwrap().bytes(), dictionary.bytes());
    for at in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(read(damaged).is_none(), "byte {at}");
        assert!(read(whole[..at].to_vec()).is_none(), "length {at}");
    }
    assert!(Dictionary::read(&whole.into(), number ^ 1, 3).is_none());
}

#[test]
fn bytes_that_are_no_dictionary_never_panic() {
    let whole = trained().bytes().to_vec();
    assert!(Dictionary::new(Bytes::new(), 3).is_err());
    assert!(Dictionary::new(vec![0; LEN_MAX + 1].into(), 3).is_err());
    for at in (0..whole.len()).step_by(61) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        for bytes in [damaged, whole[..at].to_vec()] {
            if let Ok(dictionary) = Dictionary::new(bytes.into(), 3) {
                let record = record(1);
                if let Some(packed) = dictionary.pack(&record) {
                    assert_eq!(dictionary.unpack(&packed, record.len() as u64).unwrap(), record);
                }
            }
        }
    }
}

#[test]
fn index_is_read_back_unless_it_is_damaged() {
    let numbers = [7, u64::MAX, 0];
    let entry = Bytes::from(index_entry(&numbers, Time::from_millis(7)).to_vec());
    assert_eq!(read_index(&entry), Some(numbers.to_vec()));
    let many: Vec<u64> = (0..20).collect();
    let cut = Bytes::from(index_entry(&many, Time::from_millis(7)).to_vec());
    assert_eq!(read_index(&cut), Some(many[..INDEX_MAX].to_vec()));
    for len in 0..entry.len() {
        assert_eq!(read_index(&entry.slice(..len)), None, "length {len}");
    }
}

#[test]
fn frame_tells_the_dictionary_that_it_needs() {
    let dictionary = trained();
    let record = record(1);
    let payload = dictionary.pack(&record).unwrap();
    let header = Header {
        codec: CodecId::Json,
        compression: Compression::Dictionary,
        kind: Kind::Json,
        schema: 0,
        shape: 0,
        created: Time::from_millis(7),
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 0,
        value_len: record.len() as u64,
        load_cost: None,
    };
    let frame = Frame::new(&header, &EncodedKey::new(*b"\xa3key"), b"\x01\x01\x00a", payload.clone());
    let whole = frame.to_vec();
    assert_eq!(needed_by(&whole), Some(dictionary.number()));
    assert!(!is_entry(&whole));
    for len in 0..frame.head().len() + 8 {
        assert_eq!(needed_by(&whole[..len]), None, "length {len}");
    }
    let plain = Frame::new(&Header { compression: Compression::None, ..header }, &index_key(), b"", payload);
    assert_eq!(needed_by(&plain.to_vec()), None);
    let error = crate::compress::unpack(Compression::Dictionary, frame.body().clone(), 1).unwrap_err();
    assert!(is_lost(&error), "{error}");
}
