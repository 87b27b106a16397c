//! Users who submit without pause and know exactly what was acknowledged to them.

use crate::{Access, Api, Seed, spec, wait};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use taskq_proto::v1 as pb;
use tonic::{Code, Status};

/// Acknowledged jobs: id and number of tasks.
pub type Acked = BTreeMap<u64, u32>;

/// Some threads that submit jobs until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<Mutex<Acked>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `threads` users. Each submits what `make` says, waits up to `pace_ms`, and submits again; a submit
    /// whose outcome is unknown is repeated under its request id until it is acknowledged.
    pub fn start<F>(access: &Access, threads: u32, seed: &mut Seed, pace_ms: u64, make: F) -> Self
    where
        F: Fn(&mut Seed) -> Vec<pb::JobSpec> + Clone + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(Mutex::new(Acked::new()));
        let users = (0..threads).map(|_| {
            let (access, make, mut seed) = (access.clone(), make.clone(), seed.fork());
            let (stop, acked) = (Arc::clone(&stop), Arc::clone(&acked));
            thread::spawn(move || {
                let api = Api::connect(&access);
                while !stop.load(Ordering::SeqCst) {
                    submit(&api, make(&mut seed), &mut seed, &acked);
                    wait::random_moment(seed.millis(0, pace_ms));
                }
            })
        });
        let threads = users.collect();
        Self { stop, acked, threads }
    }

    /// What is acknowledged by now.
    pub fn acked(&self) -> Acked {
        self.acked.lock().expect("no user panics with this lock").clone()
    }

    /// Lets each user finish its submit; everything that was acknowledged.
    #[track_caller]
    pub fn stop(mut self) -> Acked {
        self.stop.store(true, Ordering::SeqCst);
        for user in self.threads.drain(..) {
            assert!(user.join().is_ok(), "a user met an error that it must not meet; see above");
        }
        self.acked()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn submit(api: &Api, jobs: Vec<pb::JobSpec>, seed: &mut Seed, acked: &Mutex<Acked>) {
    let tasks: Vec<u32> = jobs.iter().map(task_count).collect();
    let request = spec::request(jobs);
    let ids = until_acked(api, &request);
    assert_eq!(ids.len(), tasks.len(), "one id for each job");
    if seed.once_in(10) {
        assert_eq!(
            until_acked(api, &request),
            ids,
            "a repeated request is answered with the first call's ids"
        );
    }
    let mut acked = acked.lock().expect("no user panics with this lock");
    for (id, tasks) in ids.into_iter().zip(tasks) {
        assert_eq!(acked.insert(id, tasks), None, "job id {id} was given out twice");
    }
}

fn until_acked(api: &Api, request: &pb::SubmitRequest) -> Vec<u64> {
    wait::until("a submit is acknowledged", || match api.submit(request) {
        Ok(ids) => Some(ids),
        Err(status) => {
            assert!(is_transient(&status), "a submit was refused: {status}");
            None
        }
    })
}

/// True for what a client meets while the coordinator is down or going down.
pub fn is_transient(status: &Status) -> bool {
    use Code::{Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown};
    matches!(
        status.code(),
        Unavailable | Unknown | Cancelled | DeadlineExceeded | Internal | ResourceExhausted
    )
}

fn task_count(spec: &pb::JobSpec) -> u32 {
    let Some(elements) = &spec.elements else { return 1 };
    let values = elements.sources.first().and_then(|source| source.values.as_ref());
    match values {
        Some(pb::source::Values::Range(range)) => range.count,
        Some(pb::source::Values::Table(table)) => table.fields.len() as u32,
        Some(pb::source::Values::Blob(_)) | None => 1,
    }
}
