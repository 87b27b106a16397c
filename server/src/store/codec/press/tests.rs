//! What is pressed comes back as it was, is small where that was promised, and no bytes make a reader fall.

use bytes::Bytes;
use prost::Message;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use roaring::RoaringBitmap;
use taskq_core::{
    effect::Write,
    id::{Attempt, JobId, Rank, WallTime},
    job::End,
};
use taskq_proto::v1::{self as pb, outcome::Kind};

use super::{LONGEST, Press, SHORTEST, unpress};
use crate::store::codec::{
    Error, Policies, Stored, frame, open, pack,
    tests::{decode, encode, same},
    writes,
};

/// Ends of a job's tasks with these details.
fn ends(details: impl IntoIterator<Item = Bytes>) -> Vec<Stored> {
    let end = |(rank, detail): (usize, Bytes)| Stored {
        number: 0,
        write: Write::Ended {
            job: JobId(42),
            indices: RoaringBitmap::from_iter([rank as u32]),
            rank: Rank(rank as u64),
            end: End::Succeeded,
            attempt: Attempt(1),
            detail,
            blob: None,
            worker: Some("w1".into()),
            wall: WallTime(1_700_000_000_000 + rank as u64 / 10),
        },
    };
    details.into_iter().enumerate().map(end).collect()
}

/// What a worker says of calls that take some microseconds.
fn calls(count: u64, value: impl Fn(u64) -> Bytes) -> Vec<Stored> {
    let mut random = StdRng::seed_from_u64(count);
    ends((0..count).map(|n| {
        let wall_us = random.random_range(1..4);
        let outcome = pb::Outcome {
            kind: Kind::Completed.into(),
            usage: Some(pb::Usage { wall_us, user_us: wall_us, ..pb::Usage::default() }),
            started_unix_ms: 1_700_000_000_000 + n / 10,
            ended_unix_ms: 1_700_000_000_000 + n / 10,
            attempt: 1,
            value: value(n),
            ..pb::Outcome::default()
        };
        outcome.encode_to_vec().into()
    }))
}

/// The format of each entry of these facts.
fn formats(facts: &[Stored]) -> Vec<u8> {
    let mut press = Press::new();
    let records = pack(facts.iter().map(Stored::parts));
    let format = |record| {
        let mut entry = Vec::new();
        frame(&record, &mut press, &mut entry);
        entry[entry.iter().position(|byte| byte & 0x80 == 0).expect("a length ends") + 5]
    };
    records.into_iter().map(format).collect()
}

/// A whole entry around a pressed body, with a right checksum.
fn entry(body: &[u8]) -> Bytes {
    let mut entry = Vec::new();
    prost::encoding::encode_varint(body.len() as u64 + 1, &mut entry);
    let summed = [&[3], body].concat();
    entry.extend_from_slice(&crc32fast::hash(&summed).to_le_bytes());
    entry.extend_from_slice(&summed);
    entry.into()
}

/// The pressed body of some calls.
fn body() -> Vec<u8> {
    let record = pack(calls(40, |_| Bytes::from("null")).iter().map(Stored::parts)).remove(0);
    Press::new().press(&record, record.encoded_len()).expect("calls become shorter").to_vec()
}

#[test]
fn calls_without_a_value_take_less_than_four_bytes() {
    let facts = calls(4_000, |_| Bytes::from("null"));
    let stream = encode(&facts);
    let each = stream.len() as f64 / facts.len() as f64;
    assert!(each < 4.0, "{each}");
    assert!(formats(&facts).iter().all(|format| *format == 3));
    assert!(same(&facts, &decode(stream.into()).expect("they come back")));
}

#[test]
fn what_surrounds_a_value_takes_less_than_six_bytes() {
    let mut random = StdRng::seed_from_u64(1);
    let values: Vec<Bytes> = (0..4_000).map(|_| random.random::<[u8; 32]>().to_vec().into()).collect();
    let facts = calls(4_000, |n| values[n as usize].clone());
    let each = encode(&facts).len() as f64 / facts.len() as f64;
    assert!((32.0..38.0).contains(&each), "{each}");
}

