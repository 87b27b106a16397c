//! What happens here: tasks start and end, wait too long, must stop; reports go out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval};
use tracing::{info, warn};

use super::{Drainer, Loop, PATIENCE, Phase, Running};
use crate::attempt::{Key, Outcome, Task};
use crate::clock;
use crate::outbox::{Event, Report};
use crate::process::Process;
use crate::runtime::{News as Told, Stop};

impl Loop {
    pub(super) fn start_what_fits(&mut self) {
        if self.safe_until.is_some_and(|until| until <= clock::since_boot()) {
            return;
        }
        while let Some((task, slot)) = self.slots.start() {
            if self.runtimes.can_follow(&task) {
                self.start_several(task, slot);
            } else {
                let key = task.key;
                let attempt = self.runtimes.begin(task, slot);
                self.running.insert(key, Running { attempt, dropped: false, function: None, behind: None });
            }
        }
    }

    /// As many calls of one function as make a handful, to be run one after another.
    fn start_several(&mut self, first: Task, slot: u32) {
        let function = Arc::clone(&first.call().expect("only calls follow").function);
        let many = self.pace.followers(&function);
        let (job, has_element) = (Arc::clone(&first.job), !first.fields.is_empty());
        let same = |task: &Task| {
            // What holds for one element of a job holds for the others.
            (Arc::ptr_eq(&task.job, &job) && has_element && !task.fields.is_empty())
                || (task.call().is_some_and(|call| call.function == function)
                    && self.runtimes.can_follow(task))
        };
        let more = self.slots.follow(first.key, many, same);
        let keys: Vec<Key> = [first.key].into_iter().chain(more.iter().map(|task| task.key)).collect();
        let attempts = self.runtimes.begin_many(first, more, slot);
        let mut behind = None;
        for (key, attempt) in keys.into_iter().zip(attempts) {
            let function = Some(Arc::clone(&function));
            self.running.insert(key, Running { attempt, dropped: false, function, behind });
            behind = Some(Instant::now());
        }
    }

    pub(super) fn happened(&mut self, news: Told) {
        match news {
            Told::Report(Report { key, event: Event::Ended(outcome) }) => self.ended(key, outcome),
            Told::Several(news) => news.into_iter().for_each(|news| self.happened(news)),
            Told::Report(report) => {
                if !self.is_dropped(report.key) {
                    self.outbox.push(report);
                }
            }
            Told::StillBusy(key, outcome) => {
                self.take_back_behind(key, "it waited behind a call that does not return");
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
        if let Some(Running { function: Some(function), .. }) = self.running.get(&key) {
            self.pace.note(function, &outcome);
            if outcome.value.len() > taskq_proto::INLINE_VALUE_BYTES {
                // Each holds its slot until its value is stored: no more of them are taken in than there are slots.
                self.pace.alone(function);
            }
        }
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
            let process = Process::look(self.outbox.all_ended());
            let told = link.outgoing.heartbeat(self.phase > Phase::Working, process);
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
        let now = Instant::now();
        let long = |running: &Running| running.behind.is_some_and(|since| now - since >= PATIENCE);
        let late: Vec<Key> =
            self.running.iter().filter_map(|(key, running)| long(running).then_some(*key)).collect();
        for key in late {
            self.take_back(key, "it waited behind long tasks");
        }
        let waiting = self.slots.oldest().map(Instant::from_std);
        let behind = self.running.values().filter_map(|running| running.behind);
        self.give_back_at = waiting.into_iter().chain(behind).min().map(|since| since + PATIENCE);
    }

    /// Gives back what waits in the slot of another one.
    fn take_back_behind(&mut self, key: Key, reason: &'static str) {
        for behind in self.slots.beside(key) {
            self.take_back(behind, reason);
        }
    }

    /// Gives back what was handed to a thread and has not begun.
    fn take_back(&mut self, key: Key, reason: &'static str) {
        let Some(running) = self.running.get_mut(&key) else { return };
        running.behind = None;
        if running.attempt.take_back() {
            let dropped = self.leave(key);
            self.slots.end(key);
            if !dropped {
                self.give_back_one(key, reason);
            }
        }
    }

    pub(super) fn fence(&mut self) {
        warn!(
            "no word of the coordinator for as long as the lease: what runs is killed, as others may run it now"
        );
        self.fence_at = None;
        self.running.values().for_each(|running| running.attempt.fence());
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

    /// One line for who looks after services.
    pub(super) fn status(&self) -> String {
        let all = self.config.slots;
        let mut status = match self.phase {
            Phase::Working => format!("{} of {all} slots busy", all - self.slots.unused()),
            Phase::Draining | Phase::Stopping => format!("draining, {} still running", self.running.len()),
        };
        if self.link.as_ref().is_none_or(|link| link.heartbeat.is_none()) {
            status += &format!("; no coordinator at {}, trying again", self.config.access.addr);
        }
        status
    }
}
