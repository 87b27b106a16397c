//! Do the facts fit together? Each job must have its submission, its ends without a gap, all of them if it has ended, and its
//! output without a gap. What does not is lost, wherever that happened.

use std::collections::{BTreeMap, BTreeSet};

use taskq_core::{id::JobId, job::End};

use crate::store::codec::{self, record::Body};

/// What is known of all jobs.
#[derive(Debug, Default)]
pub(super) struct Audit {
    jobs: BTreeMap<u64, Seen>,
    /// Blobs that outcomes need.
    wanted: BTreeSet<(u64, [u8; 32])>,
    /// The highest id that was met.
    highest: u64,
    /// The highest.
    pub(super) epoch: u64,
}

/// What is known of one.
#[derive(Debug, Default)]
pub(super) struct Seen {
    submitted: bool,
    /// How many of its tasks ended, as its end says.
    ended: Option<u64>,
    pub(super) ranks: Spans,
    /// How those ended: succeeded, failed, cancelled, skipped.
    pub(super) kinds: [u32; 4],
    pub(super) outputs: Spans,
}

impl Audit {
    /// Takes a fact in.
    pub(super) fn add(&mut self, body: &Body) -> Result<(), codec::Error> {
        match body {
            Body::Epoch(epoch) => self.epoch = self.epoch.max(*epoch),
            Body::Submitted(submitted) => {
                self.highest = self.highest.max(submitted.id);
                self.job(submitted.id).submitted = true;
            }
            Body::Ends(ends) => {
                for item in codec::kinds(ends) {
                    let (rank, tasks, end) = item?;
                    let job = self.job(ends.job);
                    let new = job.ranks.insert(rank, rank.saturating_add(tasks));
                    let kind = &mut job.kinds[place(end)];
                    *kind = kind.saturating_add(u32::try_from(new).unwrap_or(u32::MAX));
                }
                self.wanted.extend(codec::blobs(ends).map(|blob| (ends.job, blob)));
            }
            Body::JobEnded(ended) => {
                let tasks = [ended.succeeded, ended.failed, ended.cancelled, ended.skipped];
                self.job(ended.job).ended = Some(tasks.into_iter().map(u64::from).sum());
            }
            Body::Output(output) => {
                self.job(output.job).outputs.insert(output.number, output.number.saturating_add(1));
            }
            Body::Attempt(attempt) => _ = self.job(attempt.job),
            Body::Job(switches) => _ = self.job(switches.job),
            Body::JobGone(job) => {
                self.jobs.remove(job);
                let own: Vec<_> = self.wanted.range((*job, [0; 32])..=(*job, [0xff; 32])).copied().collect();
                own.iter().for_each(|blob| _ = self.wanted.remove(blob));
            }
            Body::Queue(_) | Body::WorkerSeen(_) | Body::WorkerGone(_) => {}
        }
        Ok(())
    }

    /// Jobs that are there.
    pub(super) fn jobs(&self) -> u64 {
        self.jobs.values().filter(|seen| seen.submitted).count() as u64
    }

    /// The highest id of a job that is there, or was.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// A job that can be used.
    pub(super) fn kept(&self, job: u64) -> Option<&Seen> {
        self.jobs.get(&job).filter(|seen| seen.submitted)
    }

    /// What is lost, job by job, where only these blobs are there; `None` if it is known that some are not.
    pub(super) fn lost(&self, blobs: Option<&BTreeSet<[u8; 32]>>) -> Vec<(JobId, String)> {
        let mut lost = Vec::new();
        for (id, seen) in &self.jobs {
            let mut say = |what: String| lost.push((JobId(*id), what));
            if !seen.submitted {
                say("what was submitted is lost, and with it the job".to_owned());
                continue;
            }
            let (there, all) = (seen.ranks.len(), seen.ended.unwrap_or(seen.ranks.end()));
            match seen.ended {
                Some(_) if there < all => {
                    say(format!("the ends of {} of its {all} tasks are lost", all - there))
                }
                None if there < all => {
                    say(format!("the ends of {} tasks or more are lost; they would run again", all - there))
                }
                Some(_) | None if there > all => say(format!("{there} tasks ended, and it says {all}")),
                Some(_) | None => {}
            }
            let pieces = seen.outputs.end() - seen.outputs.len();
            if pieces > 0 {
                say(format!("{pieces} pieces of its output are lost"));
            }
        }
        for (job, blob) in &self.wanted {
            if blobs.is_some_and(|blobs| !blobs.contains(blob)) {
                let name: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
                lost.push((JobId(*job), format!("a value that it returned is lost (blob {name})")));
            }
        }
        lost
    }

    fn job(&mut self, id: u64) -> &mut Seen {
        self.jobs.entry(id).or_default()
    }
}

fn place(end: End) -> usize {
    match end {
        End::Succeeded => 0,
        End::Failed => 1,
        End::Cancelled => 2,
        End::Skipped => 3,
    }
}

/// A set of numbers that mostly follow each other: sorted stretches, from and to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spans(Vec<(u64, u64)>);

impl Spans {
    /// Adds a stretch; how many of it were not there.
    pub(super) fn insert(&mut self, from: u64, to: u64) -> u64 {
        let before = self.len();
        // Those that overlap it or touch it become one with it.
        let first = self.0.partition_point(|(_, end)| *end < from);
        let last = self.0.partition_point(|(start, _)| *start <= to);
        let merged = self.0[first..last].iter().fold((from, to), |(a, b), (c, d)| (a.min(*c), b.max(*d)));
        self.0.splice(first..last, [merged]);
        self.len() - before
    }

    /// How many.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// One more than the highest.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |(_, to)| *to)
    }

    /// How many are below.
    pub(super) fn below(&self, number: u64) -> u64 {
        let below = self.0.iter().take_while(|(from, _)| *from < number);
        below.map(|(from, to)| number.min(*to) - from).sum()
    }
}
