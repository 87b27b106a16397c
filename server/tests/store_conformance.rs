//! One suite for every store: what is written is read back, also after it was closed and opened again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use bytes::Bytes;
use roaring::RoaringBitmap;
use store_support::*;
use taskq_core::{
    effect::Write,
    id::{Attempt, JobId, Millis, Rank, TaskId, WallTime, WorkerId},
    job::Policy,
};
use taskq_server::store::{EarlierAttempt, Lookup, Store};

/// Runs a check on each store, as it is and after opening it again.
fn on_each(write: impl Fn(&Any), check: impl Fn(&dyn Store)) {
    for mut any in Any::both() {
        write(&any);
        check(any.store());
        any.reopen();
        check(any.store());
    }
}

#[test]
fn an_empty_store_knows_nothing() {
    on_each(
        |_| {},
        |store| {
            assert_eq!(loaded(store), (JobId(0), vec![]));
            assert!(matches!(store.submitted(JobId(1)), Err(Lookup::Unknown(JobId(1)))));
            assert!(matches!(store.submitted(JobId(0)), Err(Lookup::Unknown(JobId(0)))));
            assert_eq!(store.ended_jobs(None, 10), vec![]);
            assert_eq!(store.usage().kept_jobs, 0);
        },
    );
}

#[test]
fn a_submission_is_read_back_whole() {
    let mut rerun = job(2, 500);
    rerun.only = Some(RoaringBitmap::from_iter(100..200));
    rerun.rerun_of = Some(JobId(1));
    rerun.key = key("nightly");
    rerun.repeat = Some([9; 16]);
    rerun.place = (3, 5);
    let full = rerun.clone();
    on_each(
        |any| any.commit(&[submit(1, 1), Write::Submitted(full.clone())]),
        |store| {
            let record = store.submitted(JobId(2)).unwrap();
            assert_eq!((record.spec, record.total), (Bytes::from("spec of 2"), 500));
            assert_eq!((record.only, record.rerun_of), (rerun.only.clone(), Some(JobId(1))));
            assert_eq!(record.wall, WallTime(1_700_000_000_002));
            let mut facts = Vec::new();
            assert_eq!(store.load(&mut |w| facts.push(w)).unwrap(), JobId(2));
            let mut bare = rerun.clone();
            bare.spec = Bytes::new();
            assert!(facts.contains(&Write::Submitted(bare)), "{facts:?}");
        },
    );
}

#[test]
fn a_policy_with_every_field_empty_is_read_back() {
    let mut plain = job(1, 1);
    plain.policy = std::sync::Arc::new(Policy { timeout: None, max_parallel: None, ..policy() });
    let expected = plain.policy.clone();
    on_each(
        |any| any.commit(&[Write::Submitted(plain.clone())]),
        |store| {
            let mut seen = None;
            store
                .load(&mut |w| {
                    if let Write::Submitted(s) = w {
                        seen = Some(s.policy);
                    }
                })
                .unwrap();
            assert_eq!(seen, Some(expected.clone()));
        },
    );
}

#[test]
fn the_latest_fact_counts_in_any_order() {
    on_each(
        |any| {
            any.commit(&[
                epoch(2),
                submit(1, 4),
                switches(1, 5, true),
                queue("q", 7, true),
                attempt(1, 0, 3, "c"),
            ]);
            any.commit(&[epoch(1), switches(1, 4, false), queue("q", 6, false), attempt(1, 0, 2, "b")]);
            any.commit(&[seen(11), seen(12), Write::WorkerGone(WorkerId(11))]);
        },
        |store| {
            let (_, facts) = loaded(store);
            let text = facts.join("\n");
            assert_eq!(facts.len(), 6, "{text}");
            for part in ["Epoch(Epoch(2))", "revision: 5", "revision: 7", "Attempt(3)", "WorkerId(12)"] {
                assert!(text.contains(part), "{part} is missing in {text}");
            }
        },
    );
}

#[test]
fn attempts_of_ended_tasks_and_of_ended_jobs_are_not_loaded() {
    on_each(
        |any| {
            any.commit(&[
                submit(1, 2),
                submit(2, 1),
                attempt(1, 0, 1, "x"),
                attempt(1, 1, 1, ""),
                attempt(2, 0, 1, "y"),
            ]);
            any.commit(&[ended(1, 0, 0, "done"), ended(2, 0, 0, "done"), job_ended(2, 1000)]);
        },
        |store| {
            let (_, facts) = loaded(store);
            let attempts: Vec<&String> = facts.iter().filter(|f| f.starts_with("Attempt")).collect();
            assert_eq!(attempts.len(), 1, "{facts:?}");
            assert!(attempts[0].contains("index: 1"));
            assert_eq!(
                store.attempts(TaskId { job: JobId(2), index: 0 }).unwrap(),
                vec![EarlierAttempt { attempt: Attempt(1), detail: Bytes::from("y"), worker: "w1".into() }]
            );
        },
    );
}