#[test]
fn any_details_come_back_and_never_take_more_than_plain() {
    let mut random = StdRng::seed_from_u64(2);
    for round in 0..300 {
        let most = [1, 40, 400, 20_000, 100_000][round % 5];
        let count = random.random_range(1..40);
        let details = (0..count).map(|_| {
            let mut bytes = vec![0; random.random_range(0..=most)];
            // From all bytes to only a few of them, so that some are shortened and others cannot be.
            let kinds = [256, 4][random.random_range(0..2)];
            bytes.iter_mut().for_each(|byte| *byte = (random.next_u32() % kinds) as u8);
            Bytes::from(bytes)
        });
        let facts = ends(details);
        let stream = encode(&facts);
        let plain: usize = pack(facts.iter().map(Stored::parts)).iter().map(|r| r.encoded_len() + 10).sum();
        assert!(stream.len() <= plain, "{} bytes, plain {plain}", stream.len());
        assert!(same(&facts, &decode(stream.into()).expect("they come back")));
    }
}

#[test]
fn what_is_short_long_or_random_stays_plain() {
    let zeros = |len| Bytes::from(vec![0; len]);
    assert_eq!(formats(&ends([zeros(SHORTEST / 2)])), [1]);
    assert_eq!(formats(&ends([zeros(2 * SHORTEST)])), [3]);
    assert_eq!(formats(&ends([zeros(LONGEST - 100)])), [3]);
    assert_eq!(formats(&ends([zeros(LONGEST)])), [1]);
    let mut random = vec![0; 2 * SHORTEST];
    StdRng::seed_from_u64(3).fill_bytes(&mut random);
    assert_eq!(formats(&ends([random.into()])), [1]);
}

#[test]
fn a_wrong_length_is_refused() {
    let good = body();
    assert!(open(entry(&good)).is_ok());
    let plain = unpress(good.clone().into()).expect("it is whole").len();
    let frame = &good[2..];
    for claimed in [0, 1, plain - 1, plain + 1, LONGEST, LONGEST + 1, usize::MAX] {
        let mut bad = Vec::new();
        prost::encoding::encode_varint(claimed as u64, &mut bad);
        bad.extend_from_slice(frame);
        assert!(matches!(open(entry(&bad)), Err(Error::Bad(_))), "{claimed}");
    }
    for cut in 0..good.len() {
        assert!(matches!(open(entry(&good[..cut])), Err(Error::Bad(_))), "{cut}");
    }
}

#[test]
fn any_pressed_body_is_survived() {
    let mut random = StdRng::seed_from_u64(4);
    let good = body();
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bad = good.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bad.len());
            bad[at] = random.next_u32().to_le_bytes()[0];
        }
        let body = open(entry(&bad)).ok().and_then(|record| record.body);
        match body.map(|body| writes(body, &mut Policies::default())) {
            Some(Ok(_)) => read += 1,
            Some(Err(_)) | None => refused += 1,
        }
    }
    assert!(read > 10 && refused > 1_000, "{read} {refused}");
}

/// The stream of [`sampled`] as format 3 stored it. zstd may press otherwise one day; this must open for ever.
const SAMPLE: &str = include_str!("../sample_3.hex");

fn sampled() -> Vec<Stored> {
    ends((0..20_u8).map(|n| Bytes::from([b"the outcome of a task, ".as_slice(), &[n; 3]].concat())))
}

#[test]
fn the_stored_sample_is_readable() {
    let digits: Vec<u8> = SAMPLE.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hexadecimal digits are ASCII");
        u8::from_str_radix(pair, 16).expect("two hexadecimal digits")
    };
    let stream: Vec<u8> = digits.chunks(2).map(byte).collect();
    let facts = sampled();
    assert_eq!(formats(&facts), [3], "they are what the sample is about");
    let today: String = encode(&facts).iter().map(|byte| format!("{byte:02x}")).collect();
    let back = decode(stream.into()).expect("the sample can be decoded");
    assert!(same(&facts, &back), "the sample is not read as it was written; today it would be {today}");
}
