//! Measures compression with a dictionary: `cargo run --release -p larder-core --features zstd --example dictionary`.
//!
//! Trains on JSON records of about 300 bytes, and prints how much of other records is stored and how long a
//! record takes. The times hold the pool of contexts and the allocations; the codec and the tier come in addition.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]
#![allow(clippy::expect_used, reason = "it ends by a panic")]

use std::time::{Duration, Instant};

use larder_core::clock::Time;
use larder_core::compress::dictionary::Dictionary;
use larder_core::frame::{CodecId, Compression, Frame, Header, compact};
use larder_core::key::EncodedKey;
use larder_core::place::Kind;

/// Records of the training, as a cache takes them.
const SAMPLES: u64 = 768;
/// Records that are measured.
const RECORDS: u64 = 10_000;
/// How often all of them are measured. The fastest round counts.
const ROUNDS: usize = 20;

fn main() {
    let samples: Vec<Vec<u8>> = (0..SAMPLES).map(record).collect();
    let lens: Vec<usize> = samples.iter().map(Vec::len).collect();
    let records: Vec<Vec<u8>> = (SAMPLES..SAMPLES + RECORDS).map(record).collect();
    let plain: usize = records.iter().map(Vec::len).sum();
    let mean = plain as f64 / records.len() as f64;
    println!("records of {mean:.0} bytes, such as {}", String::from_utf8_lossy(&records[0]));
    println!("level  training  payload stored  row of the disk tier  encode    decode");
    for level in [1, 3, 6, 12] {
        let begun = Instant::now();
        let dictionary = Dictionary::train(&samples.concat(), &lens, level).expect("a dictionary");
        let training = begun.elapsed();
        let stored: Vec<_> = records.iter().map(|record| dictionary.pack(record).expect("a gain")).collect();
        let payload: usize = stored.iter().map(|stored| stored.len()).sum();
        let rows: usize =
            records.iter().zip(&stored).map(|(record, stored)| row(record.len(), stored.clone())).sum();
        let encode = fastest(|| records.iter().for_each(|record| drop(dictionary.pack(record))));
        let decode = fastest(|| {
            for (record, stored) in records.iter().zip(&stored) {
                let plain = dictionary.unpack(stored, record.len() as u64).expect("the record");
                assert_eq!(plain.len(), record.len());
            }
        });
        println!(
            "{level:>5}  {:>5} ms  {:>14.3}  {:>20.3}  {encode:>4} ns  {decode:>5} ns",
            training.as_millis(),
            payload as f64 / plain as f64,
            rows as f64 / plain as f64,
        );
    }
}

/// Bytes of a row of the disk tier with a time to live, without its key.
fn row(value_len: usize, payload: bytes::Bytes) -> usize {
    let header = Header {
        codec: CodecId::Text,
        compression: Compression::Dictionary,
        kind: Kind::Text,
        schema: 0,
        shape: 0,
        created: Time::from_millis(1_800_000_000_000),
        deadline: Time::from_millis(1_800_003_600_000),
        stale_deadline: Time::NEVER,
        generation: 1,
        value_len: value_len as u64,
        load_cost: None,
    };
    let mut row = Vec::new();
    assert!(compact::shrink(&Frame::new(&header, &EncodedKey::new(*b"\x01"), b"", payload), &mut row));
    row.len()
}

/// Nanoseconds of a record in the fastest round.
fn fastest(mut round: impl FnMut()) -> u128 {
    let time = |()| {
        let begun = Instant::now();
        round();
        begun.elapsed()
    };
    let best: Duration = std::iter::repeat_n((), ROUNDS).map(time).min().expect("a round");
    best.as_nanos() / u128::from(RECORDS)
}

fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 27;
    mixed = mixed.wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A JSON record. Names, towns and states come from short lists; numbers, times and the identifier are random.
fn record(number: u64) -> Vec<u8> {
    let pick =
        |from: &[&'static str], salt: u64| from[(mixed(number ^ salt << 32) % from.len() as u64) as usize];
    let random = |salt: u64| mixed(number ^ salt << 40);
    let first = pick(&["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Leslie", "Radia"], 1);
    let last =
        pick(&["Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Lamport", "Perlman"], 2);
    format!(
        "{{\"id\":{},\"uuid\":\"{:08x}-{:04x}-{:04x}\",\"first_name\":\"{first}\",\"last_name\":\"{last}\",\
         \"email\":\"{}.{}{}@example.com\",\"status\":\"{}\",\"created_at\":\"2026-{:02}-{:02}T{:02}:{:02}:{:02}Z\",\
         \"address\":{{\"city\":\"{}\",\"zip\":\"{:05}\"}},\"balance\":{}.{:02},\"roles\":[\"{}\",\"reader\"],\
         \"newsletter\":{}}}",
        random(1) % 10_000_000,
        random(2) >> 32,
        random(2) & 0xffff,
        random(2) >> 16 & 0xffff,
        first.to_lowercase(),
        last.to_lowercase(),
        random(3) % 1000,
        pick(&["active", "suspended", "invited", "deleted"], 3),
        random(4) % 12 + 1,
        random(5) % 28 + 1,
        random(6) % 24,
        random(7) % 60,
        random(8) % 60,
        pick(&["Berlin", "Paris", "Lisbon", "Oslo", "Vienna", "Prague", "Dublin", "Helsinki"], 4),
        random(9) % 100_000,
        random(10) % 10_000,
        random(11) % 100,
        pick(&["admin", "writer", "guest"], 5),
        random(12).is_multiple_of(2),
    )
    .into_bytes()
}
