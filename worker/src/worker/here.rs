//! What happens here: tasks start and end, wait too long, must stop; reports go out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Interval};
use tracing::{info, warn};

use super::{Drainer, PATIENCE, Phase, Runner, Worker};
use crate::attempt::Key;
use crate::clock;
use crate::outbox::{Event, Report};
use crate::runner::{self, Stop};

impl Worker {
    pub(super) fn start_what_fits(&mut self) {
        if self.safe_until.is_some_and(|until| until <= clock::since_boot()) {
            return;
        }
        while let Some((task, slot)) = self.slots.start() {
            let key = task.key;
            let (stop, stopped) = watch::channel(None);
            self.runners.insert(key, Runner { stop, dropped: false });
            self.tasks.spawn(runner::run(Arc::clone(&self.context), task, slot, stopped));
        }
    }

    pub(super) fn happened(&mut self, report: Report) {
        let dropped = self.runners.get(&report.key).is_none_or(|runner| runner.dropped);
        if let Event::Ended(_) = report.event {
            self.runners.remove(&report.key);
            self.slots.end(report.key);
        }
        if !dropped {
            self.outbox.push(report);
        }
    }

    /// One message, for which there is room. That the worker drains comes before what it gives back for that: nothing is
    /// to come in its place.
    pub(super) fn send(&mut self) {
        if self.must_tell {
            self.beat();
        } else if let Some(link) = &mut self.link {
            let reports = self.outbox.take(link.outgoing.next_seq());
            if !reports.is_empty() {
                link.sending();
                link.outgoing.reports(reports);
                link.heartbeat.iter_mut().for_each(Interval::reset);
            }
        }
    }

    pub(super) fn beat(&mut self) {
        if let Some(link) = &mut self.link {
            link.sending();
            let told = link.outgoing.heartbeat(self.phase > Phase::Working);
            self.must_tell &= !told;
        }
    }

    pub(super) fn give_back_one(&mut self, key: Key, reason: &'static str) {
        self.outbox.push(Report { key, event: Event::Returned { reason } });
    }

    pub(super) fn give_back(&mut self) {
        for key in self.slots.give_back(Instant::now().into_std(), PATIENCE) {
            self.give_back_one(key, "it waited behind long tasks");
        }
        self.give_back_at = self.slots.oldest().map(|since| Instant::from_std(since) + PATIENCE);
    }

    pub(super) fn fence(&mut self) {
        warn!(
            "no word of the coordinator for as long as the lease: what runs is killed, as others may run it now"
        );
        self.fence_at = None;
        for key in self.slots.give_back(Instant::now().into_std(), Duration::ZERO) {
            self.give_back_one(key, "the worker lost its lease");
        }
    }

    pub(super) fn drain(&mut self, by: Drainer) {
        if self.phase == Phase::Working {
            info!(running = self.runners.len(), "draining, as {by}: finishing what runs");
            self.phase = Phase::Draining;
            self.drainer = Some(by);
            self.must_tell = true;
            for key in self.slots.give_back(Instant::now().into_std(), Duration::ZERO) {
                self.give_back_one(key, "the worker drains");
            }
        }
    }

    pub(super) fn stop(&mut self) {
        self.drain(Drainer::Here);
        info!(running = self.runners.len(), "stopping what runs");
        self.phase = Phase::Stopping;
        for runner in self.runners.values() {
            runner.stop.send_if_modified(|stop| {
                let first = stop.is_none();
                stop.get_or_insert(Stop::Preempted);
                first
            });
        }
    }
}