#[test]
fn a_task_keeps_the_outcomes_of_its_newest_attempts() {
    on_each(
        |any| {
            any.commit(&[submit(1, 1)]);
            for n in 1..=50 {
                any.commit(&[attempt(1, 0, n, if n % 10 == 0 { "" } else { "why" })]);
            }
        },
        |store| {
            let kept = store.attempts(TaskId { job: JobId(1), index: 0 }).unwrap();
            let numbers: Vec<u32> = kept.iter().map(|earlier| earlier.attempt.0).collect();
            assert!(numbers.is_sorted() && numbers.len() >= 28 && numbers.len() <= 32, "{numbers:?}");
            assert_eq!(numbers.last(), Some(&49));
            assert!(loaded(store).1.iter().any(|f| f.contains("attempt: Attempt(50)")));
        },
    );
}

#[test]
fn ends_come_by_rank_and_by_index() {
    on_each(
        |any| {
            any.commit(&[submit(1, 3000), ended(1, 5, 0, "five"), ended(1, 3, 1, "three")]);
            any.commit(&[swept(1, RoaringBitmap::from_iter(1000..2000), 2), ended(1, 4, 1002, "four")]);
        },
        |store| {
            let first: Vec<u32> = store.ends(JobId(1), Rank(0), 4).unwrap().iter().map(|t| t.index).collect();
            assert_eq!(first, [5, 3, 1000, 1001]);
            let last = store.ends(JobId(1), Rank(1001), 10).unwrap();
            assert_eq!(
                last.iter().map(|t| (t.index, t.rank.0)).collect::<Vec<_>>(),
                [(1999, 1001), (4, 1002)]
            );
            assert_eq!(store.ends(JobId(1), Rank(1003), 10).unwrap(), vec![]);
            assert_eq!(store.ends(JobId(1), Rank(u64::MAX), 10).unwrap(), vec![]);
            let set = RoaringBitmap::from_iter([0, 3, 5, 1500, 2500]);
            let of: Vec<_> = store.ends_of(JobId(1), &set, 10).unwrap();
            assert_eq!(
                of.iter().map(|t| (t.index, t.rank.0)).collect::<Vec<_>>(),
                [(3, 1), (5, 0), (1500, 502)]
            );
            assert_eq!(of[0].detail, "three");
            assert_eq!(of[0].worker, "worker-0");
            assert_eq!(store.ends_of(JobId(1), &set, 1).unwrap().len(), 1);
        },
    );
}

#[test]
fn a_page_of_ends_is_bounded_in_bytes() {
    let big = "x".repeat(100_000);
    on_each(
        |any| {
            any.commit(&[submit(1, 50)]);
            any.commit(&(0..50).map(|i| ended(1, i, u64::from(i), &big)).collect::<Vec<_>>());
        },
        |store| {
            let page = store.ends(JobId(1), Rank(0), 1000).unwrap();
            let bytes: usize = page.iter().map(|t| t.detail.len()).sum();
            assert!((1_000_000..3_000_000).contains(&bytes), "{bytes}");
        },
    );
}

#[test]
fn billions_of_tasks_can_end_at_once() {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..4_000_000_000);
    on_each(
        |any| any.commit(&[submit(1, 4_000_000_000), swept(1, all.clone(), 0), job_ended(1, 5)]),
        |store| {
            let page = store.ends(JobId(1), Rank(3_999_999_998), 10).unwrap();
            assert_eq!(page.iter().map(|t| t.index).collect::<Vec<_>>(), [3_999_999_998, 3_999_999_999]);
            assert_eq!(store.ends_of(JobId(1), &all, 3).unwrap().len(), 3);
        },
    );
}

#[test]
fn output_is_read_from_any_cursor() {
    on_each(
        |any| {
            any.commit(&[
                submit(1, 2),
                submit(2, 1),
                output(1, 0, 0, "a"),
                output(2, 0, 0, "other"),
                output(1, 1, 1, "b"),
            ]);
            any.commit(&[output(1, 0, 2, vec![b'z'; 200_000])]);
        },
        |store| {
            let (pieces, end) = store.output(JobId(1), None, 0).unwrap();
            assert_eq!(pieces.iter().map(|p| p.data.len()).collect::<Vec<_>>(), [1, 1, 200_000]);
            assert_eq!(store.output(JobId(1), None, pieces[0].cursor).unwrap().0, pieces[1..]);
            assert_eq!(store.output(JobId(1), None, end).unwrap(), (vec![], end));
            assert_eq!(store.output(JobId(2), None, 0).unwrap().0[0].data, "other");
        },
    );
}

