use super::*;

fn key() -> EncodedKey {
    EncodedKey::new(*b"\xa3key")
}

fn sample(payload: &'static [u8]) -> Frame {
    let header = Header {
        codec: CodecId::Bincode,
        compression: Compression::None,
        kind: Kind::Other,
        schema: 7,
        shape: 0x0102_0304_0506_0708,
        created: Time::from_millis(1_700_000_000_000),
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 42,
        value_len: payload.len() as u64,
        load_cost: None,
    };
    Frame::new(&header, &key(), b"", Bytes::from_static(payload))
}

#[test]
fn open_returns_header_and_payload_as_written() {
    let frame = sample(b"payload");
    let (header, payload) = open(&frame.to_vec().into(), &key()).unwrap();
    assert_eq!(&payload[..], b"payload");
    assert_eq!((header.schema, header.generation), (7, 42));
}

#[test]
fn load_cost_is_rounded_up_to_one_microsecond_and_capped() {
    for (cost_in, out) in [
        (None, None),
        (Some(Duration::ZERO), Some(Duration::from_micros(1))),
        (Some(Duration::from_micros(1234)), Some(Duration::from_micros(1234))),
        (Some(Duration::from_secs(3600)), Some(LOAD_COST_MAX)),
    ] {
        assert_eq!(cost(cost_bytes(cost_in)), out);
    }
}

#[test]
fn empty_payload_opens() {
    let frame = sample(b"");
    assert!(open(&frame.to_vec().into(), &key()).unwrap().1.is_empty());
}

#[test]
fn any_flipped_bit_is_detected() {
    let whole = sample(b"payload").to_vec();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&flipped.into(), &key()).is_err(), "bit {bit}");
    }
}

#[test]
fn any_other_length_is_detected() {
    let whole = sample(b"payload").to_vec();
    for len in 0..whole.len() {
        assert!(open(&Bytes::copy_from_slice(&whole[..len]), &key()).is_err(), "length {len}");
    }
    let mut longer = whole;
    longer.push(0);
    assert_eq!(open(&longer.into(), &key()).unwrap_err(), FrameError::Trailing);
}

#[test]
fn chunked_frame_opens_and_any_damage_is_detected() {
    let payload = b"payload in a chunk";
    let mut summing = crate::stream::Summing::default();
    summing.update(payload);
    let (told, sums) = summing.finish();
    let header = Head::parse(sample(payload).head()).unwrap().header;
    let mut whole = head(&header, &key(), b"", told);
    whole.extend_from_slice(payload);
    whole.extend_from_slice(&sums.to_bytes());
    assert_eq!(&open(&whole.clone().into(), &key()).unwrap().1[..], payload);
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&flipped.into(), &key()).is_err(), "bit {bit}");
    }
    for len in 0..whole.len() {
        assert!(open(&Bytes::copy_from_slice(&whole[..len]), &key()).is_err(), "length {len}");
    }
}

#[test]
fn frame_of_another_key_is_rejected() {
    let whole: Bytes = sample(b"payload").to_vec().into();
    assert_eq!(open(&whole, &EncodedKey::new(*b"\xa3kez")).unwrap_err(), FrameError::OtherKey);
}

#[test]
fn head_checksum_is_the_same_joined_and_streamed() {
    let fixed = [7; FIXED_LEN];
    for len in [0, 1, SHORT_KEY, SHORT_KEY + 1, 4000] {
        let key = vec![9; len];
        let mut whole = fixed[..HEAD_SUM_AT].to_vec();
        whole.extend_from_slice(&key);
        assert_eq!(head_sum(&fixed, &key, b""), xxh3_64(&whole), "key of {len} bytes");
    }
}
