//! Random histories: the durable store, closed, killed and tidied at random, says at every moment what a plain store in
//! memory says. `TASKQ_SEED` plays one history again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use std::collections::BTreeMap;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use roaring::RoaringBitmap;
use store_support::*;
use taskq_core::{
    effect::Write,
    id::{JobId, WallTime, WorkerId},
};
use taskq_server::store::{MemoryStore, Store};

const HISTORIES: u64 = 15;
const STEPS: usize = 120;

/// What the history knows of a job, to say only what a core would say.
#[derive(Default)]
struct Known {
    total: u32,
    ended: RoaringBitmap,
    attempts: BTreeMap<u32, u32>,
    revision: u64,
    over: bool,
}

struct History {
    random: StdRng,
    jobs: BTreeMap<u64, Known>,
    next_job: u64,
    clock: u64,
    revision: u64,
    workers: Vec<u64>,
}

impl History {
    fn batch(&mut self) -> Vec<Write> {
        let size = *[1, 1, 1, 2, 5, 40].get(self.random.random_range(0..6)).unwrap();
        (0..size).flat_map(|_| self.fact()).collect()
    }

    fn fact(&mut self) -> Vec<Write> {
        self.clock += 1;
        let pick = self.random.random_range(0..100);
        let live: Vec<u64> = self.jobs.iter().filter(|(_, j)| !j.over).map(|(id, _)| *id).collect();
        if pick < 20 || live.is_empty() {
            return vec![self.submit()];
        }
        if pick >= 94 {
            return self.forget();
        }
        let id = live[self.random.random_range(0..live.len())];
        match pick {
            20..50 => self.end(id),
            50..60 => vec![self.attempt(id)],
            60..72 => {
                let size = *[3, 50, 3000, 70_000].get(self.random.random_range(0..4)).unwrap();
                let index = self.random.random_range(0..self.jobs[&id].total);
                vec![output(id, index, self.clock, vec![b'o'; size])]
            }
            72..80 => {
                let job = self.jobs.get_mut(&id).unwrap();
                job.revision += 1;
                vec![switches(id, job.revision, self.clock.is_multiple_of(2))]
            }
            80..84 => {
                self.revision += 1;
                vec![queue(
                    if self.clock.is_multiple_of(3) { "a" } else { "b" },
                    self.revision,
                    self.clock.is_multiple_of(2),
                )]
            }
            84..88 => {
                self.workers.push(self.clock);
                vec![seen(self.clock)]
            }
            88..90 => self.workers.pop().map(|w| Write::WorkerGone(WorkerId(w))).into_iter().collect(),
            90..92 => vec![epoch(self.clock)],
            _ => self.sweep(id),
        }
    }

    fn submit(&mut self) -> Write {
        self.next_job += 1;
        let total = *[1, 1, 1, 5, 300].get(self.random.random_range(0..5)).unwrap();
        let mut new = job(self.next_job, total);
        if self.random.random_bool(0.2) {
            new.key = key(&format!("k{}", self.next_job));
        }
        if self.random.random_bool(0.3) {
            new.repeat = Some([3; 16]);
        }
        if self.random.random_bool(0.05) {
            new.spec = vec![b's'; 150_000].into();
        }
        self.jobs.insert(self.next_job, Known { total, ..Known::default() });
        Write::Submitted(new)
    }

    fn end(&mut self, id: u64) -> Vec<Write> {
        let job = self.jobs.get_mut(&id).unwrap();
        let index = (0..job.total).find(|i| !job.ended.contains(*i)).unwrap();
        let rank = job.ended.len();
        job.ended.insert(index);
        let mut facts = vec![ended(id, index, rank, &"d".repeat(self.random.random_range(0..300)))];
        facts.extend(self.over(id));
        facts
    }

    fn sweep(&mut self, id: u64) -> Vec<Write> {
        let job = self.jobs.get_mut(&id).unwrap();
        let rest = RoaringBitmap::from_iter(0..job.total) - &job.ended;
        let rank = job.ended.len();
        job.ended |= &rest;
        let mut facts = vec![swept(id, rest, rank)];
        facts.extend(self.over(id));
        facts
    }

    fn over(&mut self, id: u64) -> Option<Write> {
        let job = self.jobs.get_mut(&id).unwrap();
        job.over = job.ended.len() == u64::from(job.total);
        job.over.then(|| job_ended(id, 1_000_000 + self.clock))
    }

    fn attempt(&mut self, id: u64) -> Write {
        let job = self.jobs.get_mut(&id).unwrap();
        let index = (0..job.total).find(|i| !job.ended.contains(*i)).unwrap();
        let number = job.attempts.entry(index).or_default();
        *number += 1;
        attempt(id, index, *number, if self.clock.is_multiple_of(3) { "" } else { "outcome" })
    }

    fn forget(&mut self) -> Vec<Write> {
        let over: Vec<u64> = self.jobs.iter().filter(|(_, j)| j.over).map(|(id, _)| *id).collect();
        over.first()
            .map(|id| {
                self.jobs.remove(id);
                Write::JobGone(JobId(*id))
            })
            .into_iter()
            .collect()
    }
}

fn compare(history: &History, model: &dyn Store, any: &Any) {
    let store = any.store();
    assert_eq!(loaded(model), loaded(store));
    for id in 1..=history.next_job + 1 {
        let total = history.jobs.get(&id).map_or(1, |j| j.total);
        assert_eq!(told(model, id, total), told(store, id, total), "job {id}");
    }
    assert_eq!(model.ended_jobs(None, 1000), store.ended_jobs(None, 1000));
    let now = WallTime(1_000_000 + history.clock);
    assert_eq!(model.expired(now, &keep(5), 20), store.expired(now, &keep(5), 20));
}

/// Returns how many commits housekeeping has removed.
fn play(seed: u64) -> u64 {
    let mut history = History {
        random: StdRng::seed_from_u64(seed),
        jobs: BTreeMap::new(),
        next_job: 0,
        clock: 0,
        revision: 0,
        workers: Vec::new(),
    };
    let model = MemoryStore::default();
    let mut any = Any::log();
    for _ in 0..STEPS {
        let batch = history.batch();
        model.commit(&batch).unwrap();
        any.commit(&batch);
        match history.random.next_u32() % 40 {
            0 => any.reopen(),
            1 => any.crash(),
            2 => compare(&history, &model, &any),
            _ => {}
        }
    }
    compare(&history, &model, &any);
    any.reopen();
    compare(&history, &model, &any);
    let Any::Log(Some(store), ..) = &any else { panic!("a history runs on a log") };
    STEPS as u64 - store.shape()[0]
}

#[test]
fn random_histories_agree_with_a_plain_store() {
    if let Ok(seed) = std::env::var("TASKQ_SEED") {
        play(seed.parse().unwrap());
        return;
    }
    let first = u64::from(std::process::id()) << 16;
    let mut removed = 0;
    for seed in first..first + HISTORIES {
        println!("TASKQ_SEED={seed}");
        removed += play(seed);
    }
    assert!(removed > HISTORIES * 5, "housekeeping took no part: {removed}");
}
