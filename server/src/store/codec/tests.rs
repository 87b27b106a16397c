//! Stored samples stay readable, any bytes are survived, and the usual facts are small.

use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    effect::{Submitted, Write},
    event::Stream,
    id::{Attempt, Epoch, JobId, Millis, Rank, TaskId, WallTime, WorkerId},
    job::{Counts, End, Key, Limits, Policy, Retry, Shape},
};

use super::{Need, Policies, Press, Stored, frame, need, open, pack, record::Record, writes};

/// One fact of each kind, all fields set.
fn facts() -> Vec<Stored> {
    let task = TaskId { job: JobId(42), index: 7 };
    let worker: Option<Arc<str>> = Some("w1".into());
    let policy = Policy {
        queue: "default".into(),
        priority: -3,
        shape: Shape {
            function: None,
            slots: 2,
            named: [("gpu".into(), 1)].into(),
            labels: [("os".into(), "linux".into())].into(),
            limits: Limits::default(),
        },
        retry: Retry {
            max_attempts: 4,
            initial: Millis(1000),
            multiplier_milli: 2000,
            max: Millis(60_000),
            exit_codes: vec![1, -1],
        },
        timeout: Some(Millis(5000)),
        kill_grace: Millis(10_000),
        crash_limit: 3,
        max_parallel: Some(7),
        max_fails: Some(0),
        keep: Some(Millis(9)),
    };
    let submitted = Submitted {
        id: JobId(42),
        policy: Arc::new(policy),
        total: 1000,
        only: Some(RoaringBitmap::from_iter(5..900)),
        key: Some(Key { text: "key".into(), digest: [7; 32] }),
        repeat: Some([9; 16]),
        place: (2, 3),
        rerun_of: Some(JobId(41)),
        wall: WallTime(1_700_000_000_000),
        spec: Bytes::from("spec"),
    };
    let end = |indices: &[u32], rank, end, detail: &'static str, worker, wall| Write::Ended {
        job: JobId(42),
        indices: RoaringBitmap::from_iter(indices),
        rank: Rank(rank),
        end,
        attempt: Attempt(1),
        detail: Bytes::from(detail),
        blob: None,
        worker,
        wall: WallTime(wall),
    };
    let list = vec![
        Write::Epoch(Epoch(5)),
        Write::Submitted(submitted),
        Write::Attempt {
            task,
            attempt: Attempt(3),
            failures: 2,
            losses: 1,
            delay: Millis(100),
            detail: Bytes::from("why"),
            worker: worker.clone(),
        },
        end(&[7], 0, End::Succeeded, "ok", worker.clone(), 2000),
        end(&[8], 1, End::Failed, "bad", worker.clone(), 1990),
        end(&[1, 2, 3, 500], 2, End::Cancelled, "", None, 3000),
        end(&[0], 6, End::Skipped, "", Some("w2".into()), 3000),
        Write::Job {
            job: JobId(42),
            revision: 8,
            paused: true,
            cancelling: RoaringBitmap::from_iter([1, 9]),
        },
        Write::JobEnded {
            job: JobId(42),
            counts: Counts {
                succeeded: 1,
                failed: 2,
                cancelled: 3,
                skipped: 4,
                queued: 5,
                running: 6,
                backoff: 7,
            },
            started: Some(WallTime(1)),
            wall: WallTime(2),
        },
        Write::JobGone(JobId(41)),
        Write::Output {
            task,
            attempt: Attempt(3),
            stream: Stream::Stderr,
            offset: 77,
            data: Bytes::from("text"),
            worker: "w1".into(),
        },
        Write::Queue { name: "default".into(), revision: 6, paused: true },
        Write::WorkerSeen { worker: WorkerId(u64::MAX), name: "w1".into() },
        Write::WorkerGone(WorkerId(3)),
    ];
    let number = |w: &Write| if matches!(w, Write::Output { .. }) { 12 } else { 0 };
    list.into_iter().map(|write| Stored { number: number(&write), write }).collect()
}

/// What came with calls: a job that calls a function, and an end whose value lies in a blob.
fn calls() -> Vec<Stored> {
    let mut list: Vec<Stored> = facts().into_iter().skip(1).take(3).collect();
    for stored in &mut list {
        match &mut stored.write {
            Write::Submitted(job) => Arc::make_mut(&mut job.policy).shape.function = Some("resize".into()),
            Write::Ended { blob, .. } => *blob = Some(Box::new([3; 32])),
            _ => {}
        }
    }
    list
}

/// What came with limits: a job whose tasks have them.
fn limited() -> Vec<Stored> {
    let mut list: Vec<Stored> = facts().into_iter().skip(1).take(1).collect();
    for stored in &mut list {
        if let Write::Submitted(job) = &mut stored.write {
            Arc::make_mut(&mut job.policy).shape.limits =
                Limits { memory: true, cpu: false, processes: true };
        }
    }
    list
}

pub(super) fn encode(facts: &[Stored]) -> Vec<u8> {
    let mut stream = Vec::new();
    for record in pack(facts.iter().map(Stored::parts)) {
        frame(&record, &mut Press::new(), &mut stream);
    }
    stream
}

pub(super) fn decode(mut stream: Bytes) -> Result<Vec<Stored>, super::Error> {
    let mut facts = Vec::new();
    while !stream.is_empty() {
        let Need::Entry(len) = need(&stream)? else { return Err(super::Error::Bad("cut")) };
        let record = open(stream.split_to(len))?;
        let body = record.body.ok_or(super::Error::Bad("no kind"))?;
        facts.extend(writes(body, &mut Policies::default())?);
    }
    Ok(facts)
}

