//! What the coordinator says, and what the worker makes of it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::{Drainer, Error, Link, Loop, PATIENCE, Phase};
use crate::attempt::{How, Key, Outcome, Task};
use crate::clock;
use crate::config::{self, OnLeaseLost};
use crate::outbox::{Event, Report, Seq};
use crate::registry::Kind;
use crate::runtime::Stop;
use crate::session::{Hello, Lost, News, Saying};

/// Self-fencing comes this much before the lease is over, or a quarter of a short lease.
const MARGIN: Duration = Duration::from_secs(1);
/// The number of the first message of a link.
const HELLO: Seq = Seq(1);

impl Loop {
    pub(super) fn hear(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Opening(outgoing) => {
                let mut link = Link::new(outgoing);
                link.sending();
                link.outgoing.busy = self.slots.busy();
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
        let dropped = |key: &Key| self.running.get(key).is_some_and(|running| running.dropped);
        let held = self.slots.held().filter(|key| !dropped(key)).chain(self.outbox.ended());
        // A value that waits may still have its slot, too.
        let held: BTreeSet<Key> = held.chain(self.values.keys()).collect();
        let functions: Vec<_> = self.registry.kinds().map(|(name, kind)| (name.to_owned(), kind)).collect();
        let has_async = functions.iter().any(|(_, kind)| *kind == Kind::Asynchronous);
        Hello {
            incarnation: self.incarnation,
            name: self.config.name.clone(),
            host: config::host(),
            slots: self.config.slots,
            named: self.config.resources.clone(),
            labels: self.config.labels.clone(),
            window: self.config.window(!functions.is_empty()),
            held: held.into_iter().collect(),
            draining: self.phase > Phase::Working,
            functions,
            async_slots: if has_async { self.config.async_slots } else { 0 },
            no_commands: self.config.no_commands,
            places: self.places.clone(),
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
        self.values_lost();
        Ok(())
    }

    fn welcome(&mut self, lease: Duration, heartbeat: Duration, abandon: &HashSet<Key>) {
        self.known = true;
        self.losses.forget();
        self.lease = lease;
        self.renew(HELLO);
        self.abandon(abandon);
        self.values_open();
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
            self.shared.spawner.lease(until);
            self.safe_until = Some(until);
            self.fence_at = Some(Instant::now() + until.saturating_sub(clock::since_boot()));
        }
    }

    fn assigned(&mut self, tasks: Vec<Task>) {
        let now = Instant::now();
        for task in tasks {
            if self.phase > Phase::Working {
                self.give_back_one(task.key, "the worker drains");
            } else if self.config.no_commands && task.call().is_none() {
                self.give_back_one(task.key, "this worker runs functions only");
            } else if !self.outbox.holds_end_of(task.key) && !self.values.contains(task.key) {
                let lane = self.runtimes.lane(&task);
                self.slots.add(task, lane, now.into_std());
                self.give_back_at.get_or_insert(now + PATIENCE);
            }
        }
    }

    fn cancel(&mut self, key: Key) {
        if let Some(running) = self.running.get(&key) {
            running.attempt.stop(Stop::Cancelled);
        } else if self.cancel_value(key) {
            info!(task = %key, "cancelled while its value waited to be stored");
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
            if let Some(running) = self.running.get_mut(key) {
                running.dropped = true;
                running.attempt.stop(Stop::Stale);
                info!(task = %key, "stopped: it was given to another worker");
            }
            self.slots.remove(*key);
        }
        self.abandon_values(keys);
        self.outbox.abandon(keys);
    }
}
