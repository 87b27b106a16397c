//! After the last mishap: everybody is served and everything must end.

use std::sync::Arc;

use taskq_core::{
    event::{Act, Event, QueueAct},
    id::{Timestamp, WorkerId},
};

use super::{Asked, NAMES, QUEUES, World};
use crate::worker::Worker;

impl World {
    /// No more mishaps: whoever waits is served, and time passes.
    pub(super) fn heal(&mut self) {
        for name in QUEUES {
            let request = self.request(Asked::Other);
            self.step(Event::Queue { request, name: Arc::from(name), act: QueueAct::Resume });
        }
        for job in self.policies.keys().copied().collect::<Vec<_>>() {
            let request = self.request(Asked::Other);
            self.step(Event::Act { request, job, act: Act::Resume, dry_run: false });
        }
        for round in 0..400 {
            while !self.pipeline.is_empty() {
                self.sync();
            }
            if self.audit.open_jobs() == 0 {
                return;
            }
            for name in NAMES {
                self.heal_worker(name, round);
            }
            self.pass(25);
        }
    }

    fn heal_worker(&mut self, name: &str, round: usize) {
        self.settle(name);
        match self.workers.iter_mut().find(|worker| *worker.name == *name) {
            Some(worker) => {
                worker.start(&self.policies, &mut self.audit);
                worker.finish(&mut self.rng, &self.policies, self.calm || round > 100);
                worker.flush();
                worker.leave();
            }
            None => {
                self.next += 1;
                let mut worker = Worker::new(WorkerId(self.next), name, &mut self.rng, Timestamp(self.now));
                worker.widen();
                self.workers.push(worker);
            }
        }
    }
}
