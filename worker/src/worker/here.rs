//! What happens here: tasks start and end, wait too long, must stop; reports go out.

use std::time::Duration;

use tokio::time::{Instant, Interval};
use tracing::{info, warn};

use super::{Drainer, Loop, PATIENCE, Phase, Running};
use crate::attempt::{Key, Outcome};
use crate::clock;
use crate::outbox::{Event, Report};
use crate::runtime::{News as Told, Stop};

impl Loop {
    pub(super) fn start_what_fits(&mut self) {
        if self.safe_until.is_some_and(|until| until <= clock::since_boot()) {
            return;
        }
        while let Some((task, slot)) = self.slots.start() {
            let key = task.key;
            let attempt = self.runtimes.begin(task, slot);
            self.running.insert(key, Running { attempt, dropped: false });
        }
    }

    pub(super) fn happened(&mut self, news: Told) {
        match news {
            Told::Report(Report { key, event: Event::Ended(outcome) }) => self.ended(key, outcome),
            Told::Report(report) => {
                if !self.is_dropped(report.key) {
                    self.outbox.push(report);
                }
            }
            Told::StillBusy(key, outcome) => {
                let dropped = self.leave(key);
                self.slots.end_busy(key);
                if dropped {
                    self.must_tell = true;
                } else {
                    self.outbox.push(Report { key, event: Event::Ended(outcome) });
                }
            }
            Told::Returned(key) => {
                self.slots.returned(key);
                self.must_tell = true;
            }
        }
    }

    fn ended(&mut self, key: Key, outcome: Box<Outcome>) {
        let dropped = self.leave(key);
        if !dropped && outcome.value.len() > taskq_proto::INLINE_VALUE_BYTES {
            self.store(key, outcome, true);
            return;
        }
        self.slots.end(key);
        if !dropped {
            self.outbox.push(Report { key, event: Event::Ended(outcome) });
        }
    }

    fn is_dropped(&self, key: Key) -> bool {
        self.running.get(&key).is_none_or(|running| running.dropped)
    }

    /// Lets go of an attempt that has ended; true if that is nobody's business.
    fn leave(&mut self, key: Key) -> bool {
        self.running.remove(&key).is_none_or(|running| running.dropped)
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
                link.outgoing.busy = self.slots.busy();
                link.outgoing.reports(reports);
                link.heartbeat.iter_mut().for_each(Interval::reset);
            }
        }
    }

    pub(super) fn beat(&mut self) {
        if let Some(link) = &mut self.link {
            link.sending();
            link.outgoing.busy = self.slots.busy();
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
            info!(running = self.running.len(), "draining, as {by}: finishing what runs");
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
        info!(running = self.running.len(), "stopping what runs");
        self.phase = Phase::Stopping;
        for running in self.running.values() {
            running.attempt.stop(Stop::Preempted);
        }
    }
}
