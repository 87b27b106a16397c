//! What the coordinator says, and what the worker makes of it.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::{Drainer, Error, Link, PATIENCE, Phase, Worker};
use crate::attempt::{How, Key, Outcome, Task};
use crate::clock;
use crate::config::{self, OnLeaseLost};
use crate::outbox::{Event, Report, Seq};
use crate::runner::Stop;
use crate::session::{Hello, Lost, News, Saying};

/// Self-fencing comes this much before the lease is over, or a quarter of a short lease.
const MARGIN: Duration = Duration::from_secs(1);
/// The number of the first message of a link.
const HELLO: Seq = Seq(1);

impl Worker {
    pub(super) fn hear(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Opening(outgoing) => {
                let mut link = Link::new(outgoing);
                link.sending();
                link.outgoing.hello(&self.hello());
                self.link = Some(link);
            }
            News::Lost(lost) => self.lost(lost)?,
            News::Said(saying) => match saying {
                Saying::Welcome { epoch, lease, heartbeat, abandon } => {
                    info!(epoch = epoch.0, "connected to the coordinator");
                    self.welcome(lease, heartbeat, &abandon);
                }
                Saying::Assign { tasks, unknown } => {
                    for key in unknown {
                        self.give_back_one(key, "its template was never sent");
                    }
                    self.assigned(tasks);
                }
                Saying::Committed(seq) => {
                    self.outbox.confirm(seq);
                    self.renew(seq);
                }
                Saying::Stop { keys, stale: true } => self.abandon(&keys.into_iter().collect()),
                Saying::Stop { keys, stale: false } => keys.into_iter().for_each(|key| self.cancel(key)),
                Saying::Drain => self.drain(Drainer::Operator),
            },
        }
        Ok(())
    }

    fn hello(&self) -> Hello {
        let dropped = |key: &Key| self.runners.get(key).is_some_and(|runner| runner.dropped);
        let held = self.slots.held().filter(|key| !dropped(key)).chain(self.outbox.ended());
        Hello {
            incarnation: self.incarnation,
            name: self.config.name.clone(),
            host: config::host(),
            slots: self.config.slots,
            named: self.config.resources.clone(),
            labels: self.config.labels.clone(),
            window: self.config.window(),
            held: held.collect(),
            draining: self.phase > Phase::Working,
        }
    }

    fn lost(&mut self, lost: Lost) -> Result<(), Error> {
        match (self.known, &lost) {
            (false, Lost::Unauthorised(why)) => return Err(Error::Unauthorised(why.clone())),
            (false, Lost::Refused(why)) => return Err(Error::Refused(why.clone())),
            (true, Lost::Unauthorised(_) | Lost::Refused(_))
            | (_, Lost::NameTaken(_) | Lost::Unavailable(_)) => {}
        }
        let addr = &self.config.access.addr;
        match (self.losses.is_first(&lost), &lost) {
            (false, _) => debug!(reason = %lost, "still no coordinator"),
            (true, Lost::NameTaken(_)) => {
                warn!(addr, reason = %lost, "the coordinator does not take this worker now; trying again");
            }
            (true, Lost::Unauthorised(_) | Lost::Refused(_) | Lost::Unavailable(_)) => {
                warn!(addr, reason = %lost, "no coordinator; trying again until it is there");
            }
        }
        self.link = None;
        self.outbox.rewind();
        Ok(())
    }

    fn welcome(&mut self, lease: Duration, heartbeat: Duration, abandon: &HashSet<Key>) {
        self.known = true;
        self.losses.forget();
        self.lease = lease;
        self.renew(HELLO);
        self.abandon(abandon);
        if let Some(link) = &mut self.link {
            let mut beat = interval(heartbeat.max(Duration::from_millis(10)));
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat.reset();
            link.heartbeat = Some(beat);
        }
    }

    /// The coordinator has heard us: the lease is as long as ever.
    fn renew(&mut self, seq: Seq) {
        let Some(sent) = self.link.as_mut().and_then(|link| link.answered(seq)) else { return };
        if self.config.on_lease_lost == OnLeaseLost::Kill {
            let until = sent + self.lease - MARGIN.min(self.lease / 4);
            self.context.spawner.lease(until);
            self.safe_until = Some(until);
            self.fence_at = Some(Instant::now() + until.saturating_sub(clock::since_boot()));
        }
    }

    fn assigned(&mut self, tasks: Vec<Task>) {
        let now = Instant::now();
        for task in tasks {
            if self.phase > Phase::Working {
                self.give_back_one(task.key, "the worker drains");
            } else if !self.outbox.holds_end_of(task.key) {
                self.slots.add(task, now.into_std());
                self.give_back_at.get_or_insert(now + PATIENCE);
            }
        }
    }

    fn cancel(&mut self, key: Key) {
        if let Some(runner) = self.runners.get(&key) {
            runner.stop.send_replace(Some(Stop::Cancelled));
        } else if self.slots.remove(key).is_some() {
            let now = clock::unix_ms();
            let outcome = Outcome {
                how: How::Cancelled,
                started_unix_ms: now,
                ended_unix_ms: now,
                ..Outcome::default()
            };
            self.outbox.push(Report { key, event: Event::Ended(Box::new(outcome)) });
        }
    }

    fn abandon(&mut self, keys: &HashSet<Key>) {
        for key in keys {
            if let Some(runner) = self.runners.get_mut(key) {
                runner.dropped = true;
                runner.stop.send_replace(Some(Stop::Stale));
                info!(task = %key, "killed: it was given to another worker");
            }
            self.slots.remove(*key);
        }
        self.outbox.abandon(keys);
    }
}