#[test]
fn output_of_some_tasks_is_theirs_alone_from_any_cursor() {
    on_each(
        |any| {
            any.commit(&[submit(1, 50)]);
            for round in 0..4 {
                let pieces: Vec<Write> =
                    (0..50).map(|task| output(1, task, round, format!("{task}/{round}"))).collect();
                any.commit(&pieces);
            }
        },
        |store| {
            let (all, _) = store.output(JobId(1), None, 0).unwrap();
            assert_eq!(all.len(), 200);
            // One, a few, most, and some that are not there: looked up by task, or picked out of all.
            for wanted in [vec![7], vec![49, 3], (1..50).collect(), (40..1_000).collect(), vec![50], vec![]] {
                let wanted: RoaringBitmap = wanted.into_iter().collect();
                let mut cursors = vec![0];
                cursors.extend(all.iter().map(|piece| piece.cursor));
                for cursor in cursors {
                    let (pieces, end) = store.output(JobId(1), Some(&wanted), cursor).unwrap();
                    let theirs = all.iter().filter(|p| p.cursor > cursor && wanted.contains(p.index));
                    assert_eq!(pieces, theirs.cloned().collect::<Vec<_>>(), "{wanted:?} from {cursor}");
                    assert_eq!(end, 200, "past the others' too");
                }
            }
        },
    );
}

#[test]
fn a_page_of_output_is_bounded_in_bytes() {
    on_each(
        |any| {
            any.commit(&[submit(1, 1)]);
            for n in 0..30 {
                any.commit(&[output(1, 0, n * 60_000, vec![b'o'; 60_000])]);
            }
        },
        |store| {
            let (mut cursor, mut all) = (0, 0);
            loop {
                let (pieces, next) = store.output(JobId(1), None, cursor).unwrap();
                assert!(pieces.len() <= 18);
                if pieces.is_empty() {
                    break;
                }
                all += pieces.len();
                cursor = next;
            }
            assert_eq!(all, 30);
        },
    );
}

