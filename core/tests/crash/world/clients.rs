//! What clients do: submit, repeat a call, act on jobs and queues.

use super::*;

impl World {
    pub(super) fn request(&mut self, asked: Asked) -> RequestId {
        self.next += 1;
        self.requests.insert(RequestId(self.next), asked);
        RequestId(self.next)
    }

    pub(super) fn submit(&mut self) {
        if self.policies.len() > 12 {
            return;
        }
        self.next += 1;
        let mut repeat = [0; 16];
        repeat[..8].copy_from_slice(&self.next.to_le_bytes());
        let jobs: Vec<NewJob> = (0..1 + self.rng.below(2)).map(|_| self.job()).collect();
        self.send_submit(repeat, jobs);
    }

    pub(super) fn send_submit(&mut self, repeat: [u8; 16], jobs: Vec<NewJob>) {
        let request = self.request(Asked::Submit { repeat, jobs: jobs.clone() });
        self.step(Event::Submit { request, repeat: Some(repeat), jobs });
    }

    /// A client that got no answer asks again; one that got one may do so too.
    pub(super) fn repeat(&mut self) {
        let open: Vec<([u8; 16], Vec<NewJob>)> = self
            .requests
            .values()
            .filter_map(|asked| match asked {
                Asked::Submit { repeat, jobs } => Some((*repeat, jobs.clone())),
                Asked::Cancel { .. } | Asked::Other => None,
            })
            .collect();
        if let Some((repeat, jobs)) = self.rng.pick(&open).cloned() {
            self.send_submit(repeat, jobs);
        }
    }

    pub(super) fn job(&mut self) -> NewJob {
        let rng = &mut self.rng;
        let total = 1 + rng.below(6) as u32;
        let only =
            (rng.one_in(5)).then(|| RoaringBitmap::from_iter((0..total).filter(|index| index % 2 == 0)));
        let policy = Policy {
            queue: Arc::from(QUEUES[rng.below(2) as usize]),
            priority: rng.below(3) as i32,
            shape: Shape {
                function: rng.pick(&FUNCTIONS).copied().flatten().map(Arc::from),
                slots: if rng.one_in(4) { 2 } else { 1 },
                ..Shape::default()
            },
            retry: Retry {
                max_attempts: 1 + rng.below(3) as u32,
                initial: Millis(rng.below(30)),
                multiplier_milli: 2_000,
                max: Millis(60),
                exit_codes: if rng.one_in(2) { vec![1] } else { Vec::new() },
            },
            timeout: rng.one_in(4).then_some(Millis(1_000_000)),
            kill_grace: Millis(10),
            crash_limit: 1 + rng.below(3) as u32,
            max_parallel: rng.one_in(4).then(|| 1 + rng.below(2) as u32),
            max_fails: rng.one_in(4).then(|| rng.below(2) as u32),
            keep: None,
        };
        let key =
            rng.one_in(4).then(|| Key { text: Arc::from(format!("k{}", rng.below(4))), digest: [0; 32] });
        NewJob { policy, total, only, key, rerun_of: None, spec: Bytes::new() }
    }

    pub(super) fn client_act(&mut self) {
        let jobs: Vec<JobId> = self.policies.keys().copied().collect();
        let Some(&job) = self.rng.pick(&jobs) else { return };
        let submitted = &self.audit.jobs[&job].submitted;
        let tasks: Vec<u32> = match &submitted.only {
            Some(only) => only.iter().collect(),
            None => (0..submitted.total).collect(),
        };
        let (act, asked) = match self.rng.below(4) {
            0 => (Act::Cancel(None), Asked::Cancel { job, tasks }),
            1 => {
                let some: Vec<u32> = tasks.into_iter().filter(|_| self.rng.one_in(2)).collect();
                (Act::Cancel(Some(some.iter().copied().collect())), Asked::Cancel { job, tasks: some })
            }
            2 => (Act::Pause, Asked::Other),
            _ => (Act::Resume, Asked::Other),
        };
        let request = self.request(asked);
        self.step(Event::Act { request, job, act, dry_run: false });
        let request = self.request(Asked::Other);
        self.step(Event::Wait { request, job, timeout: Millis(self.now % 50) });
    }

    pub(super) fn queue_act(&mut self) {
        let name = Arc::from(QUEUES[self.rng.below(2) as usize]);
        let act = match self.rng.below(12) {
            0 => QueueAct::Purge { dry_run: false },
            1..=4 => QueueAct::Pause,
            _ => QueueAct::Resume,
        };
        if self.calm && matches!(act, QueueAct::Purge { .. }) {
            return;
        }
        let request = self.request(Asked::Other);
        self.step(Event::Queue { request, name, act });
    }
}