pub(super) fn same(a: &[Stored], b: &[Stored]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.write == b.write && a.number == b.number)
}

#[test]
fn every_fact_comes_back() {
    let facts = facts();
    let back = decode(encode(&facts).into()).unwrap();
    assert!(same(&facts, &back), "{back:#?}");
}

/// The stream of [`facts`] as format 1 stored it. Never change it: a store of today must open for ever.
const SAMPLE_1: &str = include_str!("sample_1.hex");

/// The stream of [`calls`] as format 2 stores it.
const SAMPLE_2: &str = include_str!("sample_2.hex");

/// The stream of [`limited`] as format 4 stores it.
const SAMPLE_4: &str = include_str!("sample_4.hex");

#[test]
fn the_stored_samples_are_readable() {
    for (sample, facts) in [(SAMPLE_1, facts()), (SAMPLE_2, calls()), (SAMPLE_4, limited())] {
        let digits: Vec<u8> = sample.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let stream: Vec<u8> = digits.chunks(2).map(byte).collect();
        let back = decode(stream.into()).unwrap();
        assert!(same(&facts, &back), "{back:#?}");
    }
}

#[test]
fn only_what_an_earlier_version_cannot_know_has_a_later_format() {
    let formats = |facts: &[Stored]| {
        let records = pack(facts.iter().map(Stored::parts));
        let mut formats: Vec<u8> = Vec::new();
        for record in records {
            let mut entry = Vec::new();
            frame(&record, &mut Press::new(), &mut entry);
            let header = entry.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            formats.push(entry[header + 4]);
        }
        formats
    };
    assert!(formats(&facts()).iter().all(|format| *format == 1));
    assert_eq!(formats(&limited()), [4], "who would run it without its limits refuses it");
    assert_eq!(formats(&calls()), [2, 1, 1], "the submission; whoever refuses that never gets to the others");
}

#[test]
fn a_later_format_is_named() {
    let mut stream = encode(&facts()[..1]);
    // One byte of length, four of checksum, then the version.
    stream[5] = 5;
    let crc = crc32fast::hash(&stream[5..]).to_le_bytes();
    stream[1..5].copy_from_slice(&crc);
    assert_eq!(decode(stream.into()).unwrap_err(), super::Error::Newer(5));
}

#[test]
fn a_flipped_bit_is_always_noticed() {
    let stream = encode(&facts());
    for bit in 0..stream.len() * 8 {
        let mut bad = stream.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(bad.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn any_body_is_survived() {
    use rand::{Rng, RngExt, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let good = encode(&facts());
    let (mut decoded, mut refused) = (0, 0);
    for _ in 0..50_000 {
        // Past the checksum: a body that was damaged before it was summed, or written by something else.
        let start = random.random_range(0..good.len());
        let mut body = good[start..].to_vec();
        body.truncate(random.random_range(0..120));
        for _ in 0..random.random_range(0..3) {
            if !body.is_empty() {
                let at = random.random_range(0..body.len());
                body[at] = random.next_u32().to_le_bytes()[0];
            }
        }
        let facts = <Record as prost::Message>::decode(Bytes::from(body)).ok().and_then(|r| r.body);
        match facts.map(|b| writes(b, &mut Policies::default())) {
            Some(Ok(_)) => decoded += 1,
            _ => refused += 1,
        }
    }
    assert!(decoded > 10 && refused > 1000, "{decoded} {refused}");
}

#[test]
fn a_plain_end_costs_little_beyond_its_detail() {
    let detail = Bytes::from(vec![1; 40]);
    let facts: Vec<Stored> = (0..1000)
        .map(|n| Stored {
            number: 0,
            write: Write::Ended {
                job: JobId(1_000_000),
                indices: RoaringBitmap::from_iter([n]),
                rank: Rank(u64::from(n)),
                end: End::Succeeded,
                attempt: Attempt(1),
                detail: detail.clone(),
                blob: None,
                worker: Some("a-worker-with-a-long-name".into()),
                wall: WallTime(1_700_000_000_000 + u64::from(n) / 10),
            },
        })
        .collect();
    let each = encode(&facts).len() / facts.len();
    assert!(each <= 40 + 8, "{each}");
}

#[test]
fn uniform_ends_are_ranges() {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..4_000_000_000);
    let Write::Ended { job, rank, end, attempt, detail, blob, worker, wall, .. } =
        facts().swap_remove(5).write
    else {
        panic!("the sixth fact is a multiple end")
    };
    let write = Write::Ended { job, indices: all, rank, end, attempt, detail, blob, worker, wall };
    // One run for each 65,536 indices.
    assert!(encode(&[Stored { write, number: 0 }]).len() < 1_300_000);
}

#[test]
fn the_current_encoding_is_the_sample() {
    for (sample, facts) in [(SAMPLE_1, facts()), (SAMPLE_2, calls()), (SAMPLE_4, limited())] {
        let hex: String = encode(&facts).iter().map(|b| format!("{b:02x}")).collect();
        let sample: String = sample.chars().filter(char::is_ascii_hexdigit).collect();
        assert_eq!(
            hex, sample,
            "the encoding changed: a stored sample of the new one is needed beside the old one"
        );
    }
}