#[test]
fn entries_larger_than_a_part_are_read_back() {
    let mut large = job(1, 1);
    large.spec = Bytes::from((0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<u8>>());
    on_each(
        |any| {
            any.commit(&[
                Write::Submitted(large.clone()),
                submit(2, 1),
                output(2, 0, 0, vec![b'x'; 60 << 10]),
            ])
        },
        |store| {
            assert_eq!(store.submitted(JobId(1)).unwrap().spec, large.spec);
            assert_eq!(store.submitted(JobId(2)).unwrap().spec, "spec of 2");
            assert_eq!(store.output(JobId(2), None, 0).unwrap().0[0].data.len(), 60 << 10);
        },
    );
}

#[test]
fn a_forgotten_job_is_gone_and_its_number_is_not_free() {
    on_each(
        |any| {
            any.commit(&[submit(1, 1), ended(1, 0, 0, "x"), output(1, 0, 0, "o"), job_ended(1, 10)]);
            any.commit(&[Write::JobGone(JobId(1))]);
            // A late word about it changes nothing.
            any.commit(&[output(1, 0, 1, "late"), ended(1, 0, 0, "late")]);
        },
        |store| {
            assert!(matches!(store.submitted(JobId(1)), Err(Lookup::Gone(JobId(1)))));
            assert!(matches!(store.ends(JobId(1), Rank(0), 1), Err(Lookup::Gone(_))));
            assert!(matches!(store.output(JobId(1), None, 0), Err(Lookup::Gone(_))));
            assert_eq!(loaded(store), (JobId(1), vec![]));
            assert_eq!(store.ended_jobs(None, 9), vec![]);
        },
    );
}

#[test]
fn ended_jobs_are_listed_and_loaded_if_a_repeat_could_ask_for_them() {
    let mut keyed = job(2, 1);
    keyed.key = key("k");
    let mut repeat = job(3, 1);
    repeat.repeat = Some([1; 16]);
    on_each(
        |any| {
            any.commit(&[
                submit(1, 1),
                Write::Submitted(keyed.clone()),
                Write::Submitted(repeat.clone()),
                submit(4, 1),
            ]);
            any.commit(&[job_ended(1, 10), job_ended(3, 5), job_ended(2, 7)]);
        },
        |store| {
            assert_eq!(store.ended_jobs(None, 2), [JobId(3), JobId(2)]);
            assert_eq!(store.ended_jobs(Some(JobId(3)), 9), [JobId(2), JobId(1)]);
            let end = store.job_ended(JobId(1)).unwrap().unwrap();
            assert_eq!((end.wall, end.started, end.counts.skipped), (WallTime(10), Some(WallTime(9)), 4));
            assert_eq!(store.job_ended(JobId(4)).unwrap(), None);
            assert_eq!([1, 4, 99].map(|job| store.is_live(JobId(job))), [false, true, false]);
            let (_, facts) = loaded(store);
            let has = |part: &str| facts.iter().filter(|f| f.contains(part)).count();
            assert_eq!((has("Submitted"), has("JobEnded")), (3, 2), "{facts:?}");
            assert_eq!(store.usage().kept_jobs, 3);
        },
    );
}

#[test]
fn retention_goes_by_age_number_key_and_own_term() {
    const DAY: u64 = 24 * 3600 * 1000;
    let with = |id: u64, keyed: bool, keep: Option<u64>| {
        let mut j = job(id, 1);
        j.key = if keyed { key(&format!("k{id}")) } else { None };
        j.policy = std::sync::Arc::new(Policy { keep: keep.map(Millis), ..policy() });
        Write::Submitted(j)
    };
    on_each(
        |any| {
            any.commit(&[
                with(1, false, None),
                with(2, true, None),
                with(3, false, Some(50)),
                with(4, false, None),
            ]);
            any.commit(&[job_ended(1, 1000), job_ended(2, 1000), job_ended(3, 1000), job_ended(4, 2000)]);
        },
        |store| {
            let at = |now, jobs, limit| store.expired(WallTime(now), &keep(jobs), limit);
            assert_eq!(at(1049, 10, 9), []);
            assert_eq!(at(1050, 10, 9), [JobId(3)]);
            assert_eq!(at(2000, 1, 9), [JobId(1), JobId(3)]);
            assert_eq!(at(1_001_000, 10, 9), [JobId(1), JobId(3)]);
            assert_eq!(at(1_002_000 + DAY, 10, 9), [JobId(1), JobId(2), JobId(3), JobId(4)]);
            assert_eq!(at(1_002_000 + DAY, 10, 2), [JobId(1), JobId(2)]);
        },
    );
}

#[test]
fn blobs_are_kept_under_their_digest() {
    use sha2::Digest;
    let digest: [u8; 32] = sha2::Sha256::digest(b"payload").into();
    on_each(
        |any| {
            any.store().put_blob(digest, b"payload").unwrap();
            any.store().put_blob(digest, b"payload").unwrap();
        },
        |store| {
            assert_eq!(store.blob(&digest).unwrap(), Some(Bytes::from("payload")));
            assert_eq!(store.blob(&[0; 32]).unwrap(), None);
            assert!(store.has_blob(&digest) && !store.has_blob(&[0; 32]));
        },
    );
}

#[test]
fn a_blob_that_was_just_put_there_stays_though_nobody_uses_it() {
    for any in Any::both() {
        let store = any.store();
        store.put_blob([5; 32], b"young").unwrap();
        assert_eq!(store.sweep_blobs(&|_| false).unwrap(), 0);
        assert!(store.has_blob(&[5; 32]));
    }
}

#[test]
fn without_a_disk_a_blob_goes_at_the_second_look_that_finds_it_unused() {
    let store = taskq_server::store::MemoryStore::default();
    store.put_blob([1; 32], b"used").unwrap();
    store.put_blob([2; 32], b"idle").unwrap();
    store.put_blob([3; 32], b"put again").unwrap();
    let used = |blob: &[u8; 32]| *blob == [1; 32];
    assert_eq!(store.sweep_blobs(&used).unwrap(), 0);
    store.put_blob([3; 32], b"put again").unwrap();
    assert_eq!(store.sweep_blobs(&used).unwrap(), 4);
    assert_eq!([[1; 32], [2; 32], [3; 32]].map(|blob| store.has_blob(&blob)), [true, false, true]);
}

/// The blobs of outcomes are those of kept jobs, whatever housekeeping and restarts do.
#[test]
fn blobs_of_outcomes_are_known_as_long_as_their_jobs() {
    for mut any in Any::both() {
        any.commit(&[submit(1, 3), ended_with(1, 0, 0, [1; 32]), ended(1, 1, 1, "plain")]);
        any.commit(&[ended_with(1, 2, 2, [2; 32]), job_ended(1, 2_000)]);
        any.commit(&[submit(2, 1), ended_with(2, 0, 0, [2; 32]), job_ended(2, 2_001)]);
        let blobs = |any: &Any| {
            let mut blobs = any.store().outcome_blobs();
            blobs.sort_unstable();
            blobs.dedup();
            blobs
        };
        assert_eq!(blobs(&any), [[1; 32], [2; 32]]);
        any.reopen();
        assert_eq!(blobs(&any), [[1; 32], [2; 32]]);
        any.commit(&[Write::JobGone(JobId(1))]);
        assert_eq!(blobs(&any), [[2; 32]]);
        any.reopen();
        any.commit(&[Write::JobGone(JobId(2))]);
        assert_eq!(blobs(&any), [[0; 32]; 0]);
    }
}
